"""Predictions are not inputs: OUTPUTs of runs inside INPUT are left out and counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.sources import IMAGES, discover
from pipeline.sources.listing.outputs_in_input import location
from pipeline.storage import AccessError, Reason, Store

INPUTS = ("0.png", "Z/0.png", "a/b/c.png", "z.png")
IN_OUTPUTS = ("Z/out/0.png", "Z/out/_run/run.json", "Z/out/predictions/p.png", "a/o/_run/run.json", "a/o/z/z.png")


@pytest.fixture(params=["local", "s3"])
def uri(request: pytest.FixtureRequest, tmp_path: Path, s3) -> str:
    return str(tmp_path / "in") if request.param == "local" else f"{s3.bucket('apart')}/in"


def write(uri: str, *keys: str) -> None:
    for key in keys:
        Store(uri).put(key, b"x")


def found(uri: str, output: str | None = None) -> tuple[list[str], int]:
    """Return the keys of a listing, and the number of files that it left out as those of an OUTPUT."""
    listing = discover(uri, IMAGES, output and Store(output))
    return [entry.key for entry in listing.entries], listing.left_out.counts[Reason.OUTPUT]


def test_folders_that_hold_a_run_are_left_out_and_counted(uri: str) -> None:
    write(uri, *INPUTS, *IN_OUTPUTS)
    assert found(uri) == (list(INPUTS), len(IN_OUTPUTS))
    assert found(f"{uri}/**/*.png") == (list(INPUTS), 3)


def test_output_that_is_named_is_read(uri: str) -> None:
    write(uri, *INPUTS, *IN_OUTPUTS)
    assert found(f"{uri}/Z/out") == (["0.png", "predictions/p.png"], 0)
    assert found(f"{uri}/Z/out/predictions") == (["p.png"], 0)
    assert found(f"{uri}/*/*/predictions/*.png") == (["Z/out/predictions/p.png"], 0)


def test_own_output_is_left_out_before_it_holds_a_run(uri: str) -> None:
    write(uri, *INPUTS, "Z/out/0.png", "a/o/z.png")
    assert found(uri, f"{uri}/Z/out") == (["0.png", "Z/0.png", "a/b/c.png", "a/o/z.png", "z.png"], 1)
    assert found(uri, f"{uri}/Z/../a/o/" if uri.startswith("/") else f"{uri}/a/o/".replace("s3:", "S3a:")) == (
        ["0.png", "Z/0.png", "Z/out/0.png", "a/b/c.png", "z.png"],
        1,
    )


def test_pattern_in_output_does_not_match_what_the_run_writes(uri: str) -> None:
    write(uri, "0.png", "predictions/p.png", "quarantine/p.png")
    assert found(f"{uri}/**/*.png", uri) == (["0.png"], 2)
    assert found(f"{uri}/*/p*.png") == (["predictions/p.png", "quarantine/p.png"], 0)


def test_input_of_nothing_but_an_output_says_so(uri: str) -> None:
    write(uri, "out/_run/run.json", "out/predictions/p.png")
    with pytest.raises(AccessError, match=r"2, in the OUTPUT of a run: \w+/$"):
        found(uri)


def test_folders_of_a_bucket_are_looked_up_only_if_the_listing_does_not_tell(s3, s3_proxy, monkeypatch) -> None:
    monkeypatch.setattr("pipeline.sources.listing.outputs_in_input._AHEAD", 10)
    uri = f"{s3.bucket('many')}/in"
    write(uri, *(f"{folder:02d}/0.png" for folder in range(30)), *(f"Z/{number:02d}.png" for number in range(20)))
    before = len(s3_proxy.seen)
    assert len(found(uri)[0]) == 50
    requests = [method for method, *_ in s3_proxy.seen[before:]]
    assert requests.count("HEAD") <= 2, "one for the file `in`, one for the long folder"


def test_links_to_an_output_are_seen_through(tmp_path: Path, link: Callable[[str, str], None]) -> None:
    write(str(tmp_path / "in"), *INPUTS)
    write(str(tmp_path / "out"), "0.png")
    link("in/y", "out")
    assert found(str(tmp_path / "in"))[0] == [*INPUTS[:3], "y/0.png", "z.png"]
    assert found(str(tmp_path / "in"), str(tmp_path / "in/a/../y")) == (list(INPUTS), 1)
    assert found(str(tmp_path / "in"), str(tmp_path / "out")) == (list(INPUTS), 1)


@pytest.fixture
def link(tmp_path: Path) -> Callable[[str, str], None]:
    """`link(name, target)`: make a symbolic link in the temporary folder."""
    return lambda name, target: (tmp_path / name).symlink_to(tmp_path / target)


@pytest.mark.parametrize(
    ("uri", "other"),
    [
        ("s3://b/in", "S3A://b/in/"),
        ("gs://b/in", "gcs://b/in"),
        ("az://b/in", "abfs://b@account.dfs.core.windows.net/in"),
        ("/tmp", "file:///tmp/../tmp/"),
    ],
)
def test_spellings_of_a_folder_have_one_location(uri: str, other: str) -> None:
    assert location(Store(uri).uri) == location(Store(other).uri)
    assert location(Store(f"{uri}x").uri) != location(Store(other).uri)
