"""Comparison of two runs over the same inputs: what changed from one checkpoint or version to another.

    compare.py         `compare`: checks, reads and compares two runs
    comparison.py      what it returns
    units.py           units of both runs, joined by id
    settings.py        how the runs differ in what they were made with
    label_changes.py   labels and scores; agreement.py has their statistics
    known_labels.py    accuracy of both, where labels are known
    pairs.py           rows of both runs side by side, for columns that are too large to hold
    flow_differences.py, clip_differences.py, mask_changes.py, embedding_differences.py
                       what is compared of these, unit by unit
    differences.py     the table of differences
    page.py            comparison.html, in the frame of the report; shown.py and examples.py collect what it shows
    destination.py     DEST: the files that a comparison writes

Needs neither a cluster, nor the checkpoints, nor an extra.
"""

from pipeline.comparison.compare import compare
from pipeline.comparison.comparison import Comparison

__all__ = ["Comparison", "compare"]
