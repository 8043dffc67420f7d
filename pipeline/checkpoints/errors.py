"""Errors of checkpoints."""


class CheckpointError(ValueError):
    """A checkpoint cannot be used. The message names the file or tensor that is wrong."""


class CheckpointChanged(CheckpointError):  # noqa: N818
    """A checkpoint is not the planned one, or changed while it was read. The message has both digests."""
