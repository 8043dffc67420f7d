"""Small versions of media, made in the child process that reads them. Imports numpy and Pillow only."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from pipeline.media import Clip, FramePair, MediumKind
from pipeline.sandbox import Started
from pipeline.sources.source import Piece, Source
from pipeline.storage import Store, redact

IMAGE_SIDE = 200  # pixels, of the longer side
FRAME_SIDE = 400
TEXT_LETTERS = 2000
_REASON_LETTERS = 300


@dataclass(frozen=True)
class InputReader:
    """A configured source. Small: it is sent to a child process. `fps`, `sample_rate`: of clips."""

    source: Source
    medium: MediumKind
    fps: float = 25.0
    sample_rate: int = 48_000


@dataclass(frozen=True, kw_only=True)
class Preview:
    """A small version of one medium.

    Attributes:
        frames: uint8 [T, h, w, 3]: one image, two frames of a pair, all frames of a clip; None of a text.
        samples: audio of a clip, float32 [S]; None if it has none.
        text: beginning of a text.
        letters: of the whole text.
    """

    frames: np.ndarray | None = None
    samples: np.ndarray | None = None
    fps: float = 25.0
    sample_rate: int = 48_000
    text: str = ""
    letters: int = 0


def read_previews(
    reader: InputReader, folder: str, piece: Piece, wanted: frozenset[str], done: int
) -> Iterator[Started | tuple[str, Preview | None, str]]:
    """In the sandbox: yield (id, preview, reason) of the wanted units of a piece but the first `done` of them.

    `reason`: why there is no preview. A unit that is skipped gives `Started` too: each of them has its own time limit.
    """
    number = 0
    for unit in reader.source.units(Store(folder), piece):
        if unit.id not in wanted:
            yield Started(unit.id)
            continue
        number += 1
        if number <= done:
            continue
        yield Started(unit.id)
        try:
            yield unit.id, _preview(reader, unit.decode()), ""
        except Exception as error:  # noqa: BLE001 - decoders raise anything
            reason = f"{type(error).__name__}: {redact(str(error))}"
            yield unit.id, None, reason[:_REASON_LETTERS]
        if number == len(wanted):
            return


def shrink(pixels: np.ndarray, side: int) -> np.ndarray:
    """Return an image uint8 [H, W, 3] whose longer side has at most `side` pixels; a smaller one is unchanged."""
    height, width = pixels.shape[:2]
    if max(height, width) <= side:
        return pixels
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.LANCZOS))


def _preview(reader: InputReader, medium: Any) -> Preview:
    if isinstance(medium, str | bytes):
        text = medium if isinstance(medium, str) else medium.decode(errors="replace")
        return Preview(text=text[:TEXT_LETTERS], letters=len(text))
    if isinstance(medium, FramePair):
        return Preview(frames=np.stack([shrink(frame, FRAME_SIDE) for frame in medium.frames]))
    if isinstance(medium, Clip):
        samples = medium.samples if medium.has_audio else None
        return Preview(frames=medium.frames, samples=samples, fps=reader.fps, sample_rate=reader.sample_rate)
    return Preview(frames=shrink(medium, IMAGE_SIDE)[None])
