"""Results of a run, read from OUTPUT: rows, quarantined units, flow, video, audio and latents of a unit.

    results.py         Results, which open_run returns
    labelling_methods.py  its methods about labels, by `pipeline.labelling`
    stored_rows.py     committed parts as a stream of tables, by columns, ids and a condition
    condition.py       `where`: an SQL expression over the columns, evaluated by DuckDB
    find_units.py      where the row of a unit is, and why it may have none
    unit_arrays.py     arrays of one row: flow, video, audio, latents
    flow_colors.py     flow as Middlebury colors

Needs neither a cluster nor the checkpoint, and writes nothing.
"""

from pipeline.results.results import Results, open_run

__all__ = ["Results", "open_run"]
