"""Damaged and unusual videos: only what cannot be read is quarantined, with its reason; the rest is predicted."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from transformers import PerceiverForOpticalFlow

from pipeline.heads.clip_inputs import reduce_frame
from pipeline.reference.published_configs import FLOW, MULTIMODAL
from tests import reference_outputs
from tests.faults import damaged_videos
from tests.faults.conftest import Outcome
from tests.sources.test_video_faults import listener

__all__ = ["listener"]

Run = Callable[..., Outcome]

FPS = 5.0
CLIP = {"num_frames": 16, "audio_samples_per_frame": 1920, "samples_per_patch": 16, "output_shape": [1, 16, 16, 16]}


@pytest.fixture
def folder(tmp_path: Path, listener: tuple[str, list[str]]) -> Iterator[Path]:
    """A folder of every kind of video, and scripts that name a server, which must get no request."""
    address, requests = listener
    damaged_videos.make_videos(tmp_path / "in")
    damaged_videos.make_scripts(tmp_path / "in", address)
    yield tmp_path / "in"
    assert requests == []


def assert_costs(found: Outcome, folder: Path) -> None:
    """Assert one quarantined unit per bad file, rows and quarantined units of truncated ones, only rows of the rest."""
    scripts = {path.name for path in folder.glob("script-*")}
    assert len(scripts) == 2 * len(damaged_videos.SCRIPTS)
    whole = {"secret.ts", *damaged_videos.GOOD}
    assert whole | damaged_videos.BAD.keys() | damaged_videos.CUT.keys() | scripts == {
        path.name for path in folder.iterdir()
    }
    for key in whole:
        assert found.predicted(key), key
        assert found.reasons(key) == {}, key
    for key, expected_text in (damaged_videos.BAD | dict.fromkeys(scripts, "is not a supported video file")).items():
        assert found.predicted(key) == [], key
        (message,) = found.reasons(key).values()
        assert expected_text in message, key
    for key, expected_text in damaged_videos.CUT.items():
        rows, reasons = found.predicted(key), found.reasons(key)
        assert 1.5 < rows[-1]["start_seconds"] < 3, key
        assert reasons, key
        assert all(expected_text in reason for reason in reasons.values()), key
    assert {(unit["stage"], unit["error"]) for unit in found.quarantined.values()} == {("load", "BadMedium")}


def decoded(path: Path, turn: int) -> list[tuple[float, np.ndarray]]:
    """Return (seconds, upright frame) of a video, decoded by PyAV from the beginning."""
    with av.open(io.BytesIO(path.read_bytes())) as container:
        frames = list(container.decode(video=0))
    return [(float(f.time - frames[0].time), np.rot90(f.to_ndarray(format="rgb24"), turn // 90)) for f in frames]


def at(shown: list[tuple[float, np.ndarray]], time: float) -> np.ndarray:
    """Return the frame shown at a time in seconds."""
    return [frame for seconds, frame in shown if seconds <= time + 1e-6][-1]


@pytest.mark.slow
def test_unreadable_videos_are_quarantined_alone_for_optical_flow(run: Run, checkpoints, folder: Path) -> None:
    model = checkpoints(FLOW)
    found = run("optical-flow", model, folder, fps=FPS, array_dtype="float32", shard_size=16)
    assert_costs(found, folder)
    transformer = PerceiverForOpticalFlow.from_pretrained(model).eval()
    for key, turn in damaged_videos.GOOD.items():
        shown, rows = decoded(folder / key, turn), found.predicted(key)
        assert [row["start_seconds"] for row in rows] == [number / FPS for number in range(6)], key
        pairs = [np.stack([at(shown, number / FPS), at(shown, (number + 1) / FPS)]) for number in range(6)]
        assert {(row["height"], row["width"]) for row in rows} == {pairs[0].shape[1:3]}
        expected = np.stack([reference_outputs.flow_in_tiles(transformer, pair, (8, 12)) for pair in pairs[::3]])
        flow = np.stack([np.reshape(row["flow"], (row["height"], row["width"], 2)) for row in rows[::3]])
        np.testing.assert_allclose(flow, expected, atol=1e-4 * np.ptp(expected), err_msg=key)


@pytest.mark.slow
def test_unreadable_videos_are_quarantined_alone_for_clips(run: Run, checkpoints, folder: Path) -> None:
    model = checkpoints(MULTIMODAL, **CLIP)
    found = run("multimodal-autoencoding", model, folder, logits=True, shard_size=16, outputs="label,audio")
    assert_costs(found, folder)
    for key in damaged_videos.GOOD:
        assert [(row["has_audio"], row["clip_index"]) for row in found.predicted(key)] == [
            (key == "audio.mp4", 0),
            (key == "audio.mp4", 1),
        ]
    # Videos without audio are predicted with zeros in its place.
    shown = decoded(folder / "silent.mp4", 0)
    frames = np.stack([reduce_frame(frame, height=16, width=16) for _, frame in shown[:16]])
    samples = np.zeros(30_720, np.float32)
    expected = reference_outputs.clips_in_passes(model, frames[None], samples[None])
    silent, with_audio = found.predicted("silent.mp4")[0], found.predicted("audio.mp4")[0]
    np.testing.assert_allclose(silent["logits"], expected["label"][0], atol=1e-4 * np.ptp(expected["label"]))
    assert np.abs(np.subtract(with_audio["logits"], silent["logits"])).max() > 1e-2 * np.ptp(expected["label"])
