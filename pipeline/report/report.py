"""report.html of a run: collect what it shows, render it, write it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pipeline.formatting import counted, duration
from pipeline.originals.originals import read_originals
from pipeline.originals.source import medium_of
from pipeline.report.facts import facts_of
from pipeline.report.marker import marker_of
from pipeline.report.page import render
from pipeline.report.plots import Plot, steps
from pipeline.report.sample import Sample, spread
from pipeline.report.sections.clips import clip_section
from pipeline.report.sections.embeddings import embedding_section
from pipeline.report.sections.flow import flow_section
from pipeline.report.sections.known_labels import KnownLabelSection, known_label_section
from pipeline.report.sections.labels import label_section
from pipeline.report.sections.masks import mask_section
from pipeline.report.sections.near_duplicates import near_duplicate_section
from pipeline.report.sections.quarantine import quarantine_section
from pipeline.report.speed import Speed, measure_speed
from pipeline.report.target import Target
from pipeline.results import Results, open_run
from pipeline.runtime.driver.status import Status
from pipeline.runtime.errors import reason
from pipeline.runtime.plan.quarantined_units import quarantined_units
from pipeline.runtime.records.committed import committed_receipts
from pipeline.runtime.records.manifest import read_manifest
from pipeline.runtime.records.receipts import Receipt
from pipeline.runtime.stages.known_labels import KNOWN_LABEL
from pipeline.sinks.ownership import check_owner
from pipeline.sinks.parts import Quarantined
from pipeline.sources.label_files import LabelFile
from pipeline.storage import Missing, redact

QUARANTINE_PARTS = 64
TIME_UNITS = (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))


def write_report(results: Results, target: Target | None = None, labels: LabelFile | None = None) -> str:
    """Make the report of a run and write it, by default to OUTPUT; return its URI.

    labels: Known labels, which count instead of those in the rows.

    Raises UsageError if there is a file that is not a report, and OutputLost if OUTPUT belongs to another run by now.
    """
    target = target or Target(results.store)
    target.check()
    page = make_report(results, labels)
    check_owner(results.store, results.run.run)
    target.write(page)
    return target.uri


def report_line(output: str) -> str:
    """Write the report of a run that ended, and return the line that names it.

    A report that fails is no failure of the run: the line then says why there is none.
    """
    try:
        return f"report: {write_report(open_run(output))}"
    except KeyboardInterrupt:
        cause = "interrupted"
    except Exception as error:  # noqa: BLE001 - whatever it is, the run is done
        cause = reason(error)
    return f"no report: {cause}; `perceiver report {redact(output)}` writes it"


def make_report(results: Results, labels: LabelFile | None = None) -> str:
    """Return the page about a run, finished or not, as HTML of at most a few MB. labels: see `write_report`."""
    known = results.status()
    receipts = committed_receipts(results.store, results.run.run)
    options = results.run.record.get("options", {})
    speed = measure_speed(receipts, options, results.run.fingerprint["dtype"])
    sample = Sample.of(results)
    sections = _sections(sample, {receipt.shard: receipt.rows for receipt in receipts}, labels)
    units = [unit for section in sections.values() if section is not None for unit in getattr(section, "units", ())]
    quarantined, note = _quarantined(results, receipts)
    return render(
        facts=facts_of(known, _finished_at(results)),
        medium=medium_of(results.run.fingerprint),
        no_predictions=_no_predictions(known),
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        marker=marker_of(known),
        speed=speed,
        speed_plot=_speed_plot(speed),
        quarantine=quarantine_section(quarantined, note),
        originals=read_originals(results.store, results.run, units),
        **sections,
    )


def _sections(sample: Sample, rows_by_shard: Mapping[int, int], labels: LabelFile | None) -> dict[str, Any]:
    """Return the sections for the columns that the run has; None in place of the others, and of those without rows."""
    rows = sum(rows_by_shard.values())
    return {
        "labels": label_section(sample.again()) if sample.has("label") else None,
        "known_labels": _known_labels(sample.again(), labels) if sample.has("label") else None,
        "masks": mask_section(sample.again()) if sample.has("masks") else None,
        "flow": flow_section(sample.again(), rows_by_shard) if sample.has("flow") else None,
        "clips": clip_section(sample.again()) if sample.has("clip_index") else None,
        "embeddings": embedding_section(sample.again()) if sample.has("embedding") else None,
        "near_duplicates": near_duplicate_section(sample.again(), rows) if sample.has("embedding") else None,
    }


def _known_labels(sample: Sample, labels: LabelFile | None) -> KnownLabelSection | None:
    return known_label_section(sample, labels) if labels is not None or sample.has(KNOWN_LABEL) else None


def _no_predictions(known: Status) -> str:
    """Return why the page shows no predictions."""
    if known.rows:
        return "The columns of this task have no section of their own; the rows are in predictions/."
    if known.quarantined:
        return "There is no row: all units so far are quarantined. The reasons are below."
    return "There is no row: INPUT has no units." if known.finished else "There is no row yet."


def _quarantined(results: Results, receipts: Sequence[Receipt]) -> tuple[list[Quarantined], str]:
    """Return quarantined units, and the sentence of the page about them."""
    shards = [receipt.shard for receipt in receipts if receipt.quarantined]
    read = spread(shards, QUARANTINE_PARTS)
    units = [Quarantined(**row) for row in quarantined_units(results.store, results.run, read).to_pylist()]
    which = "all" if len(read) == len(shards) else f"{len(read):,} of {len(shards):,}"
    return units, f"From {which} parts with quarantined units ({counted(len(units), 'unit')})."


def _speed_plot(speed: Speed | None) -> Plot | None:
    if speed is None or speed.graph is None:
        return None
    edges, rates = speed.graph
    unit, seconds = next((unit for unit in TIME_UNITS if edges[-1] >= 3 * unit[1]), TIME_UNITS[-1])
    words = f"From {rates.min():,.3g} to {rates.max():,.3g} units per second, over {duration(edges[-1])}."
    return steps(rates, edges / seconds, f"{unit} of work", f"Units per second over time. {words}")


def _finished_at(results: Results) -> str | None:
    """Return when the last driver finished the run, None if none did."""
    try:
        return str(read_manifest(results.store).get("finished"))
    except Missing:
        return None
