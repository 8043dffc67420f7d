"""Batch inference for Perceiver IO on Ray."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.results import Results as Results
    from pipeline.results import open_run as open_run

# Names of the Python API and their modules, imported at first use: `import pipeline.perceiver` loads none of them.
_MODULES = {
    "Results": "pipeline.results",
    "open_run": "pipeline.results",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
