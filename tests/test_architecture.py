"""Which file imports which: no circles, ray in two packages only, and little in the processes that read inputs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("pipeline", "jobs")
    for path in sorted((ROOT / package).rglob("*.py"))
}
MAY_IMPORT_RAY = ("pipeline.runtime.ray_backend", "pipeline.benchmark")


def imported_names(node: ast.AST) -> Iterator[str]:
    """Yield every module or `module.name` that a tree imports anywhere, except for type checkers only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        yield from imported_names(child)


def imported_modules(module: str) -> set[str]:
    """Return the project's modules that a module imports."""
    names = set(imported_names(ast.parse(FILES[module].read_text())))
    found = {name if name in FILES else name.rpartition(".")[0] for name in names}
    return {name for name in found if name in FILES and name != module}


def test_no_files_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter({module: imported_modules(module) for module in FILES}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_ray_is_imported_in_two_packages_only() -> None:
    imports_ray = {
        module
        for module, path in FILES.items()
        if any(name.split(".")[0] == "ray" for name in imported_names(ast.parse(path.read_text())))
    }
    assert imports_ray, "the search finds nothing"
    assert {module for module in imports_ray if not module.startswith(MAY_IMPORT_RAY)} == set()


def test_processes_that_read_inputs_import_neither_engine_nor_options() -> None:
    """Every run starts several of them. Their imports take half a second, and these would double it."""
    modules = (
        "pipeline.runtime.plan.isolated_source, pipeline.runtime.stages.isolated_reader, pipeline.originals.preview"
    )
    code = f"import sys, {modules}\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "pipeline.runtime.stages.isolated_reader" in loaded
    assert not {"torch", "transformers", "ray", "pydantic"} & set(loaded)
