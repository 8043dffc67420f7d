"""Nothing vanishes, whatever a folder holds: each entry is read, quarantined or left out, and in only one of these."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from pipeline.runtime.plan.frozen_plan import Plan
from pipeline.runtime.plan.plan_files import pieces_in_row, read_plan_file
from pipeline.runtime.plan.planner import freeze_plan
from pipeline.runtime.plan.shard_sizes import ShardSizing
from pipeline.runtime.records.listing import ListedInputs
from pipeline.runtime.stages.load import read
from pipeline.runtime.stages.unit_reader import Loaded, Loader
from pipeline.sinks.parts import Quarantined
from pipeline.sources import IMAGES, SOURCES, Piece, SourceOptions, discover, source_for
from pipeline.storage import AccessError, Store
from tests.faults.random_folders import REASONS, File, Planted, Tree, buckets, contents, names, plant, trees
from tests.property_settings import EXAMPLES, many

MEDIA = ("text", "image", "frame_pair")


class KeepMedium:
    """A head that keeps nothing of a medium, in place of a model's."""

    def transform(self, medium: Any) -> dict[str, Any]:
        assert medium is not None
        return {}


@dataclass(frozen=True)
class Outcome:
    """What a run would read of INPUT: units by key, and the listing's counts and entries left out."""

    loaded: Counter[str]
    quarantined: Counter[str]
    paired: frozenset[str]
    listed: ListedInputs
    left_out: list[tuple[str, str]]

    @property
    def read(self) -> set[str]:
        return {*self.loaded, *self.quarantined, *self.paired}


def plan_and_read(uri: str, output: Store, medium: str) -> Outcome:
    """Plan INPUT and load every planned unit, in this process."""
    source = source_for("auto", SourceOptions(medium=medium))
    plan = _plan(uri, output, source)
    assert plan.listing is not None
    store = plan.listing.store
    loader = Loader(inputs=store, output=output, source=source, head=KeepMedium(), threads=2)
    rows = [row for file in plan.files for row in read_plan_file(output, file.name, file.sha256).to_pylist()]
    pieces: list[Piece] = [piece for row in rows for piece in pieces_in_row(row)]
    results = list(read(loader, pieces)) if pieces else []
    assert plan.units in (None, len(results))
    assert len({_id(result) for result in results}) == len(results)
    loaded = [result.unit.uri for result in results if isinstance(result, Loaded)]
    quarantined = [result.uri for result in results if isinstance(result, Quarantined)]
    outcome = Outcome(
        Counter(uri.removeprefix(f"{store.uri}/") for uri in loaded),
        Counter(uri.removeprefix(f"{store.uri}/") for uri in quarantined),
        frozenset(piece.other for piece in pieces if piece.other),
        ListedInputs.of(plan.listing),
        list(plan.listing.left_out.entries()),
    )
    again = _plan(uri, output, source)
    assert again.segments == plan.segments, "planning again plans nothing"
    assert again.listing is not None
    assert ListedInputs.of(again.listing) == outcome.listed
    return outcome


def _plan(uri: str, output: Store, source: Any) -> Plan:
    return freeze_plan(output, source, lambda: discover(uri, source, output), ShardSizing(unit_bytes=1000))


def _id(result: Loaded | Quarantined) -> str:
    return result.unit.id if isinstance(result, Loaded) else result.id


@pytest.fixture
def places(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Any]:
    """`with places() as (folder, output)`: an empty INPUT and an OUTPUT, which are deleted afterwards."""

    @contextmanager
    def make() -> Iterator[tuple[Path, Path]]:
        root = tmp_path_factory.mktemp("random")
        (root / "in #1% [x]").mkdir()
        try:
            yield root / "in #1% [x]", root / "out"
        finally:
            shutil.rmtree(root)

    return make


def check_accounts(found: Outcome, planted: Mapping[str, Planted]) -> None:
    """Check that each entry is read or left out, once, and that the counts say so. Members of archives count too."""
    left_out = dict(found.left_out)
    assert len(left_out) == len(found.left_out)
    files = {key: what for key, what in planted.items() if isinstance(what, File)}
    members = left_out.keys() & set().union(*(what.members(key) for key, what in files.items())) - planted.keys()
    assert sorted([*found.read, *left_out.keys() - members]) == sorted(planted)
    assert (found.listed.read, found.listed.listed) == (len(found.read), len(planted) + len(members))
    assert found.listed.left_out == Counter(left_out.values())
    for key, what in planted.items():
        if what in REASONS:
            assert left_out[key] == REASONS[what]


