"""A film: an opened video file, its picture and sound tracks, and its clock. Second 0 is where the pictures start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from functools import cached_property

import av
from av.audio.stream import AudioStream
from av.packet import Packet
from av.stream import Discard, Stream

from pipeline.sources.open_version import open_planned
from pipeline.sources.video.container import Watched, decode, ends_inside_packet, open_container, picture_track
from pipeline.sources.video.container_index import Index
from pipeline.storage import Store

_USUAL_RATE = 25.0  # frames a second, where a file says nothing


@contextmanager
def open_film(store: Store, key: str, version: str) -> Iterator[Film]:
    """The film of a file of the planned version. BadMedium where it is none; what the store raises is raised as is."""
    with open_planned(store, key, version) as file:
        watched = Watched(file)
        try:
            film = Film(watched)
            try:
                yield film
            finally:
                film.container.close()
        except Exception:
            if watched.error is not None:
                raise watched.error from None
            raise


class Film:
    """An opened film. Times are in seconds from second 0.

    video, sound: the tracks; sound is None where there is none. rate: average frames a second, a guess where frames
    come at any time. declared: the second at which the picture track ends according to the container, None where it
    does not say. expected: the same or an estimate, for plans. ragged: it was cut short, as the file alone tells.
    """

    def __init__(self, file: Watched) -> None:
        self._file = file
        ragged = ends_inside_packet(file)
        self._open()
        self.ragged = ragged and self._is("mpegts")
        self._start = self._first_pts() * self._tick
        self.expected = self._expected()
        self.declared = None if self._is("mpegts") else self.expected
        if self._is("avi"):  # FFmpeg cuts the duration to what it finds in the file; the header still counts frames
            self.declared = max(self.expected or 0.0, float(self.video.frames * self._tick))

    def _open(self) -> None:
        """From the file's beginning."""
        self._file.seek(0)
        self.container = open_container(self._file)
        try:
            self.video = picture_track(self.container)
        except BaseException:
            self.container.close()
            raise
        self.sound: AudioStream | None = self.container.streams.best("audio")  # type: ignore[assignment]
        self._index = Index(self.container.format.name, self.video)
        self._moved = False

    def rewind(self) -> None:
        """Back to the first packet. Seeking does not lead there in every container."""
        if self._moved:
            self.container.close()
            self._open()

    def check(self) -> None:
        """Raise what the store raised meanwhile."""
        if self._file.error is not None:
            raise self._file.error

    def packets(self, *streams: Stream) -> Iterator[Packet[Stream]]:
        """The packets of the streams from here to the end. What FFmpeg raises, and what the store does, is raised."""
        for stream in self.container.streams:
            stream.discard = Discard.default if stream in streams else Discard.all
        self._moved = True
        for packet in self.container.demux(*streams):
            self.check()
            if packet.size:  # the last ones are empty, and so are frames that an AVI repeats
                yield packet
        self.check()

    def measured(self) -> float:
        """The second at which the picture track's packets end: the whole file is read for it, nothing is decoded."""
        packets = self.packets(self.video)
        return max((self.seconds(packet.pts + (packet.duration or 0)) for packet in packets if packet.pts), default=0.0)

    def seek(self, time: float, stream: Stream) -> bool:
        """Go to a key frame at or before the time, or thereabouts; False where the container cannot."""
        self._moved = True
        assert stream.time_base is not None
        with suppress(av.FFmpegError, OverflowError):
            self.container.seek(round((time + self._start) / stream.time_base), stream=stream)
            return True
        self.check()
        return False

    def seconds(self, ticks: int, stream: Stream | None = None) -> float:
        """The time of a time stamp of the stream, by default of the picture track."""
        tick = self._tick if stream is None else stream.time_base
        assert tick is not None
        return float(ticks * tick - self._start)

    @property
    def start(self) -> Fraction:
        """Second 0 on the container's clock."""
        return self._start

    @property
    def rate(self) -> float:
        """Frames a second."""
        rate = self.video.average_rate or self.video.guessed_rate or self.video.base_rate
        return float(rate) if rate and 0 < rate < 10_000 else _USUAL_RATE

    @property
    def tracks_end_apart(self) -> bool:
        """Whether `declared` is the end of the longest track, and not that of the picture track."""
        return self._is("matroska")

    @property
    def counts_frames(self) -> bool:
        """Whether the container knows no time stamps but numbers of packets, in the order of decoding: AVI."""
        return self._is("avi")

    @cached_property
    def delay(self) -> int:
        """How many frames the decoder takes in before it gives the first one. The film is at its beginning then."""
        self.rewind()
        taken = 0
        for packet in self.packets(self.video):
            with suppress(Exception):  # what is damaged is found when it is played
                if decode(packet):
                    break
            taken += 1
        self.rewind()
        return taken

    def keyframe_within(self, after: float, until: float) -> bool:
        """Whether the container's index has a key frame there; False where it has no index."""
        return self._index.keyframe_within(self._ticks(after), self._ticks(until))

    def number_at(self, packet: Packet[Stream]) -> int | None:
        """How many frames come before the packet in the order of decoding; None where the container lists not all."""
        return self._index.number_at(packet)

    def stored(self, size: int) -> float | None:
        """Up to when the frames lie in a file of that many bytes, where the index tells of some that do not."""
        missing = self._index.missing_from(size)
        return None if missing is None else self.seconds(missing)

    def _is(self, container: str) -> bool:
        return container in self.container.format.name

    @property
    def _tick(self) -> Fraction:
        assert self.video.time_base is not None
        return self.video.time_base

    def _ticks(self, time: float) -> int:
        return round((time + self._start) / self._tick)

    def _first_pts(self) -> int:
        """Time stamp of the first frame, in ticks of the picture track."""
        if self.video.start_time is not None:
            return self.video.start_time
        with suppress(av.FFmpegError):
            first = next(self.packets(self.video), None)
            self.rewind()
            if first is not None and first.pts is not None:
                return first.pts
        self.check()
        return 0

    def _expected(self) -> float | None:
        if self.video.duration and not self._is("matroska"):
            return float(self.video.duration * self._tick)
        if self.container.duration:  # of Matroska: the end on its clock
            behind = self._start if self._is("matroska") else 0
            return max(0.0, float(Fraction(self.container.duration, av.time_base) - behind))
        return None
