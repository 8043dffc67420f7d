"""Clips as small MP4 files with sound, which every browser plays."""

import io
from fractions import Fraction

import numpy as np

_CRF = "23"  # x264 quality, from 0 (lossless) to 51: half the bytes of what a run stores
_AUDIO_RATE = 48_000  # samples per second; AAC supports a few rates only
_AUDIO_BITS = 96_000  # per second


def clip_mp4(frames: np.ndarray, fps: float, samples: np.ndarray | None, sample_rate: int) -> bytes:
    """Encode frames uint8 [T, H, W, 3] as H.264, and samples float32 [S] in [-1, 1], unless None, as AAC."""
    import av

    file = io.BytesIO()
    options = {"movflags": "faststart"}

    def open_again(url: str, flags: int, options: dict[str, str]) -> io.BytesIO:  # noqa: ARG001
        return io.BytesIO(file.getvalue())  # moving the index to the front reads the file while it is written

    with av.open(file, "w", format="mp4", options=options, io_open=open_again) as container:
        video = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000), options={"crf": _CRF})
        height, width = frames.shape[1] // 2 * 2, frames.shape[2] // 2 * 2  # 4:2:0 needs even sides
        video.width, video.height, video.pix_fmt = max(2, width), max(2, height), "yuv420p"
        audio = None
        if samples is not None:
            audio = container.add_stream("aac", rate=_AUDIO_RATE, layout="mono")
            audio.bit_rate = _AUDIO_BITS
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(video.encode(frame.reformat(video.width, video.height, "yuv420p")))
        container.mux(video.encode(None))
        if audio is not None and samples is not None:
            resampler = av.AudioResampler(format="fltp", layout="mono", rate=_AUDIO_RATE)
            sound = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None], np.float32), "fltp", "mono")
            sound.sample_rate, sound.pts = sample_rate, 0
            for part in (*resampler.resample(sound), *resampler.resample(None)):
                container.mux(audio.encode(part))
            container.mux(audio.encode(None))
    return file.getvalue()
