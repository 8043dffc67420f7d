"""Entries of tar archives that are not regular members: links lead to members, everything else is left out."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.runtime.plan import plan_files
from pipeline.runtime.plan.planner import freeze_plan
from pipeline.runtime.plan.shard_sizes import ShardSizing
from pipeline.sources import Source, Unit, discover, source_for
from pipeline.sources import webdataset_source as webdataset_module
from pipeline.storage import Store
from tests.sources.test_webdataset_source import tar

UnitsOf = Callable[..., list[Unit]]
Members = list[tuple[str, bytes | tuple[bytes, str]]]
"""Names, each with its content, or with a type and what it links to."""

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
SYM, HARD = tarfile.SYMTYPE, tarfile.LNKTYPE
LONG = "long" * 24
NEW_FIELDS = ("video_begin", "video_end", "left_out", "links")


def archive_of(members: Members, form: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            data = content if isinstance(content, bytes) else b""
            member.size = len(data)
            if isinstance(content, tuple):
                member.type, member.linkname = content
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def planned(folder: Path, limit: int | None = None, source: Source | None = None) -> dict[str, str]:
    """Plan a folder as a run does, in an OUTPUT next to it. Return the reason of each entry that is left out."""
    source = source or source_for("webdataset")
    output, sizing = Store(str(folder.parent / "out")), ShardSizing(unit_bytes=1, limit=limit)
    found = freeze_plan(output, source, lambda: discover(str(folder), source), sizing).listing
    assert found is not None
    left_out = list(found.left_out.entries())
    assert len(dict(left_out)) == len(left_out), "each entry is counted once"
    return dict(left_out)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


LINKS: Members = [
    ("./b/0.txt", (SYM, "../a/0.txt")),  # to a later member
    ("./a/0.txt", b"zero"),
    ("./a/0.cls", b"0"),
    ("./a/1.txt", (HARD, "a/0.txt")),
    ("./a/1.cls", (SYM, "./0.cls")),
    ("./c", (SYM, "a")),
    ("./d/2.txt", (SYM, "../c/1.txt")),  # over a link to a folder, to a link
    (f"./{LONG}/3.txt", b"three"),  # with an extra header, or its folder in a field of its own
    (f"./{LONG}/4.txt", (SYM, "3.txt")),
]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize("cut", [1, 1 << 22])
def test_links_to_members_have_their_content(
    folder: Path,
    units_of: UnitsOf,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    compress: Callable[[bytes], bytes],
    cut: int,
) -> None:
    monkeypatch.setattr(webdataset_module, "ARCHIVE_PIECE_BYTES", cut)
    (folder / "s.tar").write_bytes(compress(archive_of(LINKS, FORMATS[form])))
    units = units_of(Store(str(folder)), "webdataset", keep=("cls",))
    names = ["b/0", "a/0", "a/1", "d/2", f"{LONG}/3", f"{LONG}/4"]
    assert [unit.id for unit in units] == [f"s.tar#./{name}" for name in names]
    assert [unit.medium for unit in units] == [b"zero", b"zero", b"zero", b"zero", b"three", b"three"]
    assert [unit.kept["cls"] for unit in units] == [None, "0", "0", None, None, None]
    assert planned(folder) == {"s.tar#./c": "link to a folder that is listed already"}


def test_second_name_of_a_file_that_tar_writes_as_a_link_is_read(folder: Path, units_of: UnitsOf) -> None:
    names = folder.parent / "names"
    names.mkdir()
    (names / "0.txt").write_bytes(b"zero")
    (names / "1.txt").hardlink_to(names / "0.txt")
    (names / "2.txt").symlink_to("1.txt")
    subprocess.run(["tar", "-cf", folder / "s.tar", "-C", names, "0.txt", "1.txt", "2.txt"], check=True)
    units = units_of(Store(str(folder)), "webdataset")
    assert [(unit.id, unit.medium) for unit in units] == [(f"s.tar#{number}", b"zero") for number in range(3)]


OTHERS: Members = [
    ("folder", (tarfile.DIRTYPE, "")),
    ("0.txt", b"zero"),
    (".hidden.txt", b"hidden"),
    ("folder/._0.txt", b"of macOS"),
    ("README", b"no extension"),
    ("dot.", b"no extension"),
    ("to-README", (SYM, "README")),
    ("pipe.txt", (tarfile.FIFOTYPE, "")),
    ("device.txt", (tarfile.CHRTYPE, "")),
    ("unknown.txt", (b"M", "")),
    ("away.txt", (SYM, "/etc/hostname")),
    ("up.txt", (SYM, "../secret.txt")),
    ("gone.txt", (HARD, "gone/0.txt")),
    ("loop.txt", (SYM, "pool.txt")),
    ("pool.txt", (SYM, "loop.txt")),
    ("self.txt", (HARD, "self.txt")),
    ("to-folder.txt", (SYM, "folder")),
    ("to-pipe.txt", (HARD, "pipe.txt")),
    ("1.txt", b"one"),
]
REASONS = {
    ".hidden.txt": "hidden",
    "folder/._0.txt": "hidden",
    "README": "unknown kind",
    "dot.": "unknown kind",
    "to-README": "unknown kind",
    "pipe.txt": "not a regular file",
    "device.txt": "not a regular file",
    "unknown.txt": "not a regular file",
    "away.txt": "dangling link",
    "up.txt": "dangling link",
    "gone.txt": "dangling link",
    "loop.txt": "link loop",
    "pool.txt": "link loop",
    "self.txt": "link loop",
    "to-folder.txt": "link to a folder that is listed already",
    "to-pipe.txt": "not a regular file",
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("cut", [1, 1 << 22])
def test_other_members_are_left_out_with_their_reason_however_often_a_folder_is_planned(
    folder: Path, units_of: UnitsOf, monkeypatch: pytest.MonkeyPatch, form: str, cut: int
) -> None:
    monkeypatch.setattr(webdataset_module, "ARCHIVE_PIECE_BYTES", cut)
    (folder.parent / "secret.txt").write_text("secret")
    (folder / "s.tar").write_bytes(archive_of(OTHERS, FORMATS[form]))
    wanted = {f"s.tar#{name}": reason for name, reason in REASONS.items()}
    assert planned(folder) == wanted
    assert planned(folder) == wanted, "the plan has them"
    (folder / "t.tar").write_bytes(archive_of([("2.txt", b"two"), (".t", b"")]))
    assert planned(folder) == wanted | {"t.tar#.t": "hidden"}
    units = units_of(Store(str(folder)), "webdataset")
    assert [unit.medium for unit in units] == [b"zero", b"one", b"two"]


def test_compressed_archive_of_many_pieces_keeps_links_and_what_is_left_out(
    folder: Path, units_of: UnitsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webdataset_module, "ARCHIVE_PIECE_BYTES", 1)
    members: Members = [("0.txt", b"zero")]
    for number in range(1, 200):
        members += [(f"{number}.txt", (SYM, "0.txt")), (f"._{number}.txt", b"")]
    (folder / "s.tgz").write_bytes(gzip.compress(archive_of(members)))
    assert {unit.medium for unit in units_of(Store(str(folder)), "webdataset")} == {b"zero"}
    assert planned(folder) == {f"s.tgz#._{number}.txt": "hidden" for number in range(1, 200)}


def test_archive_without_samples_is_left_out_with_its_members(folder: Path) -> None:
    (folder / "s.tar").write_bytes(archive_of([("a", (SYM, "b")), (".hidden.txt", b""), ("gone.txt", (SYM, "no.txt"))]))
    wanted = {
        "s.tar": "no units in the file",
        "s.tar#a": "dangling link",
        "s.tar#.hidden.txt": "hidden",
        "s.tar#gone.txt": "dangling link",
    }
    assert planned(folder) == wanted
    assert planned(folder) == wanted


def test_limit_that_cuts_an_archive_counts_each_member_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webdataset_module, "ARCHIVE_PIECE_BYTES", 1)
    members: Members = [(name.format(number), b"x") for number in range(6) for name in ("._{}.txt", "{}.txt")]
    (folder / "s.tar").write_bytes(archive_of(members))
    first = planned(folder, limit=2)
    assert set(first) < {f"s.tar#._{number}.txt" for number in range(6)}
    assert planned(folder, limit=2) == first
    for _ in range(2):
        assert planned(folder) == {f"s.tar#._{number}.txt": "hidden" for number in range(6)}


def test_link_to_a_member_that_is_too_large_is_quarantined(
    folder: Path, units_of: UnitsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webdataset_module, "MAX_FILE_BYTES", 100)
    (folder / "s.tar").write_bytes(archive_of([("0.txt", b"x" * 101), ("1.txt", (SYM, "0.txt")), ("2.txt", b"two")]))
    large, link, small = units_of(Store(str(folder)), "webdataset")
    assert str(large.error) == str(link.error) == "txt has 101 bytes, at most 100 are read"
    assert small.medium == b"two"


def test_link_of_an_archive_that_an_earlier_version_planned_is_read(folder: Path) -> None:
    (folder / "s.tar").write_bytes(archive_of([("0.txt", b"zero"), ("1.txt", (HARD, "0.txt"))]))
    source = source_for("webdataset")
    found = discover(str(folder), source)
    (piece,) = source.pieces(found.store, next(found.entries))
    assert piece.links == [(1024, 0)]
    old: Any = {"key": piece.key, "version": piece.version, "size": piece.size, "begin": piece.begin, "end": piece.end}
    units = list(source.units(found.store, type(piece)(**old)))
    assert [unit.decode() for unit in units] == [b"zero", b"zero"]


def test_archives_without_links_are_opened_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, original = [], Store.open
    monkeypatch.setattr(Store, "open", lambda *given, **options: opened.append(given) or original(*given, **options))
    (folder / "s.tar").write_bytes(tar([("0.txt", b"zero"), ("1.txt", b"one")]))
    source = source_for("webdataset")
    found = discover(str(folder), source)
    (piece,) = source.pieces(found.store, next(found.entries))
    assert len(list(source.units(found.store, piece))) == 2
    assert len(opened) == 2, "to be planned and to be read"


def test_plan_of_an_earlier_version_is_continued(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "s.tar").write_bytes(archive_of([("0.txt", b"zero"), ("._0.txt", b"")]))
    with monkeypatch.context() as earlier:
        fields = [field for field in plan_files.PIECE if field.name not in ("kept", *NEW_FIELDS)]
        earlier.setattr(plan_files, "PIECE", pa.struct(fields))
        at = plan_files.SCHEMA.get_field_index("pieces")
        pieces = pa.field("pieces", pa.large_list(pa.struct(fields)))
        earlier.setattr(plan_files, "SCHEMA", plan_files.SCHEMA.set(at, pieces))
        planned(folder)
    (folder / "t.tar").write_bytes(archive_of([("1.txt", b"one"), ("._1.txt", b"")]))
    for _ in range(2):
        assert planned(folder) == {"t.tar#._1.txt": "hidden"}, "what was left out of s.tar is not known"
