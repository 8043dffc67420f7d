"""Errors of checkpoints."""


class CheckpointError(ValueError):
    """A checkpoint cannot be used. The message names the file or tensor that is wrong, and holds no secrets."""

    def __init__(self, message: str) -> None:
        from pipeline.storage.redaction import redact  # here: loading a model needs no storage

        super().__init__(redact(message))


class CheckpointChanged(CheckpointError):  # noqa: N818
    """A checkpoint is not the planned one, or changed while it was read. The message has both digests."""
