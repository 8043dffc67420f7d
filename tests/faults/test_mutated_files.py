"""Files with bytes overwritten at random: whatever decoders raise, the run ends and every unit is accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.reference.shapes import FLOW, SEQUENCE
from pipeline.sources import Source, SourceOptions, source_for
from pipeline.storage import AccessError, Entry, Store
from tests.faults.conftest import Outcome
from tests.films import make_video
from tests.runtime.test_every_head import parquet, photograph
from tests.sources.test_picture import encoded
from tests.sources.test_webdataset import tar

Run = Callable[..., Outcome]

SEEDS = range(60)
HEADER = 1500  # bytes: what breaks there breaks most


def mutated(data: bytes, seed: int, begin: int = 0) -> bytes:
    """One byte or some of them overwritten from `begin` on; for half of the seeds near there, else anywhere."""
    random, changed = np.random.default_rng(seed), bytearray(data)
    end = len(data) if seed % 2 else min(len(data), begin + HEADER)
    for at in random.integers(begin, end, random.integers(1, 60)):
        changed[at] = random.integers(256)
    return bytes(changed)


def put_mutated(folder: Path, files: dict[str, bytes], begins: dict[str, int] | None = None) -> list[str]:
    """The keys of sixty mutated files of each kind, which lie in the folder beside a whole one, `0.<kind>`."""
    folder.mkdir()
    for kind, data in files.items():
        (folder / f"0.{kind}").write_bytes(data)
        for seed in SEEDS:
            (folder / f"{seed + 1}.{kind}").write_bytes(mutated(data, seed, (begins or {}).get(kind, 0)))
    return sorted(path.name for path in folder.iterdir())


def test_mutated_pictures(run: Run, checkpoint: Path, tmp_path: Path) -> None:
    photo = Image.fromarray(photograph(3))
    keys = put_mutated(tmp_path / "in", {"png": encoded(photo, "PNG"), "jpg": encoded(photo, "JPEG")})
    found = run("image-classification", checkpoint, tmp_path / "in")
    assert sorted([*found.rows, *found.quarantined]) == keys
    assert {"0.png", "0.jpg"} <= found.rows.keys()
    assert len(found.quarantined) > 60
    assert {unit["stage"] for unit in found.quarantined.values()} == {"load"}


def test_mutated_films(run: Run, checkpoints, tmp_path: Path) -> None:
    kinds = ("mp4", "mkv", "webm")
    films = {kind: make_video(tmp_path / f"film.{kind}", 0.6, (24, 16)).read_bytes() for kind in kinds}
    keys = put_mutated(tmp_path / "in", films)
    found = run("optical-flow", checkpoints(FLOW), tmp_path / "in", fps=5.0)
    units = Counter(name.partition("#")[0] for name in [*found.rows, *found.quarantined])
    assert sorted(units) == keys
    assert [len(found.predicted(f"0.{kind}")) for kind in kinds] == [2, 2, 2]
    assert len(found.quarantined) > 60
    assert {unit["stage"] for unit in found.quarantined.values()} == {"load"}


def ends_the_plan(source: Source, store: Store, entry: Entry) -> str | None:
    """What ends a run where the file says that its columns are others, or that samples are there twice."""
    try:
        list(source.pieces(store, entry))
    except AccessError as error:
        return str(error)
    return None


def test_mutated_tables_and_archives(run: Run, checkpoints, tmp_path: Path) -> None:
    texts = [f'text {number} "quoted", and more' for number in range(30)]
    quoted = "".join('{},"{}"\n'.format(number, text.replace('"', '""')) for number, text in enumerate(texts))
    tables = {
        "csv": ("n,text\n" + quoted).encode(),
        "parquet": parquet({"n": list(range(30)), "text": texts}),
        "tar": tar([(f"{number}.txt", text.encode()) for number, text in enumerate(texts)]),
    }
    folder = tmp_path / "in"
    keys = put_mutated(folder, tables, {"csv": len("n,text\n"), "parquet": 4})
    source, store = source_for("auto", SourceOptions()), Store(str(folder))
    refused = {entry.key: words for entry in store.entries() if (words := ends_the_plan(source, store, entry))}
    assert len(refused) < 30
    for key, words in refused.items():
        assert words.startswith(store.uri_of(key))
        (folder / key).unlink()
    found = run("text-classification", checkpoints(SEQUENCE), folder)
    units = Counter(name.partition("#")[0] for name in [*found.rows, *found.quarantined])
    assert set(units) == set(keys) - refused.keys()
    assert [len(found.predicted(f"0.{kind}")) for kind in tables] == [30, 30, 30]
    for key in units:
        if key.endswith("parquet"):
            assert units[key] in (1, 30), "a file whose footer cannot be read is one unit"
    assert len(found.quarantined) > 60
    assert {unit["stage"] for unit in found.quarantined.values()} == {"load"}
