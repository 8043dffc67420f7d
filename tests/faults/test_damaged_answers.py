"""Objects that a store gives only damaged, from planning on: their units are quarantined, all others are predicted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.reference.published_configs import FLOW, SEQUENCE
from pipeline.sources import SourceOptions, discover, source_for
from pipeline.sources.source import Piece
from pipeline.sources.text.text_file import text_form
from pipeline.storage import Corrupt, retry
from tests.faults.conftest import Outcome
from tests.faults.damaging_proxy import Damage, DamagingProxy, cut, login_page, without_checksums
from tests.faults.faulty_proxy import Answer
from tests.faults.test_changed_inputs import KINDS, place, text_file
from tests.runtime.test_every_task import photograph, png
from tests.sample_videos import make_video
from tests.storage.test_answers import upload_in_parts

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


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_file_is_not_planned_as_the_whole_one(tmp_path: Path, s3, proxy: DamagingProxy, kind: str) -> None:
    """A proxy stored half of it, and says so in all of its answers, with the right ETag."""
    texts = [f"text number {number}" for number in range(1000)]
    key = place(kind, "half")
    bucket = s3.bucket("damaged")
    upload_in_parts(s3, bucket.removeprefix("s3://"), key, text_file(kind, texts, tmp_path))
    source = source_for("auto", SourceOptions(medium="text"))
    listing = discover(bucket, source)
    [entry] = listing.entries
    whole = list(source.pieces(listing.store, entry))
    text_form.cache_clear()
    proxy.start(half_of(entry.size), left=10**6, ending=f"/{key}", method="any")
    assert list(source.pieces(listing.store, entry)) in ([Piece.of(entry, units=1)], whole)
    assert proxy.seen, "nothing was read"
    for unit in source.units(listing.store, Piece.of(entry, units=1)):
        with pytest.raises(Corrupt):
            unit.decode()


def half_of(size: int) -> Damage:
    """Damage the answers about an object of this size as if it had half of its bytes."""

    def damage(answer: Answer) -> Answer:
        headers = {name.lower(): value for name, value in without_checksums(answer).headers.items()}
        if (given := headers.get("content-range")) is None:
            return replace(answer, headers=headers | {"content-length": str(size // 2)}, body=answer.body[: size // 2])
        begin = int(given.split()[1].split("-")[0])
        body = answer.body[: max(0, size // 2 - begin)]
        found = f"bytes {begin}-{begin + len(body) - 1}/{size // 2}"
        return replace(answer, headers=headers | {"content-range": found, "content-length": str(len(body))}, body=body)

    return damage
