"""Randomly damaged files, by seed: the run ends, and every unit is predicted or quarantined with a readable reason.

Every test run uses 36 files of each medium; `pytest -m slow tests/faults/test_mutated_files.py` uses 1,000.
"""

from __future__ import annotations

import gzip
import io
import itertools
import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import av
import datasets
import pytest
from PIL import Image

from pipeline.reference.published_configs import FLOW, MULTIMODAL, SEQUENCE
from pipeline.runtime.plan.isolated_source import isolated
from pipeline.runtime.stages.load import DEFAULT_UNIT_LIMITS
from pipeline.sources import Source, SourceOptions, source_for
from pipeline.storage import AccessError, Entry, Store
from tests.faults.conftest import Outcome
from tests.faults.mutations import mutated
from tests.runtime.test_every_task import parquet, photograph
from tests.sample_videos import make_video
from tests.sources.image_files import encoded
from tests.sources.test_webdataset_source import tar

Run = Callable[..., Outcome]
Mutate = Callable[[str, bytes, int], bytes]
"""(kind, intact file, seed) -> damaged file."""

some_or_many = pytest.mark.parametrize("count", [36, pytest.param(1000, marks=pytest.mark.slow)])
ERRORS = {"BadMedium", "Crashed", "MemoryError", "TimedOut", "TooMuch"}
CLIP = {"num_frames": 16, "audio_samples_per_frame": 1920, "samples_per_patch": 16, "output_shape": [1, 16, 16, 16]}


