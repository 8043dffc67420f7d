"""A run, from options to committed parts. Only `ray_backend` imports Ray."""

from pipeline.runtime.errors import RunFailed, TooMuchQuarantined, UsageError
from pipeline.runtime.options import RunOptions

__all__ = ["RunFailed", "RunOptions", "TooMuchQuarantined", "UsageError"]
