"""Random folders for property-based tests: files of every format, links, pipes and archives, under odd names."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
from hypothesis import strategies as st
from PIL import Image

from pipeline.storage import Reason
from tests.sample_videos import make_video, numbered
from tests.sources.test_webdataset_source import tar

SIZE = (8, 6)  # of every image, so that any two frames make a pair


class Content(NamedTuple):
    """A readable file.

    Attributes:
        data: its bytes.
        units: number of units in it if INPUT names it, by medium; a medium that it does not hold is missing.
        extensions: by which a folder gives it.
        by_signature: whether its first bytes tell what it is; if not, an extension of another format misleads.
    """

    data: bytes
    units: Mapping[str, int]
    extensions: tuple[str, ...]
    by_signature: bool = True

    @property
    def is_table(self) -> bool:
        """Whether it is a table or an archive, which is recognised under the name of any other or of a text."""
        return not {".parquet", ".feather", ".tar"}.isdisjoint(self.extensions)


def _image(kind: str, frames: int = 1) -> bytes:
    file = io.BytesIO()
    first, *others = [Image.fromarray(numbered(number, SIZE)) for number in range(frames)]
    first.save(file, kind, **({"save_all": True, "append_images": others} if others else {}))
    return file.getvalue()


def _parquet(**columns: list[object]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def _feather(**columns: list[object]) -> bytes:
    file = io.BytesIO()
    feather.write_feather(pa.table(columns), file)
    return file.getvalue()


def _video() -> bytes:
    with TemporaryDirectory() as folder:
        return make_video(Path(folder, "video.mp4"), times=[0.0, 0.1, 0.2], size=(16, 16)).read_bytes()


@cache
def contents() -> dict[str, Content]:
    """Return readable files by the name of their format."""
    lines, records = b"one\ntwo\n", b'{"text": "one"}\n{"text": "two"}\n'
    tables = (".parquet", ".pq", ".parq")
    images = {
        kind: Content(_image(kind), {"image": 1}, extensions)
        for kind, extensions in {
            "PNG": (".png", ".apng"),
            "JPEG": (".jpg", ".jpeg", ".jfif"),
            "WEBP": (".webp",),
            "BMP": (".bmp",),
            "TIFF": (".tif", ".tiff"),
            "PPM": (".ppm",),
        }.items()
    }
    return images | {
        "video": Content(_video(), {"frame_pair": 2}, (".mp4", ".m4v")),
        "animation": Content(_image("GIF", 3), {"image": 1, "frame_pair": 2}, (".gif",)),
        "text": Content(lines, {"text": 2}, (".txt",), by_signature=False),
        "UTF-16": Content("one\r\ntwo\r\n".encode("utf-16"), {"text": 2}, (".txt",), by_signature=False),
        "old Mac text": Content(b"one\rtwo\r", {"text": 2}, (".txt",), by_signature=False),
        "compressed text": Content(gzip.compress(lines), {"text": 2}, (".txt.gz", ".txt"), by_signature=False),
        "JSON Lines": Content(records, {"text": 2}, (".jsonl", ".ndjson"), by_signature=False),
        "CSV": Content(b'text,label\n"one, two",1\n', {"text": 1}, (".csv",), by_signature=False),
        "TSV": Content(b"text\tlabel\none\t1\n", {"text": 1}, (".tsv",), by_signature=False),
        "Parquet of texts": Content(_parquet(text=["one", "two"]), {"text": 2}, tables),
        "Parquet of images": Content(_parquet(image=[_image("PNG")], text=["one"]), {"image": 1, "text": 1}, tables),
        "Feather": Content(_feather(text=["one", "two"]), {"text": 2}, (".feather", ".arrow")),
        "tar of texts": Content(tar([("a/0.txt", b"one"), ("1.txt", b"two")]), {"text": 2}, (".tar",)),
        "tar of images": Content(tar([("0.png", _image("PNG")), ("1.jpg", _image("JPEG"))]), {"image": 2}, (".tar",)),
    }


@cache
def unreadable() -> dict[str, bytes]:
    """Return files that hold no unit, or whose units cannot be read."""
    return {
        "empty": b"",
        "no text": bytes(range(128, 256)) * 8,
        "web page": b"<!DOCTYPE html><p>Not found",
        "ZIP": b"PK\x03\x04" + bytes(60),
        "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 1\n",
        "cut PNG": _image("PNG")[:-30],
        "cut Parquet": _parquet(text=["one"])[:-9],
        "cut tar": tar([("0.txt", b"one")])[:700],
        "cut gzip": gzip.compress(b"one\ntwo\n" * 99)[:-9],
        "tar of links and a device": _tar_of_links(),
    }


def _tar_of_links() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, kind in (("0.txt", tarfile.SYMTYPE), ("1.png", tarfile.LNKTYPE), ("2.txt", tarfile.CHRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    return file.getvalue()


class Special(StrEnum):
    """Entries that are no files."""

    PIPE = "named pipe"
    DANGLING = "link to nothing"
    LOOP = "link to itself"
    PARENT = "link to its folder"
    FOLDER = "link to a folder"
    FILE = "link to a file"


REASONS = {
    Special.PIPE: Reason.NOT_REGULAR,
    Special.DANGLING: Reason.DANGLING_LINK,
    Special.LOOP: Reason.LINK_LOOP,
    Special.PARENT: Reason.LINK_LOOP,
}
LINKED_FILES = ("0.txt", "1.png", "below/2.jsonl", "below/3")


@dataclass(frozen=True)
class File:
    """A file: one of `contents` or `unreadable`, the share of one that is left after its end is cut off, or noise."""

    what: str
    share: float = 1.0
    noise: bytes = b""

    @property
    def data(self) -> bytes:
        """Its bytes."""
        readable = contents().get(self.what)
        whole = readable.data if readable else unreadable().get(self.what, self.noise)
        return whole[: int(len(whole) * self.share)]

    def members(self, key: str) -> set[str]:
        """Return the keys that members of an archive under this key may have."""
        return {f"{key}#{name}" for name in _MEMBERS if self.what in _ARCHIVES}


_ARCHIVES = ("tar of texts", "tar of images", "cut tar", "tar of links and a device")
_MEMBERS = ("a/0.txt", "1.txt", "0.png", "1.jpg", "0.txt", "1.png", "2.txt")

Planted: TypeAlias = Special | File
Tree: TypeAlias = dict[str, Planted]
"""Entries of a folder by their keys; no key is a folder of another."""

_STEMS = (
    "a b",
    "a#b",
    "100%",
    "%20",
    "what?",
    "*",
    "[x]",
    "größe 🙂",
    "-rf",
    "~",
    "a\\b",
    "a\nb",
    "quote'\"",
    "..a",
    " ",
)
_STEMS += ("a", "A", "_x", ".x", "_run", "predictions", "README", "0", "00010", "a.b.c", "x.tar.gz", "x.mp4")
_FOLDERS = ("a", "A", "b c", "_hidden", ".git", "ü#%", "predictions", "lang=de")
_OTHER_EXTENSIONS = ("", ".dat", ".json", ".log", ".html", ".pkl", ".mov", ".heic", ".arrow", ".gz", ".tar.zst", ".")

_stems = st.sampled_from(_STEMS) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=6
)


@st.composite
def names(draw: st.DrawFn, extensions: Sequence[str] | None = None) -> str:
    """Draw the name of a file, with one of the extensions or any other, in upper or lower case."""
    if extensions is None:
        known = {extension for content in contents().values() for extension in content.extensions}
        extensions = [*sorted(known), *_OTHER_EXTENSIONS]
    extension = draw(st.sampled_from(extensions))
    name = draw(_stems) + draw(st.sampled_from([extension, extension.upper()]))
    return name if name not in (".", "..") else "dots"


@st.composite
def _usual_files(draw: st.DrawFn) -> tuple[str, Planted]:
    """Draw a readable file under a usual name."""
    what = draw(st.sampled_from(list(contents())))
    return draw(names(contents()[what].extensions)), File(what)


def _odd_files() -> st.SearchStrategy[File]:
    """Draw a file that holds no units."""
    return st.builds(File, st.sampled_from(list(unreadable())))


def _entries() -> st.SearchStrategy[tuple[str, Planted]]:
    """Draw the name of an entry, and what it is."""
    readable = st.builds(File, st.sampled_from(list(contents())))
    cut = st.builds(File, st.sampled_from(list(contents())), st.floats(0, 1))
    noise = st.builds(File, st.just("noise"), noise=st.binary(max_size=300))
    files = readable | _odd_files() | cut | noise
    return _usual_files() | _usual_files() | st.tuples(names(), files) | st.tuples(names(), st.sampled_from(Special))


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Draw the entries of a folder."""
    tree: Tree = {}
    drawn = st.tuples(st.lists(st.sampled_from(_FOLDERS), max_size=2), _entries())
    for folders, (name, planted) in draw(st.lists(drawn, min_size=1, max_size=9)):
        key = "/".join([*folders, name])
        if not any(f"{key}/".startswith(f"{one}/") or f"{one}/".startswith(f"{key}/") for one in tree):
            tree[key] = planted
    return tree


