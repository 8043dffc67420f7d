"""Batch inference for Perceiver IO on Ray."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.checkpoints import CheckpointError as CheckpointError
    from pipeline.comparison import Comparison as Comparison
    from pipeline.comparison import compare as compare
    from pipeline.media import Clip as Clip
    from pipeline.media import FramePair as FramePair
    from pipeline.predictor.predictor import Predictor as Predictor
    from pipeline.python_api import RunResult as RunResult
    from pipeline.python_api import plan as plan
    from pipeline.python_api import run as run
    from pipeline.results import Results as Results
    from pipeline.results import open_run as open_run
    from pipeline.runtime.errors import RunFailed as RunFailed
    from pipeline.runtime.errors import TooMuchQuarantined as TooMuchQuarantined
    from pipeline.runtime.errors import UsageError as UsageError
    from pipeline.sinks.parts import Quarantined as Quarantined
    from pipeline.storage import AccessError as AccessError
    from pipeline.storage import StorageError as StorageError

# Names of the Python API and their modules, imported at first use: `import pipeline.perceiver` loads none of them.
_MODULES = {
    "AccessError": "pipeline.storage",
    "CheckpointError": "pipeline.checkpoints",
    "Clip": "pipeline.media",
    "Comparison": "pipeline.comparison",
    "FramePair": "pipeline.media",
    "Predictor": "pipeline.predictor.predictor",
    "Quarantined": "pipeline.sinks.parts",
    "Results": "pipeline.results",
    "RunFailed": "pipeline.runtime.errors",
    "RunResult": "pipeline.python_api",
    "StorageError": "pipeline.storage",
    "TooMuchQuarantined": "pipeline.runtime.errors",
    "UsageError": "pipeline.runtime.errors",
    "compare": "pipeline.comparison",
    "open_run": "pipeline.results",
    "plan": "pipeline.python_api",
    "run": "pipeline.python_api",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
