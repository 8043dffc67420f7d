"""Media: what a source reads for one unit and a head transforms to arrays. Imports numpy only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

MediumKind = Literal["text", "image", "frame_pair", "clip", "array", "latents"]
"""What one unit holds:

- text: a str, or bytes that should be UTF-8.
- image: uint8 [H, W, 3], RGB, upright.
- frame_pair: a `FramePair`.
- clip: a `Clip` of the shape that a `ClipSpec` gives.
- array: float32 [M, C].
- latents: {column: value} of one row of an earlier run, see `SourceOptions.columns`.
"""


class BadMedium(ValueError):  # noqa: N818 - quarantine rows show this name, and it names the medium
    """A medium that cannot be predicted, with the reason in words. Its unit is quarantined."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FramePair:
    """Two consecutive frames of a video or folder.

    Attributes:
        frames: uint8 [2, H, W, 3], RGB, upright.
        frame_index: index of the first frame in its video or folder.
        start_seconds: presentation time of the first frame; None for image files, which have no time.
    """

    frames: np.ndarray
    frame_index: int
    start_seconds: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """A fixed-length part of a video with its audio; T, H, W and S are those of the `ClipSpec`.

    Attributes:
        frames: uint8 [T, H, W, 3], RGB, upright.
        samples: mono audio, float32 [S] in [-1, 1]; zeros if the video has no audio track.
        has_audio: whether the video has an audio track.
        clip_index: index of the clip in its video.
        start_seconds: time of the first frame.
        end_seconds: time at which the clip's content ends.
        padded_frames: number of frames at the end that repeat the last real one.
    """

    frames: np.ndarray
    samples: np.ndarray
    has_audio: bool
    clip_index: int
    start_seconds: float
    end_seconds: float
    padded_frames: int


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """The shape of the clips that a head reads.

    Attributes:
        frames: frames per clip.
        fps: frames per second.
        samples: audio samples per clip.
        sample_rate: audio samples per second.
        reduce: makes a clip's frame from an upright RGB video frame, uint8 [H, W, 3].
    """

    frames: int
    fps: float
    samples: int
    sample_rate: int
    reduce: Callable[[np.ndarray], np.ndarray]

    @property
    def seconds(self) -> float:
        """Length of a clip in seconds."""
        return self.frames / self.fps