def plant(folder: Path, tree: Tree) -> dict[str, Planted]:
    """Write the entries; return all that a listing of the folder finds. Links lead to a folder next to it."""
    elsewhere, found = folder.with_name("elsewhere"), {}
    for name in LINKED_FILES:
        (elsewhere / name).parent.mkdir(parents=True, exist_ok=True)
        (elsewhere / name).write_bytes(contents()["PNG" if name.endswith("png") else "JSON Lines"].data)
    for key, planted in tree.items():
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        if planted is Special.FOLDER:
            found |= {f"{key}/{name}": planted for name in LINKED_FILES}
        else:
            found[key] = planted
        if isinstance(planted, File):
            path.write_bytes(planted.data)
        elif planted is Special.PIPE:
            os.mkfifo(path)
        else:
            path.symlink_to(
                {
                    Special.DANGLING: "not fetched/from the store",
                    Special.LOOP: path.name,
                    Special.PARENT: ".",
                    Special.FOLDER: elsewhere,
                    Special.FILE: elsewhere / LINKED_FILES[1],
                }[planted]
            )
    return found


@st.composite
def buckets(draw: st.DrawFn) -> dict[str, File]:
    """Draw the objects of a bucket. Keys hold whatever a store allows: empty names, `..`, a slash at the end."""
    files = _usual_files() | st.tuples(names(), _odd_files())
    folders = st.lists(st.sampled_from((*_FOLDERS, "", ".", "..")), max_size=3)
    objects: dict[str, File] = {}
    for above, (name, file) in draw(st.lists(st.tuples(folders, files), min_size=1, max_size=6)):
        objects["/".join([*above, "".join(char for char in name if char.isprintable())])] = file
    for marker in draw(st.sets(st.sampled_from(_FOLDERS))):
        objects[f"{marker}/"] = File("empty")
    return objects