def put_mutated(folder: Path, files: Mapping[str, bytes], count: int, mutate: Mutate) -> list[str]:
    """Write `count` mutated files of all kinds, and one intact file of each kind, and return their keys."""
    folder.mkdir()
    for kind, data in files.items():
        (folder / f"data-whole.{kind}").write_bytes(data)
    for number, kind in zip(range(count), itertools.cycle(files), strict=False):
        (folder / f"data-{number}.{kind}").write_bytes(mutate(kind, files[kind], number // len(files)))
    return sorted(path.name for path in folder.iterdir())


def mutate_from(files: Mapping[str, bytes], begins: Mapping[str, int] | None = None) -> Mutate:
    """Return a mutation of files from byte `begins[kind]` on, by default from the start.

    Spliced bytes come from the file of another kind.
    """
    others = dict(zip(files, [*list(files)[1:], next(iter(files))], strict=True))

    def mutate(kind: str, data: bytes, seed: int) -> bytes:
        return mutated(data, seed, (begins or {}).get(kind, 0), files[others[kind]])

    return mutate


def assert_accounted_for(found: Outcome, keys: list[str]) -> None:
    """Assert that every file has units, intact ones are predicted, and many damaged ones are quarantined."""
    units = Counter(name.partition("#")[0] for name in [*found.rows, *found.quarantined])
    assert sorted(units) == keys
    for key in keys:
        if "-whole." in key:
            assert found.predicted(key)
            assert not found.reasons(key)
    assert {unit["stage"] for unit in found.quarantined.values()} == {"load"}
    assert {unit["error"] for unit in found.quarantined.values()} <= ERRORS
    damaged = {name.partition("#")[0] for name in found.quarantined}
    assert len(damaged) > len(keys) / 5
    died = sum(unit["error"] in ("Crashed", "TimedOut") for unit in found.quarantined.values())
    distinct = {unit["message"] for unit in found.quarantined.values()}
    print(
        f"{len(keys)} files: {found.summary.units} units, {len(found.rows)} rows, {len(found.quarantined)} quarantined "
        f"from {len(damaged)} files, {died} of them for what they did to their process, {len(distinct)} messages"
    )


@some_or_many
def test_mutated_images(run: Run, checkpoint: Path, tmp_path: Path, count: int) -> None:
    photo = Image.fromarray(photograph(3))
    kinds = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "avif": "AVIF", "jp2": "JPEG2000"}
    files = {extension: encoded(photo, form) for extension, form in kinds.items()}
    files["tif"] = encoded(photo, "TIFF", compression="tiff_lzw")
    keys = put_mutated(tmp_path / "in", files, count, mutate_from(files))
    found = run("image-classification", checkpoint, tmp_path / "in")
    assert_accounted_for(found, keys)
    assert found.summary.units == len(keys)


@some_or_many
def test_mutated_videos(run: Run, checkpoints, tmp_path: Path, count: int) -> None:
    kinds = ("mp4", "mkv", "webm", "avi", "ts")
    videos = {kind: make_video(tmp_path / f"video.{kind}", 0.6, (24, 16)).read_bytes() for kind in kinds}
    keys = put_mutated(tmp_path / "in", videos, count, mutate_from(videos))
    found = run("optical-flow", checkpoints(FLOW), tmp_path / "in", fps=5.0)
    assert_accounted_for(found, keys)
    assert [len(found.predicted(f"data-whole.{kind}")) for kind in kinds] == [2] * len(kinds)


AUDIO = {"mp4": "aac", "mkv": "flac", "webm": "libopus", "avi": "pcm_s16le"}


def with_mutated_audio(data: bytes, seed: int) -> bytes:
    """Mutate the concatenated packets of the audio track, and put each back in its place in the video."""
    with av.open(io.BytesIO(data)) as container:
        packets = [(packet.pos, bytes(packet)) for packet in container.demux(audio=0) if packet.size]
    audio = b"".join(content for _, content in packets)
    changed = mutated(audio, seed, other=data).ljust(len(audio), b"\0")
    whole, at = bytearray(data), 0
    for place, content in packets:
        place = data.index(content, place)  # after the header of the packet
        whole[place : place + len(content)] = changed[at : at + len(content)]
        at += len(content)
    return bytes(whole)


@some_or_many
def test_mutated_audio_tracks(run: Run, checkpoints, tmp_path: Path, count: int) -> None:
    videos = {
        kind: make_video(tmp_path / f"video.{kind}", 0.6, (24, 16), audio_rate=48_000, audio_codec=codec).read_bytes()
        for kind, codec in AUDIO.items()
    }
    anywhere = mutate_from(videos)

    def mutate(kind: str, data: bytes, seed: int) -> bytes:
        return anywhere(kind, data, seed) if seed % 5 == 0 else with_mutated_audio(data, seed)

    keys = put_mutated(tmp_path / "in", videos, count, mutate)
    found = run("multimodal-autoencoding", checkpoints(MULTIMODAL, **CLIP), tmp_path / "in", outputs="label")
    assert_accounted_for(found, keys)
    assert any("the audio is damaged" in unit["message"] for unit in found.quarantined.values())


TEXTS = [f'text {number} "quoted", größer, and more' for number in range(30)]


def texts(folder: Path) -> dict[str, bytes]:
    """Return files of the same thirty texts, by extension."""
    rows = "".join('{},"{}"\n'.format(number, text.replace('"', '""')) for number, text in enumerate(TEXTS))
    records = "".join(json.dumps({"n": number, "text": text}) + "\n" for number, text in enumerate(TEXTS)).encode()
    columns = {"n": list(range(30)), "text": TEXTS}
    datasets.Dataset.from_dict(columns).save_to_disk(folder / "saved")
    return {
        "txt": "\n".join(TEXTS).encode(),
        "jsonl": records,
        "csv": ("n,text\n" + rows).encode(),
        "tar": tar([(f"{number}.txt", text.encode()) for number, text in enumerate(TEXTS)]),
        "jsonl.gz": gzip.compress(records, mtime=0),
        "parquet": parquet(columns),
        "arrow": next((folder / "saved").glob("data-*.arrow")).read_bytes(),
    }


def ends_the_plan(source: Source, store: Store, entry: Entry) -> str | None:
    """Return the error that ends planning if columns differ or samples are duplicated, else None."""
    try:
        list(source.pieces(store, entry))
    except AccessError as error:
        return str(error)
    return None


@some_or_many
def test_mutated_texts(run: Run, checkpoints, tmp_path: Path, count: int) -> None:
    files, folder = texts(tmp_path), tmp_path / "in"
    keys = put_mutated(folder, files, count, mutate_from(files, {"csv": len("n,text\n"), "parquet": 4}))
    store = Store(str(folder))
    with isolated(
        source_for("auto", SourceOptions()), DEFAULT_UNIT_LIMITS
    ) as source:  # some footers crash their process
        refused = {entry.key: message for entry in store.entries() if (message := ends_the_plan(source, store, entry))}
    assert len(refused) < count / 20
    for key, message in refused.items():
        assert message.startswith(store.uri_of(key))
        (folder / key).unlink()
    found = run("text-classification", checkpoints(SEQUENCE), folder)
    assert_accounted_for(found, [key for key in keys if key not in refused])
    assert [len(found.predicted(f"data-whole.{kind}")) for kind in files] == [30] * len(files)
    for key, units in Counter(name.partition("#")[0] for name in [*found.rows, *found.quarantined]).items():
        if key.endswith(".parquet"):
            assert units in (1, 30), "a file whose footer cannot be read is one unit"
