"""Every situation ends exactly right, or in one sentence and a remedy, with the exit code of the contract."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.situations.addresses import ADDRESSES
from tests.situations.clusters import CLUSTERS
from tests.situations.inputs import INPUTS
from tests.situations.interruptions import INTERRUPTIONS
from tests.situations.limits import LIMITS
from tests.situations.listings import LISTINGS
from tests.situations.moments import MOMENTS
from tests.situations.nothing_new import NOTHING_NEW
from tests.situations.parts import PARTS
from tests.situations.ray_versions import RAY_VERSIONS
from tests.situations.records import RECORDS
from tests.situations.situation import Situation, World
from tests.situations.surroundings import SURROUNDINGS

TABLES = {
    "addresses": ADDRESSES,
    "inputs": INPUTS,
    "limits": LIMITS,
    "listings": LISTINGS,
    "parts": PARTS,
    "records": RECORDS,
    "interruptions": INTERRUPTIONS,
    "moments": MOMENTS,
    "surroundings": SURROUNDINGS,
    "clusters": CLUSTERS,
    "nothing new": NOTHING_NEW,
    "Ray's versions": RAY_VERSIONS,
}
SITUATIONS = [
    pytest.param(situation, id=f"{table}: {name}", marks=[pytest.mark.slow] if situation.is_slow else [])
    for table, rows in TABLES.items()
    for name, situation in rows.items()
]


@pytest.fixture
def world(
    tmp_path: Path,
    checkpoint: Path,
    write_images: Callable[..., None],
    request: pytest.FixtureRequest,
    described_cluster: None,
) -> World:
    """A world whose commands run their stages in this process."""
    return World(folder=tmp_path, checkpoint=checkpoint, write_images=write_images, request=request)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_it_ends_right_or_in_words(situation: Situation, world: World) -> None:
    situation.check(world)
