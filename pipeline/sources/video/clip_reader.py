"""Clips of a film: frames at even distances, each reduced as soon as it is decoded, with the sound of that time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pipeline.media import Clip, ClipSpec
from pipeline.sources.video.audio import Sound
from pipeline.sources.video.frame import Shot
from pipeline.sources.video.frame_lookup import Player
from pipeline.sources.video.piece_planning import clip_times
from pipeline.storage import AccessError


class Clips:
    """What makes clips of one film, `stride` seconds from one's start to the next one's.

    pad: whether the clip that the film is too short for is padded, by its last frame, or left out. sound: opens the
    sound when the first clip is there.
    """

    def __init__(self, player: Player, clip: ClipSpec, stride: float, *, pad: bool, sound: Callable[[], Sound]) -> None:
        self._player, self._clip, self._stride, self._pad, self._sound = player, clip, stride, pad, sound
        self._open: dict[int, list[Any]] = {}  # reduced frames, or errors, of the clips that are not full yet
        self._last: tuple[Shot | None, Any] = None, None

    def between(self, begin: int, end: int | None) -> Iterator[tuple[float, Any]]:
        """(seconds, medium or the error that took it) of clips `begin`…`end`. A film that ends too early is one error
        more, at the first clip that it lacks."""
        following = begin
        for time, number in clip_times(self._clip, self._stride, begin, end):
            shot = self._player.shown_at(time)
            if shot is None:
                yield from self._over(following)
                return
            frames = self._open.setdefault(number, [])
            frames.append(self._reduced(shot))
            if len(frames) == self._clip.frames:
                following = number + 1
                yield number * self._stride, self._medium(number, self._open.pop(number))

    def _over(self, number: int) -> Iterator[tuple[float, Any]]:
        """What becomes of the first clip that the film is too short for."""
        start = number * self._stride
        if self._player.cut is not None:
            yield start, self._player.cut
        elif self._pad and (frames := self._open.get(number)) and not self._covered(number):
            yield start, self._medium(number, frames)

    def _covered(self, number: int) -> bool:
        """Whether the clip before it shows all that the film has."""
        end = self._player.end or 0.0
        return number > 0 and (number - 1) * self._stride + self._clip.seconds >= end - self._player.tolerance

    def _reduced(self, shot: Shot) -> Any:
        """The shot's frame as clips hold it, or its error; a shot that is shown several times is reduced once."""
        if self._last[0] is not shot:
            try:
                self._last = shot, self._clip.reduce(shot.picture)
            except Exception as error:  # noqa: BLE001  conversions raise anything at all: it costs the clips of this shot
                self._last = shot, error
        return self._last[1]

    def _medium(self, number: int, frames: list[Any]) -> Any:
        """The medium, its last frame repeated where frames lack; the error where one is among them."""
        start, padded = number * self._stride, self._clip.frames - len(frames)
        if error := next((frame for frame in frames if isinstance(frame, Exception)), None):
            return error
        try:
            sound = self._sound()
            samples = sound.samples(start, self._clip.samples)
            end = start + self._clip.seconds
            if padded:  # the video has ended, so its end is known
                assert self._player.end is not None
                end = self._player.end
            return Clip(
                frames=np.stack([*frames, *[frames[-1]] * padded]),
                samples=samples,
                has_audio=sound.has_track,
                clip_index=number,
                start_seconds=start,
                end_seconds=end,
                padded_frames=padded,
            )
        except AccessError:
            raise
        except Exception as error:  # noqa: BLE001  what reads sound raises anything at all: it costs this clip
            return error
