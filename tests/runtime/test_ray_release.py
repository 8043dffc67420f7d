"""Releases of Ray: what is refused, with both versions named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ray._private.utils import check_version_info, compute_version_info

from pipeline.runtime import ray_release
from pipeline.runtime.early_checks import check_early
from pipeline.runtime.errors import UsageError
from pipeline.runtime.options import RunOptions
from pipeline.runtime.ray_release import OLDEST, different_versions, require_supported_ray

PROJECT = Path(__file__).parents[2]
SOURCE = "address (10.0.0.5:6379)"


def pretend_installed(patch: pytest.MonkeyPatch, release: str) -> None:
    patch.setattr(ray_release.importlib.metadata, "version", lambda name: {"ray": release}[name])


@pytest.mark.parametrize("release", ["2.57.1", "2.9.3", "1.13.0", "2.57.0rc1"])
def test_older_ray_is_refused_first_of_all(release: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(monkeypatch, release)
    options = RunOptions(task="no task", input="/no/input", output="/no/output", checkpoint="no checkpoint")
    with pytest.raises(UsageError, match=re.escape(f"Ray {release} is installed, but this software needs Ray 2.58")):
        check_early(options)


@pytest.mark.parametrize("release", ["2.58.0", "2.60.0", "2.61.0rc0", "2.100.0", "3.0.0.dev0"])
def test_later_ray_is_tried_without_an_upper_bound(release: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(monkeypatch, release)
    require_supported_ray()


def error_of_ray(metadata: dict[str, str]) -> Exception:
    with pytest.raises(RuntimeError) as caught:
        check_version_info(metadata, "node 10.0.0.7")
    return caught.value


@pytest.mark.parametrize("other", [{"ray_version": "2.56.0"}, {"python_version": "3.12.1"}])
def test_cluster_with_other_versions_is_named_with_both(other: dict[str, str]) -> None:
    ray, python = compute_version_info()[:2]
    theirs = {"ray_version": ray, "python_version": python} | other
    error = different_versions(error_of_ray(theirs), SOURCE)
    assert str(error) == (
        f"the cluster at {SOURCE} runs Ray {theirs['ray_version']} with Python {theirs['python_version']}, but this "
        f"process runs Ray {ray} with Python {python}: install the versions of the cluster here"
    )


@pytest.mark.parametrize("error", [RuntimeError("the head is gone"), ConnectionError("refused")])
def test_other_errors_are_not_about_versions(error: Exception) -> None:
    assert different_versions(error, SOURCE) is None


def test_installation_requires_the_oldest_release_that_is_not_refused() -> None:
    oldest = ".".join(map(str, OLDEST))
    assert f'"ray[data,default]>={oldest}"' in (PROJECT / "pyproject.toml").read_text()
    assert f"RAY ?= {oldest}\n" in (PROJECT / "Makefile").read_text()
