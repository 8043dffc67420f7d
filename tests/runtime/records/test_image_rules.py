"""An OUTPUT keeps its rules about images, also those of earlier versions."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.heads import HeadOptions, head_for
from pipeline.runtime.errors import UsageError
from pipeline.runtime.options import RunOptions
from pipeline.runtime.plan.plan_files import delete_segments
from pipeline.runtime.records.claim import claiming
from pipeline.runtime.records.image_rules import ImageRules, image_rules
from pipeline.runtime.records.run_file import Run, find_run, new_run
from pipeline.sinks.parts import part_key
from pipeline.storage import Store

TASK = "image-classification"


def options(folder: Path, **changes: object) -> RunOptions:
    return RunOptions(**{"task": TASK, "input": "in", "output": str(folder), "checkpoint": "c"} | changes)


def run_of(checkpoint: Path, folder: Path, **changes: object) -> Run:
    """Return the run that a command wants, with the rules that its OUTPUT has."""
    wanted, head = options(folder, **changes), head_for(TASK, checkpoint, HeadOptions())
    rules = image_rules(wanted, "image", find_run(Store(str(folder))))
    return new_run(wanted, input_uri="in", head=head, digest="d", dtype="float32", source_options=rules.fingerprint)


def claim_output(output: Store, wanted: Run) -> None:
    """Claim OUTPUT as a command that ends after its first part."""
    with claiming(output, wanted, delete_segments) as claim:
        claim.check()
        output.put(part_key(claim.take().run, 0), b"a part")


@pytest.fixture
def earlier(checkpoint: Path, tmp_path: Path) -> Path:
    """Return an OUTPUT that a version without the option began."""
    run = run_of(checkpoint, tmp_path)
    fingerprint = {name: value for name, value in run.fingerprint.items() if name not in ("transparency", "frames")}
    claim_output(Store(str(tmp_path)), replace(run, fingerprint=fingerprint))
    return tmp_path


def test_a_new_output_drops_transparency_and_counts_frames(tmp_path: Path) -> None:
    rules = image_rules(options(tmp_path), "image", find_run(Store(str(tmp_path))))
    assert rules == ImageRules(transparency="drop", counts_frames=True)
    assert rules.columns.names == ["frames"]
    pairs = image_rules(options(tmp_path, transparency="white"), "frame_pair", find_run(Store(str(tmp_path))))
    assert pairs == ImageRules(transparency="white")


def test_a_kept_column_named_frames_is_the_user_s(tmp_path: Path) -> None:
    rules = image_rules(options(tmp_path, keep_columns="label,frames"), "image", find_run(Store(str(tmp_path))))
    assert rules == ImageRules(transparency="drop")


@pytest.mark.parametrize("medium", ["text", "clip", "array"])
def test_runs_without_images_have_no_rules(tmp_path: Path, medium: str) -> None:
    assert image_rules(options(tmp_path), medium, find_run(Store(str(tmp_path)))).fingerprint == {}


@pytest.mark.parametrize("transparency", ["auto", "white"])
def test_an_output_of_an_earlier_version_is_continued_on_white_without_the_column(
    earlier: Path, checkpoint: Path, transparency: str
) -> None:
    rules = image_rules(options(earlier, transparency=transparency), "image", find_run(Store(str(earlier))))
    assert rules == ImageRules(transparency="white", from_earlier=True)
    assert not len(rules.columns)
    claim_output(Store(str(earlier)), run_of(checkpoint, earlier, transparency=transparency))


def test_an_output_of_an_earlier_version_is_not_mixed_with_dropped_transparency(
    earlier: Path, checkpoint: Path
) -> None:
    with pytest.raises(UsageError, match='transparency was "white", this run has "drop"'):
        claim_output(Store(str(earlier)), run_of(checkpoint, earlier, transparency="drop"))


def test_an_output_is_continued_with_its_own_rule(checkpoint: Path, tmp_path: Path) -> None:
    claim_output(Store(str(tmp_path)), run_of(checkpoint, tmp_path, transparency="white"))
    assert run_of(checkpoint, tmp_path).fingerprint["transparency"] == "white"
    with pytest.raises(UsageError, match='transparency was "white", this run has "drop"'):
        claim_output(Store(str(tmp_path)), run_of(checkpoint, tmp_path, transparency="drop"))
