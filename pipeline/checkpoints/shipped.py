"""The small trained checkpoints that the package contains: `demo` is that of a task."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.checkpoints.errors import CheckpointError
from pipeline.formatting import did_you_mean

DEMO = "demo"
SHIPPED: Mapping[str, str] = {
    "fourier": "image-classification",
    "learned": "image-classification",
    "conv": "image-classification",
    "letters": "image-classification",
    "text-classification": "text-classification",
    "fill-mask": "fill-mask",
    "optical-flow": "optical-flow",
    "multimodal-autoencoding": "multimodal-autoencoding",
}
"""The task of each shipped checkpoint, by its name after `demo:`. The first of a task is its `demo`."""

FOLDER = Path(__file__).parent / DEMO


def shipped_ref(ref: str, task: str) -> str:
    """Return `demo:NAME` for the ref `demo`, by the task; any other ref unchanged.

    A local folder `demo` with a config.json is used instead. feature-extraction reads images with it.
    """
    if ref != DEMO or Path(DEMO, "config.json").is_file():
        return ref
    wanted = "image-classification" if task == "feature-extraction" else task
    name = next(name for name, its_task in SHIPPED.items() if its_task == wanted)
    return f"{DEMO}:{name}"


def is_shipped(ref: str) -> bool:
    """Return whether a ref names a shipped checkpoint, `demo:NAME`, or means one, `demo`."""
    return ref == DEMO or ref.startswith(f"{DEMO}:")


def shipped_folder(ref: str) -> Path:
    """Return the folder of the shipped checkpoint `demo:NAME`; CheckpointError, with all names, for any other ref."""
    name = ref.removeprefix(f"{DEMO}:")
    if name not in SHIPPED:
        known = ", ".join(f"{DEMO}:{each}" for each in SHIPPED)
        raise CheckpointError(
            f"checkpoint {ref} must name one of the shipped ones{did_you_mean(name, SHIPPED)}: {known}"
        )
    return FOLDER / name
