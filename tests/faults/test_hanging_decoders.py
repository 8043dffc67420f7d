"""Decoders that hang, crash or exceed the memory limit: in whole runs each costs one unit."""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle

from pipeline.runtime.driver import checks
from tests import harmful_units
from tests.faults.conftest import Outcome
from tests.sample_videos import make_video

Run = Callable[..., Outcome]
LIMITS = {"unit_seconds": 2.0, "unit_memory": 1.0, "shard_size": 8}
REASONS = {
    "hang": ("TimedOut", "no result within 2 s"),
    "crash": ("Crashed", "the child process died of signal 11 (SIGSEGV)"),
    "hog": ("MemoryError", "reading needs more memory than the limit of 1 GiB (unit_memory)"),
}

# Workers cannot import that module, so it is pickled by value.
cloudpickle.register_pickle_by_value(sys.modules[harmful_units.__name__])


@pytest.fixture
def read_with(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """`read_with(source)`: runs of this process read their inputs by that source."""

    def use_source(source: Any) -> None:
        monkeypatch.setattr(checks, "source_for", lambda _name, options: source.configured(options))

    return use_source


def assert_only_these(found: Outcome, harm: dict[str, str]) -> None:
    """Assert that exactly the harmful units are quarantined, with the reason for what they do."""
    assert found.quarantined.keys() == harm.keys()
    for name, does in harm.items():
        unit = found.quarantined[name]
        assert (unit["error"], unit["message"]) == REASONS[does]
        assert (unit["stage"], unit["attempts"]) == ("load", 2)


@pytest.mark.slow
def test_images_that_harm_the_decoder_are_quarantined_alone(
    run: Run, read_with: Any, checkpoint: Path, write_images: Any, tmp_path: Path
) -> None:
    read_with(harmful_units.HARMFUL_IMAGES)
    write_images(tmp_path / "in", range(24))
    for number, does in enumerate(REASONS):
        (tmp_path / f"in/{7 * number:04d}-{does}.jpg").write_bytes((tmp_path / "in/0000.jpg").read_bytes())
    found = run("image-classification", checkpoint, tmp_path / "in", **LIMITS)
    assert_only_these(found, {f"{7 * number:04d}-{does}.jpg": does for number, does in enumerate(REASONS)})
    assert sorted(found.rows) == sorted(path.name for path in (tmp_path / "in").iterdir() if "-" not in path.name)


@pytest.mark.slow
def test_samples_that_harm_the_decoder_are_quarantined_alone(
    run: Run, read_with: Any, checkpoint: Path, write_images: Any, tmp_path: Path
) -> None:
    read_with(harmful_units.HARMFUL_TAR)
    write_images(tmp_path / "images", range(10))
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in/a.tar", "w") as archive:
        for path in sorted((tmp_path / "images").iterdir()):
            does = {"0003": "-crash", "0006": "-hog"}.get(path.stem, "")
            member = tarfile.TarInfo(f"{path.stem}{does}{path.suffix}")
            member.size = path.stat().st_size
            archive.addfile(member, io.BytesIO(path.read_bytes()))
    found = run("image-classification", checkpoint, tmp_path / "in", **LIMITS)
    assert_only_these(found, {"a.tar#0003-crash": "crash", "a.tar#0006-hog": "hog"})
    assert sorted(found.rows) == [f"a.tar#{number:04d}" for number in (0, 1, 2, 4, 5, 7, 8, 9)]


def test_videos_that_harm_the_decoder_are_quarantined_alone(
    run: Run, read_with: Any, checkpoints: Any, tmp_path: Path
) -> None:
    read_with(harmful_units.HARMFUL_VIDEO)
    (tmp_path / "in").mkdir()
    for name in ("a-good", "open-crash", "open-hang", "play-crash", "z-good"):
        make_video(tmp_path / f"in/{name}.mp4", seconds=0.24, size=(32, 24))
    found = run("optical-flow", checkpoints("PerceiverForOpticalFlow"), tmp_path / "in", **LIMITS)
    assert_only_these(found, {"open-crash.mp4": "crash", "open-hang.mp4": "hang", "play-crash.mp4#0+3": "crash"})
    assert [len(found.predicted(f"{name}.mp4")) for name in ("a-good", "play-crash", "z-good")] == [5, 3, 5]


def test_trusted_inputs_are_read_without_a_child_process(
    run: Run, checkpoint: Path, write_images: Any, tmp_path: Path
) -> None:
    write_images(tmp_path / "in", range(8), damaged=(5,))
    limits = {"unit_seconds": 1e-6, "unit_memory": 1e-6}  # with which nothing could be read in one
    found = run("image-classification", checkpoint, tmp_path / "in", trusted_inputs=True, **limits)
    assert (len(found.rows), list(found.quarantined)) == (7, ["0005.png"])
