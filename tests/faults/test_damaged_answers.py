"""Objects that a store gives only damaged, from planning on: their units are quarantined, all others are predicted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.reference.published_configs import FLOW, SEQUENCE
from pipeline.storage import retry
from tests.faults.conftest import Outcome
from tests.faults.damaging_proxy import DamagingProxy, cut, login_page, without_checksums
from tests.faults.test_changed_inputs import KINDS, place, text_file
from tests.runtime.test_every_task import photograph, png
from tests.sample_videos import make_video

Run = Callable[..., Outcome]


@pytest.fixture
def proxy(s3, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0.01)
    with DamagingProxy(s3.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield proxy


def upload(s3, files: dict[str, bytes]) -> str:
    bucket = s3.bucket("damaged")
    for key, data in files.items():
        s3.client.put_object(Bucket=bucket.removeprefix("s3://"), Key=key, Body=data)
    return bucket


def test_texts_that_come_by_half_are_quarantined_alone(
    run: Run, checkpoints, tmp_path: Path, s3, proxy: DamagingProxy
) -> None:
    keys = {kind: (place(kind, "damaged"), place(kind, "kept")) for kind in KINDS}
    files = {key: text_file(kind, ["one", "two"], tmp_path) for kind in KINDS for key in keys[kind]}
    bucket = upload(s3, files)
    endings = tuple(damaged for damaged, _ in keys.values())
    proxy.start(lambda answer: cut(without_checksums(answer)), left=10**6, ending=endings)
    found = run("text-classification", checkpoints(SEQUENCE), bucket, shard_size=3, trusted_inputs=True)
    for kind, (damaged, kept) in keys.items():
        assert len(found.predicted(kept)) == 2, kind
        assert found.predicted(damaged) == []
        assert found.reasons(damaged), kind
    assert {unit["error"] for unit in found.quarantined.values()} == {"Corrupt"}, found.quarantined


def test_videos_and_frames_in_place_of_which_a_page_comes_are_quarantined_alone(
    run: Run, checkpoints, tmp_path: Path, s3, proxy: DamagingProxy
) -> None:
    video = make_video(tmp_path / "a.mp4", 0.2, (24, 16)).read_bytes()
    frames = {f"frames/{number}.png": png(photograph(number, (16, 24))) for number in range(4)}
    bucket = upload(s3, frames | {f"{name}.mp4": video for name in ("damaged", "kept")})
    proxy.start(login_page, left=10**6, ending=("/damaged.mp4", "/frames/3.png"))
    found = run("optical-flow", checkpoints(FLOW), bucket, shard_size=3, trusted_inputs=True)
    assert len(found.predicted("kept.mp4")) == 4
    assert {key for key in found.rows if key.startswith("frames/")} == {"frames/0.png", "frames/1.png"}
    assert {unit["error"] for unit in found.quarantined.values()} == {"Corrupt"}, found.quarantined
    assert {key.partition("#")[0] for key in found.quarantined} == {"damaged.mp4", "frames/2.png"}
