"""A run: from options to committed parts. The only part that imports Ray, and only where it is used."""

from pipeline.runtime.errors import RunFailed, TooMuchQuarantined, UsageError
from pipeline.runtime.options import RunOptions

__all__ = ["RunFailed", "RunOptions", "TooMuchQuarantined", "UsageError"]
