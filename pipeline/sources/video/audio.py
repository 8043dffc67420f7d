"""The sound of a film by time: mono, at the rate that is asked for, silent where the track has nothing.

The same samples come out wherever decoding began. For that every stretch is resampled by itself, from a whole second of
the track's own clock, at which the grids of samples before and after meet, and at least half a second early, so that
neither the decoder's first frames nor the filter's edge are in it.
"""

from __future__ import annotations

import math
from fractions import Fraction

import av
import numpy as np
from av.audio.frame import AudioFrame

from pipeline.media import BadMedium
from pipeline.sources.video.audio_track import Track, joined
from pipeline.sources.video.video_file import Film

_LEAD = Fraction(1, 2)  # seconds
_TAIL = Fraction(1, 10)
_BLOCK = 4096  # samples that the resampler is given at a time


class Sound:
    """A film's sound track. The film is the track's own: reading moves through it. Times must not go back.

    has_track: whether there is one; all is silent where there is none.
    """

    def __init__(self, film: Film, rate: int) -> None:
        self._film, self._rate = film, rate
        self.has_track = film.sound is not None
        self._track = Track(film) if film.sound is not None else None

    def samples(self, time: float, count: int) -> np.ndarray:
        """float32 [count] in [-1, 1] from a time in seconds on. BadMedium where the track is damaged there."""
        if self._track is None:
            return np.zeros(count, np.float32)
        if not self._track.rate:
            raise BadMedium("the sound track is of a kind that cannot be decoded")
        # All on the container's clock from here on.
        first = round(time * self._rate) + round(self._film.start * self._rate)
        whole = math.floor(Fraction(first, self._rate) - _LEAD)
        end = Fraction(first + count, self._rate) + _TAIL
        heard = _resampled(self._track.between(whole, end), self._track.rate, self._rate)
        self._track.check(Fraction(first, self._rate), Fraction(first + count, self._rate))
        skipped = first - whole * self._rate
        samples = np.zeros(count, np.float32)
        found = heard[skipped : skipped + count]
        samples[: len(found)] = found.clip(-1, 1)
        return samples


def _resampled(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """float32 mono samples at another rate."""
    if rate == new_rate:
        return samples
    resampler = av.AudioResampler("fltp", "mono", new_rate)
    frames: list[AudioFrame] = []
    for at in range(0, len(samples), _BLOCK):
        frame = AudioFrame.from_ndarray(samples[None, at : at + _BLOCK], format="fltp", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), at
        frames += resampler.resample(frame)
    return joined(frames + resampler.resample(None))