def is_named(error: AccessError, folder: Path, planted: Iterable[str]) -> bool:
    """Return whether the message of a refusal names INPUT or a file in it."""
    return str(folder) in str(error) or any(key in str(error) for key in planted)


@EXAMPLES
@pytest.mark.parametrize("medium", MEDIA)
def test_each_entry_of_a_folder_is_read_or_quarantined_or_left_out(examples: int, medium: str, places) -> None:
    @many(examples)
    @given(tree=trees())
    def check(tree: Tree) -> None:
        with places() as (folder, output):
            planted = plant(folder, tree)
            try:
                found = plan_and_read(str(folder), Store(str(output)), medium)
            except AccessError as error:
                event("refused")
                assert is_named(error, folder, planted), error  # noqa: PT017
                return
        check_accounts(found, planted)
        for key in found.read:
            planted_file = planted[key]
            whole = isinstance(planted_file, File) and planted_file.share == 1
            content = contents().get(planted_file.what) if whole else None
            if content and medium in content.units and key.lower().endswith(content.extensions):
                event("read under its usual name")
                assert (found.loaded[key], found.quarantined[key]) == (content.units[medium], 0)

    check()


@EXAMPLES
@pytest.mark.parametrize("medium", MEDIA)
def test_each_visible_file_that_a_glob_matches_is_read_or_quarantined(examples: int, medium: str, places) -> None:
    @many(examples // 3)
    @given(tree=trees())
    def check(tree: Tree) -> None:
        with places() as (folder, output):
            planted = plant(folder, tree)
            try:
                found = plan_and_read(f"{folder}/**", Store(str(output)), medium)
            except AccessError as error:
                event("refused")
                assert is_named(error, folder, planted), error  # noqa: PT017
                return
        check_accounts(found, {key: what for key, what in planted.items() if not is_hidden(key)})

    check()


def is_hidden(key: str) -> bool:
    *folders, name = key.split("/")
    return name.startswith(".") or any(folder.startswith((".", "_")) for folder in folders)


MEDIA_EXTENSIONS = (*SOURCES["images"].extensions, *SOURCES["video"].extensions, ".gz", ".zst", ".bz2", ".xz", ".tgz")
KNOWN = (*frozenset().union(*(source.extensions for source in SOURCES.values())), ".json", ".gz", ".zst", ".bz2", ".xz")


@EXAMPLES
def test_readable_file_is_read_whatever_its_name_if_input_names_it(examples: int, places) -> None:
    """Except that the extension of another format may mislead: then it is read so, quarantined, or refused by name."""

    @many(examples)
    @given(what=st.sampled_from(list(contents())), name=names())
    def check(what: str, name: str) -> None:
        content = contents()[what]
        is_image = IMAGES.extensions.issuperset(content.extensions)
        for medium, units in content.units.items():
            extensions = tuple(IMAGES.extensions) if is_image and medium == "image" else content.extensions
            usual = name.lower().endswith(extensions)
            misleading = not usual and name.lower().endswith(MEDIA_EXTENSIONS if content.is_table else KNOWN)
            with places() as (folder, output):
                (folder / name).write_bytes(content.data)
                try:
                    found = plan_and_read(f"{folder}/{name}", Store(str(output)), medium)
                except AccessError as error:
                    assert misleading, error  # noqa: PT017
                    assert f"{folder}/{name}" in str(error)  # noqa: PT017
                    continue
            if usual or (content.by_signature and not misleading):
                assert (found.loaded[name], found.quarantined[name]) == (units, 0)
            elif not misleading:
                assert found.loaded[name] >= 1
                assert found.quarantined[name] == 0
            else:
                assert found.loaded[name] + found.quarantined[name] >= 1

    check()


@pytest.mark.slow
@pytest.mark.parametrize("medium", ["text", "image"])
def test_each_object_of_a_bucket_is_read_or_quarantined_or_left_out(medium: str, s3, places) -> None:
    @many(100)
    @given(objects=buckets())
    def check(objects: dict[str, File]) -> None:
        uri = s3.bucket("random")
        for key, file in objects.items():
            s3.client.put_object(Bucket=uri.removeprefix("s3://"), Key=f"in #?%/{key}", Body=file.data)
        with places() as (_, output):
            try:
                found = plan_and_read(f"{uri}/in #?%", Store(str(output)), medium)
            except AccessError as error:
                event("refused")
                assert uri in str(error), error  # noqa: PT017
                return
        check_accounts(found, objects)

    check()
