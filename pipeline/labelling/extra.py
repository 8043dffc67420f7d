"""The packages of the extra `labelling`."""

from importlib.util import find_spec

from pipeline.runtime.errors import UsageError

_PACKAGES = ("sklearn", "cleanlab")


def require_extra(what: str) -> None:
    """Raise UsageError, with the command that installs them, if a package is missing. what: what needs them."""
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(f"{what} need the packages of an extra: pip install 'perceiver-pipeline[labelling]'")
