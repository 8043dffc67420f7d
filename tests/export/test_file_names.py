"""File names of ids: readable, safe on every file system, and different for different ids."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.export.file_names import NAME_BYTES, PATH_BYTES, FileNames, file_name, name_key, owner


@pytest.mark.parametrize(
    ("unit", "name"),
    [
        ("cats/a.jpg", "cats/a.jpg.flo"),
        ("drives/a.mp4#12.480", "drives/a.mp4/12.480.flo"),
        ("walk/0001.flo", "walk/0001.flo"),
        ("logs.txt#81734", "logs.txt/81734.flo"),
        ("t.parquet#3#0.000", "t.parquet_3/0.000.flo"),
        ("a#b.png", "a_b.png.flo"),
        ("/etc/passwd", "etc/passwd.flo"),
        ("../../x", "__/__/x.flo"),
        ("..", "__.flo"),
        ("", "_.flo"),
        ("//", "_.flo"),
        (".hidden/-rf", "_hidden/_-rf.flo"),
        ("CON", "_CON.flo"),
        ("nul.txt/x ", "_nul.txt/x_.flo"),
        ("x\u202egnp.exe\n", "x_gnp.exe_.flo"),
        ('<script>"\\|?*:', "_script_______.flo"),
        ("नमस्ते 日本.png", "नमस्ते 日本.png.flo"),
        ("A\u0308.png", "Ä.png.flo"),
        ("dogs.flo/x", "dogs.flo/x.flo"),
    ],
)
def test_names_stay_readable_and_become_safe(unit: str, name: str) -> None:
    assert file_name(unit, ".flo") == name


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=400))
def test_no_id_gives_a_name_that_leaves_the_folder_or_is_too_long(unit: str) -> None:
    names = file_name(unit, ".png").split("/")
    assert len("/".join(names).encode()) <= PATH_BYTES
    for name in names:
        assert name.strip(".") == name
        assert name
        assert len(name.encode()) <= NAME_BYTES + 30
        assert name.isprintable()


def test_names_of_the_longest_ids_differ() -> None:
    units = ["x" * 1_000_000, "x" * 1_000_000 + "y", "a/" * 500 + "b", "a/" * 500 + "c"]
    assert len({file_name(unit, ".flo") for unit in units}) == 4


@pytest.mark.parametrize(
    "units", [("A.png", "a.png"), ("x", "x.flo"), ("a?b", "a*b"), ("\u00e9", "e\u0301"), ("a/b", "/a//b"), ("ß", "SS")]
)
def test_ids_that_collide_get_different_names_that_stay_the_same(units: tuple[str, str]) -> None:
    known, names = FileNames(), []
    for unit in (*units, *units):
        names.append(known.name_of(unit, "v", ".flo"))
        known.add(names[-1], owner(unit, "v"))
    assert names[:2] == names[2:]
    assert name_key(names[0]) != name_key(names[1])
    assert names[1].endswith(f"~{owner(units[1], 'v')}.flo")


@pytest.mark.parametrize("units", [("a", "a.flo/x"), ("a.flo/x", "a"), ("a", "A.FLO#1"), ("b/a", "b/a.flo/c/d")])
def test_a_file_never_has_the_name_of_a_folder(units: tuple[str, str], tmp_path: Path) -> None:
    known = FileNames()
    for unit in units:
        name = known.name_of(unit, "v", ".flo")
        known.add(name, owner(unit, "v"))
        path = tmp_path / name.lower()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(exist_ok=False)


def test_a_unit_that_was_predicted_again_has_a_file_of_its_own() -> None:
    known = FileNames()
    known.add(known.name_of("a", "1", ".flo"), owner("a", "1"))
    assert known.name_of("a", "2", ".flo") == f"a~{owner('a', '2')}.flo"
