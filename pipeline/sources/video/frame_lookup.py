"""The frames of a film by the time that each is shown: from its time stamp to that of the next one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from pipeline.media import BadMedium
from pipeline.sources.video.decoder import Decoding
from pipeline.sources.video.frame import Shot
from pipeline.sources.video.video_file import Film

_TOLERANCE = 1e-3  # seconds by which a frame may be late and still counts: containers round time stamps to milliseconds
_EARLIER = 3  # key frames that are tried before reading begins with the film
_JUMP = 5.0  # seconds that are not decoded where no index tells of key frames
_LONGEST = 3600.0  # seconds that a frame may be shown: one damaged time stamp would make a billion units of it


class Player:
    """Plays a film's picture track, from any time on.

    end: the second at which it ends, known once it has been played to its end. cut: then, why it ends before it should.
    tolerance: seconds by which a frame may be late and still counts as shown at a time.
    """

    def __init__(self, film: Film) -> None:
        self.tolerance = min(_TOLERANCE, 0.5 / film.rate)
        self.film = film
        self.end: float | None = None
        self.cut: Exception | None = None
        self._shots: Iterator[Shot] = iter(())
        self._now: Shot | None = None
        self._next: Shot | None = None

    def shown_at(self, time: float) -> Shot | None:
        """What is shown at a time, None behind the end, and where one frame would be shown for hours: there `cut` says
        so. Times that are asked for must not go back."""
        if self._now is None or self._worth_a_jump(time):
            self._shots = self.shots(time + self.tolerance)
            self._now, self._next = next(self._shots, None), next(self._shots, None)
        while self._next is not None and self._next.time <= time + self.tolerance:
            self._now, self._next = self._next, next(self._shots, None)
        over = self._next is None and (self.end is None or time >= self.end - self.tolerance)
        return None if over or self._is_endless() else self._now

    def _is_endless(self) -> bool:
        """Whether what is shown now is shown for longer than a frame may be; then `cut` says so."""
        until = self.end if self._next is None else self._next.time
        if self._now is None or until is None or until - self._now.time <= _LONGEST:
            return False
        self.cut = BadMedium(
            f"damaged at {self._now.time:.3f} s: by its time stamps this frame is shown for "
            f"{(until - self._now.time) / 3600:,.1f} hours, and {_LONGEST / 3600:g} are allowed"
        )
        return True

    def _worth_a_jump(self, time: float) -> bool:
        """Whether to seek, rather than to decode all that lies between."""
        if self._next is None or time <= self._next.time:
            return False
        return time - self._next.time > _JUMP or self.film.keyframe_within(self._next.time + self.tolerance, time)

    def shots(self, time: float) -> Iterator[Shot]:
        """What is shown from a time on, first what is shown at that time. At the end, `end` and `cut` are known."""
        before: Shot | None = None
        decoding, shots = self._decoding(time)
        for shot in shots:
            if shot.time <= time:
                before = shot
                continue
            if before is not None:
                yield before
                before = None
            yield shot
        self.end, self.cut = decoding.end, decoding.cut
        if before is not None:
            yield before

    def _decoding(self, time: float) -> tuple[Decoding, Iterator[Shot]]:
        """One that shows what is shown at a time, and its shots. From where a picture is refreshed bit by bit, which
        containers call a key frame as well, a decoder gives nothing until all of it is there."""
        begin = time
        for tried in range(_EARLIER + 2):
            decoding = Decoding(self.film, begin)
            shots = decoding.shots()
            first = next(shots, None)
            if decoding.began is None or (first is not None and first.time <= time):
                break
            begin = decoding.began - self.tolerance if tried < _EARLIER else 0.0
        return decoding, shots if first is None else chain([first], shots)
