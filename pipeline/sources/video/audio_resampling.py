"""The audio of a video by time: mono, resampled to a given rate, with silence where the track has no samples.

The samples do not depend on where decoding began. Each window is resampled separately, from a whole second of the
track's own clock, where the sample grids of both rates meet, and at least half a second early, so that neither the
decoder's first frames nor the filter's edge are in it.
"""

import math
from fractions import Fraction

import av
import numpy as np
from av.audio.frame import AudioFrame

from pipeline.media import BadMedium
from pipeline.sources.video.audio_track import AudioTrack, join_mono
from pipeline.sources.video.video_file import VideoFile

_LEAD = Fraction(1, 2)  # seconds decoded before a window
_TAIL = Fraction(1, 10)  # seconds decoded after it
_BLOCK = 4096  # samples given to the resampler at a time


class ResampledAudio:
    """Reads windows of a video's audio at `rate` samples per second. It moves the position of `video`.

    Attributes:
        has_track: whether the video has an audio track.
    """

    def __init__(self, video: VideoFile, rate: int) -> None:
        self._video, self._rate = video, rate
        self.has_track = video.audio_stream is not None
        self._track = AudioTrack(video) if self.has_track else None

    def read(self, time: float, count: int) -> np.ndarray:
        """Return samples float32 [count] in [-1, 1] from a time in seconds, not earlier than that of the last call.

        Zeros without an audio track. Raise BadMedium if the codec is not supported or the track is damaged there.
        """
        samples = np.zeros(count, np.float32)
        if self._track is None:
            return samples
        if not self._track.rate:
            raise BadMedium("the codec of the audio track is not supported")
        # From here on, times are on the container's clock.
        first = round(time * self._rate) + round(self._video.start * self._rate)
        begin, end = Fraction(first, self._rate), Fraction(first + count, self._rate)
        second = math.floor(begin - _LEAD)
        resampled = _resample(self._track.read(second, end + _TAIL), self._track.rate, self._rate)
        self._track.raise_damage(begin, end)
        window = resampled[first - second * self._rate :][:count]
        samples[: len(window)] = window.clip(-1, 1)
        return samples


def _resample(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Resample mono float32 samples from `rate` to `new_rate` samples per second."""
    if rate == new_rate:
        return samples
    resampler = av.AudioResampler("fltp", "mono", new_rate)
    frames: list[AudioFrame] = []
    for at in range(0, len(samples), _BLOCK):
        frame = AudioFrame.from_ndarray(samples[None, at : at + _BLOCK], format="fltp", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), at
        frames += resampler.resample(frame)
    return join_mono(frames + resampler.resample(None))
