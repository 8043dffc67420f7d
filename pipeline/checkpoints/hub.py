"""Checkpoints on the Hugging Face Hub, through its own client, whose errors are raised as they are."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.checkpoints.files import CONFIG_FILES, PICKLED, SAFETENSORS


def download_from_hub(name: str) -> Path:
    """Return the Hub's cached folder of a checkpoint, with what was missing in it downloaded.

    Requests are retried, but for the first one if there is no network at all. Raises what the Hub's client does.
    """
    from pipeline.storage.retry import with_retry

    with_retry(lambda: _reach_hub(name))  # first, so that a wrong name, or no network at all, is said at once
    return with_retry(lambda: _hub_snapshot(name))


def hub_config(name: str) -> Path:
    """Return the folder of config.json of a checkpoint on the Hub."""
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(name, "config.json")).parent


def _reach_hub(name: str) -> None:
    """Download config.json. Raise _Unreachable, which is not retried, if the name of the Hub's host is not found."""
    try:
        with _real_errors():
            hub_config(name)
    except Exception as error:
        if any(isinstance(cause, socket.gaierror) for cause in _chain(error)):
            raise _Unreachable(str(error)) from None
        raise


class _Unreachable(Exception):  # noqa: N818 - a state of the network
    """There is no way to the Hub: no network, or one without it."""


def _hub_snapshot(name: str) -> Path:
    """Download what is missing in the Hub's cache. Raise what the Hub's client does, if the Hub cannot be reached."""
    from huggingface_hub import HfApi, snapshot_download

    with _real_errors():
        for single, index in (SAFETENSORS, PICKLED):
            patterns = [*CONFIG_FILES, single.replace(".", "*."), index]
            folder = Path(snapshot_download(name, allow_patterns=patterns))
            if (folder / single).is_file() or (folder / index).is_file():
                return folder
    HfApi().model_info(name)  # raises if the Hub cannot be reached, and the files in the cache are not all
    return folder


@contextmanager
def _real_errors() -> Iterator[None]:
    """Raise why the Hub did not answer, which its client hides behind the error of a file that is not in its cache."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        yield
    except LocalEntryNotFoundError as error:
        cause = error.__cause__
        if not isinstance(cause, Exception) or isinstance(cause, OfflineModeIsEnabled):
            raise
    else:
        return
    raise cause  # outside of the block above, so that it keeps its own cause


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was raised from or during."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__
