"""INPUT as users write it: files, folders and globs, on disk and in a bucket."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.sources import Listing, SourceOptions, discover, source_for
from pipeline.sources.image_source import IMAGES
from pipeline.sources.listing.glob_pattern import matches
from pipeline.storage import AccessError, Entry, LeftOut, Reason, Store
from pipeline.storage.left_out import describe

if TYPE_CHECKING:
    from conftest import S3


def folder(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"content of " + name.encode())
    return root


def keys(uri: str | Path) -> list[str]:
    return [entry.key for entry in discover(str(uri), IMAGES).entries]


def refusal(uri: str | Path) -> str:
    with pytest.raises(AccessError) as caught:
        discover(str(uri), IMAGES)
    return str(caught.value)


def test_a_folder_gives_its_images_at_any_depth_in_byte_order(tmp_path: Path) -> None:
    folder(tmp_path, "b.jpg", "a/z.PNG", "a/deep/er/x.webp", "a.jpeg", "ä.tiff", "B.gif")
    assert keys(tmp_path) == ["B.gif", "a.jpeg", "a/deep/er/x.webp", "a/z.PNG", "b.jpg", "ä.tiff"]
    assert keys(f"{tmp_path}/") == keys(f"file://{tmp_path}") == keys(tmp_path)


def test_entries_carry_size_and_version(tmp_path: Path) -> None:
    folder(tmp_path, "a.jpg")
    found = discover(str(tmp_path), IMAGES)
    (entry,) = found.entries
    assert entry == Entry(key="a.jpg", size=16, version=entry.version)
    assert found.store.read("a.jpg", version=entry.version) == b"content of a.jpg"


def left_out(found: Listing) -> dict[str, str]:
    """Return the reason of each entry that the listing left out, once it was read to its end."""
    deque(found.entries, maxlen=0)
    entries = list(found.left_out.entries())
    assert len(dict(entries)) == len(entries) == found.left_out.counts.total(), "each entry is counted once"
    return dict(entries)


def test_other_extensions_and_hidden_files_are_left_out_and_counted(tmp_path: Path) -> None:
    folder(tmp_path, "a.jpg", "notes.txt", "labels", "_DSC0001.JPG", ".hidden.jpg")
    folder(tmp_path, ".cache/thumb.jpg", "_run/tmp.png", "out/_temporary/x.jpg", "__MACOSX/b.jpg")
    found = discover(str(tmp_path), IMAGES)
    assert [entry.key for entry in found.entries] == ["_DSC0001.JPG", "a.jpg"]
    assert left_out(found) == dict.fromkeys(("labels", "notes.txt"), "not of the input format") | dict.fromkeys(
        (".cache/thumb.jpg", ".hidden.jpg", "__MACOSX/b.jpg", "_run/tmp.png", "out/_temporary/x.jpg"), "hidden"
    )
    assert (found.read, found.complete) == (2, True)


def test_unknown_kinds_and_files_of_another_medium_are_told_apart(tmp_path: Path) -> None:
    folder(tmp_path, "a.jpg", "clip.MP4", "notes.txt", "table.csv", "labels", "a.docx")
    found = discover(str(tmp_path), source_for("auto", SourceOptions(medium="image")))
    assert left_out(found) == {
        "a.docx": "unknown kind",
        "clip.MP4": "not the task's medium",
        "labels": "unknown kind",
        "notes.txt": "not the task's medium",
    }
    assert found.read == 2


def test_links_that_lead_nowhere_loops_and_pipes_are_left_out_with_their_reason(tmp_path: Path) -> None:
    root = folder(tmp_path / "in", "a.jpg", "real/b.jpg")
    (root / "away.jpg").symlink_to(tmp_path / "not-fetched")
    (root / "through-a-file.jpg").symlink_to(root / "a.jpg" / "x")
    (root / "circle.jpg").symlink_to("circle.jpg")
    (root / "loop").symlink_to(root)
    (root / "again").symlink_to(root / "real")
    os.mkfifo(root / "real/pipe.jpg")
    found = discover(str(root), IMAGES)
    assert left_out(found) == {
        "again": "link to a folder that is listed already",
        "away.jpg": "dangling link",
        "circle.jpg": "link loop",
        "loop": "link loop",
        "real/pipe.jpg": "not a regular file",
        "through-a-file.jpg": "dangling link",
    }
    assert found.read == 2
    folder(root, "awake.jpg")
    assert left_out(discover(f"{root}/aw*", IMAGES)) == {"away.jpg": "dangling link"}, "a glob counts what it names"


def test_names_of_any_bytes_are_printed_in_one_line(tmp_path: Path) -> None:
    folder(tmp_path, "a.jpg")
    (tmp_path / os.fsdecode(b"caf\xe9\n.jpg")).symlink_to("nowhere")
    found = discover(str(tmp_path), IMAGES)
    deque(found.entries, maxlen=0)
    assert list(describe(found.left_out.counts, found.left_out.first)) == [
        ("dangling link", r"1, dangling link: caf\xe9\n.jpg")
    ]


def test_millions_left_out_are_kept_on_disk_and_a_few_named(tmp_path: Path) -> None:
    found = LeftOut()
    for number in range(100_000):
        found.add(f"{number:06}.raw", Reason.UNKNOWN_KIND)
    (line,) = dict(describe(found.counts, found.first)).values()
    assert line == "100,000, unknown kind: " + ", ".join(f"{n:06}.raw" for n in range(5)) + " and 99,995 more"
    assert [key for key, _ in found.entries()] == [f"{number:06}.raw" for number in range(100_000)]


def test_a_single_file_is_taken_whatever_its_name(tmp_path: Path) -> None:
    folder(tmp_path, "photo.dat", "photo.dat.bak", ".hidden.jpg", "plain")
    for name in ("photo.dat", ".hidden.jpg", "plain"):
        found = discover(f"{tmp_path}/{name}", IMAGES)
        assert found.store.uri == str(tmp_path)
        assert [entry.key for entry in found.entries] == [name]


def test_relative_paths_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder(tmp_path, "a.jpg", "b/c.jpg"))
    assert keys(".") == ["a.jpg", "b/c.jpg"]
    assert keys("a.jpg") == ["a.jpg"]
    assert keys("b") == ["c.jpg"]
    assert keys("*/*.jpg") == ["b/c.jpg"]
    assert keys("./b/../*.jpg") == ["a.jpg"]


def test_a_glob_takes_what_it_names_relative_to_its_fixed_folder(tmp_path: Path) -> None:
    folder(tmp_path, "x/a1.jpg", "x/a2.dat", "x/b1.jpg", "x/deep/a3.jpg", "y/a4.jpg")
    assert keys(f"{tmp_path}/x/a*") == ["a1.jpg", "a2.dat"]
    assert keys(f"{tmp_path}/x/?1.jpg") == ["a1.jpg", "b1.jpg"]
    assert keys(f"{tmp_path}/x/[!b]1.jpg") == ["a1.jpg"]
    assert keys(f"{tmp_path}/[xy]/a*.jpg") == ["x/a1.jpg", "y/a4.jpg"]
    assert keys(f"{tmp_path}/**/a*.jpg") == ["x/a1.jpg", "x/deep/a3.jpg", "y/a4.jpg"]
    assert keys(f"{tmp_path}/x/**") == ["a1.jpg", "a2.dat", "b1.jpg", "deep/a3.jpg"]
    assert discover(f"{tmp_path}/x/a*", IMAGES).store.uri == f"{tmp_path}/x"


@pytest.mark.parametrize(
    ("pattern", "key", "taken"),
    [
        ("*.jpg", "a.jpg", True),
        ("*.jpg", "a.JPG", False),
        ("*.jpg", "x/a.jpg", False),
        ("*.jpg", ".a.jpg", False),
        (".*.jpg", ".a.jpg", True),
        ("*.jpg", "_DSC1.jpg", True),
        ("*/a.jpg", "_run/a.jpg", False),
        ("[_]run/a.jpg", "_run/a.jpg", False),
        ("_r*/a.jpg", "_run/a.jpg", True),
        ("**", ".git/a", False),
        ("**/_run/*", "x/_run/a", True),
        ("**/*", "_run/a", False),
        ("**/*", "a", True),
        ("**/b/**/c", "b/c", True),
        ("**/b/**/c", "a/b/x/y/c", True),
        ("**/b/**/c", "a/x/c", False),
        ("a/**", "a", False),
        ("*", "", False),
        ("**", "x/", False),
        ("*//b", "a//b", True),
        ("[[]1].jpg", "[1].jpg", True),
        ("a.b*", "axb", False),
    ],
)
def test_patterns_match_as_documented(pattern: str, key: str, taken: bool) -> None:
    assert matches(key.split("/"), pattern.split("/")) is taken


def test_a_literal_name_wins_over_the_pattern(tmp_path: Path) -> None:
    folder(tmp_path, "a[1].jpg", "a1.jpg", "set[2]/b.jpg", "set[2]/c.png", "set2/d.jpg", "why?/e.jpg", "whyx/f.jpg")
    assert keys(f"{tmp_path}/a[1].jpg") == ["a[1].jpg"]
    assert keys(f"{tmp_path}/set[2]") == ["b.jpg", "c.png"]
    assert keys(f"{tmp_path}/set[2]/*.png") == ["c.png"]
    assert keys(f"{tmp_path}/set[23]/*") == ["set2/d.jpg"]
    assert keys(f"{tmp_path}/why?") == ["e.jpg"]


def test_an_input_without_files_is_refused_with_the_reason(tmp_path: Path) -> None:
    folder(tmp_path, "notes.txt", "a.csv", ".b.jpg")
    assert refusal(tmp_path) == (
        f"{tmp_path}: no images found; "
        "left out: 1, hidden: .b.jpg (a leading . or a folder's leading _); "
        "2, not of the input format: a.csv, notes.txt (a glob such as *.dat reads files with any extension)"
    )


def test_an_input_that_does_not_exist_is_said_first_with_the_name_that_is_meant(tmp_path: Path) -> None:
    folder(tmp_path, "notes.txt", "photos/a.csv")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("gone")
    for name, words in {
        "phtos": "does not exist (did you mean photos?)",
        "other": f"does not exist: {tmp_path} has no 'other'",
        "phots/2024/a.jpg": f"does not exist: {tmp_path} has no 'phots' (did you mean photos?)",
        "link": "is a link to gone, which does not exist",
        "empty": "does not exist or is empty",
        "phots/*.jpg": f"cannot be read: {tmp_path}/phots does not exist (did you mean photos?)",
    }.items():
        assert refusal(f"{tmp_path}/{name}") == f"{tmp_path}/{name} {words}"
    assert refusal(f"{tmp_path}/*.png") == f"nothing in {tmp_path} matches *.png"
    assert refusal("memory://nothing/there") == "memory://nothing/there does not exist or is empty"


def test_secrets_in_an_input_are_refused_and_not_shown() -> None:
    for uri in ("s3://key:canary@bucket/x", "s3://bucket/a.jpg?X-Amz-Signature=canary", "https://h/a.jpg?sig=canary"):
        assert "canary" not in refusal(uri)


def test_the_listing_is_a_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = 0

    def endless(self: Store, prefix: str = "", leave_out: object = None) -> Iterator[Entry]:
        nonlocal listed
        while True:
            listed += 1
            yield Entry(key=f"{listed:09}.jpg", size=1, version="1")

    monkeypatch.setattr(Store, "entries", endless)
    found = discover(str(tmp_path), IMAGES)
    assert [entry.key for entry in islice(found.entries, 2)] == ["000000001.jpg", "000000002.jpg"]
    assert listed == 2


def test_buckets_are_listed_like_folders(s3: S3) -> None:
    bucket = s3.bucket("images")
    name = bucket.removeprefix("s3://")
    for key in ("in/a.jpg", "in/b/c d#?.png", "in/b/e%20.jpg", "in/notes.txt", "in/_run/x.jpg", "in[1]/f.jpg", "in/"):
        s3.client.put_object(Bucket=name, Key=key, Body=key.encode())
    assert keys(f"{bucket}/in") == ["a.jpg", "b/c d#?.png", "b/e%20.jpg"]
    assert keys(bucket) == ["in/a.jpg", "in/b/c d#?.png", "in/b/e%20.jpg", "in[1]/f.jpg"]
    assert keys(f"{bucket}/in/a.jpg") == ["a.jpg"]
    assert keys(f"{bucket}/in/b/c d#?.png") == ["c d#?.png"]
    assert keys(f"{bucket}/in/**/?.jpg") == ["a.jpg"]
    assert keys(f"{bucket}/in/**") == ["a.jpg", "b/c d#?.png", "b/e%20.jpg", "notes.txt"]
    assert keys(f"{bucket}/in[1]") == ["f.jpg"]
    found = discover(f"{bucket}/in/b/*", IMAGES)
    assert [found.store.read(entry.key, version=entry.version) for entry in found.entries] == [
        b"in/b/c d#?.png",
        b"in/b/e%20.jpg",
    ]
    assert left_out(discover(f"{bucket}/in", IMAGES)) == {
        "./": "folder marker of an object store",
        "_run/x.jpg": "hidden",
        "notes.txt": "not of the input format",
    }
    assert refusal(f"{bucket}/none/*.jpg") == f"nothing in {bucket}/none matches *.jpg"
    assert refusal(f"{bucket}/none") == f"{bucket}/none does not exist or is empty"


def test_a_bucket_that_is_missing_or_a_pattern_is_refused(s3: S3) -> None:
    assert "no-such-bucket" in refusal("s3://no-such-bucket/in")
    assert refusal("s3://imag*/in") == "s3://imag*/in: the name after s3:// must not contain a wildcard"
