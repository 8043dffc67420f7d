"""Files that are not videos, are cut short, damaged or hostile: only their units fail, and no other file is opened."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.media import BadMedium
from pipeline.sources.source import Unit
from pipeline.sources.video_source import VIDEO
from tests.sample_videos import make_video, noise
from tests.sources.planned_videos import numbers, planned, units
from tests.sources.test_clip_reader import SPEC

CUT_INDEX_FIRST = {"movflags": "faststart"}


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """Yield the address of a server on loopback and the paths that were requested of it."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", requests
    server.shutdown()
    server.server_close()


ASF_START = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + bytes(14)
MXF_START = bytes.fromhex("060e2b34020501010d0102010102040083000000")
# Contents of files that make FFmpeg open other files or URLs.
SCRIPTS = {
    "playlist": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://{address}/a.ts\n#EXT-X-ENDLIST\n",
    "local playlist": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{folder}/secret.ts\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile 'http://{address}/a.ts'\nfile '{folder}/secret.ts'\n",
    "ffconcat relative": "ffconcat version 1.0\nfile 'secret.ts'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 50004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
}


def one_error(path: Path, **options: object) -> Unit:
    source, store, (piece,) = planned(path, **options)
    assert (piece.begin, piece.end, piece.units) == (None, None, 1)
    (unit,) = source.units(store, piece)
    assert unit.id == path.name
    assert isinstance(unit.error, BadMedium)
    assert unit.medium is None
    return unit


# Playlists of other players.
PLAYLISTS = {
    "asx": "<asx version='3.0'><entry><ref href='http://{address}/a.wmv'/></entry></asx>",
    "reference": "[Reference]\nRef1=http://{address}/a.wmv\nRef2=file://{folder}/secret.ts\n",
    "smil": "<smil><body><video src='http://{address}/a.mpg'/></body></smil>",
    "addresses": "http://{address}/a.ts\nfile://{folder}/secret.ts\nconcat:{folder}/secret.ts\n",
}
# How files of each container begin.
STARTS = (b"\0\0\x01\xba" + bytes(10), b"FLV\x01\x05\0\0\0\x09\0\0\0\0", ASF_START, MXF_START, b"G" + bytes(187))


@pytest.mark.parametrize("script", [*SCRIPTS, *PLAYLISTS])
def test_file_named_in_a_video_file_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, listener: tuple[str, list[str]]
) -> None:
    address, requests = listener
    make_video(tmp_path / "secret.ts")
    monkeypatch.chdir(tmp_path)
    content = (SCRIPTS | PLAYLISTS)[script].format(address=address, folder=tmp_path).encode()
    for extension in (*VIDEO.extensions, ".m3u8", ".sdp"):
        path = tmp_path / f"video{extension}"
        path.write_bytes(content)
        assert "is not a supported video file" in str(one_error(path).error)
        for start in STARTS:
            path.write_bytes(start + content)
            assert isinstance(one_error(path).error, BadMedium)
    assert requests == []


@pytest.mark.parametrize("script", ["playlist", "local playlist", "ffconcat relative"])
def test_ffmpeg_without_restrictions_opens_named_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, listener: tuple[str, list[str]]
) -> None:
    """Without this, the test above could not fail."""
    address, requests = listener
    make_video(tmp_path / "secret.ts")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "video.m3u8"
    path.write_text(SCRIPTS[script].format(address=address, folder=tmp_path))
    frames = 0
    with path.open("rb") as file, suppress(av.FFmpegError), av.open(file) as container:
        frames = len(list(container.decode(video=0)))
    assert (frames, requests) == ((0, ["/a.ts"]) if script == "playlist" else (50, []))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file (0 bytes) is not a supported video file"),
        (b"<html>moved</html>", "an HTML file is not a supported video file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is not a supported video file"),
        (bytes(5000), "a file that starts with 00 00 00 00 00 00 00 00 is not a supported video file"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isomisom" + bytes(64), "truncated or damaged MP4"),
    ],
)
def test_error_of_a_file_that_is_not_a_video_says_what_it_is(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    assert message in str(one_error(tmp_path / "a.mp4").error)


def test_file_with_audio_only_is_an_error(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert str(one_error(tmp_path / "a.mp4").error) == "no video stream, only audio"


def test_video_without_frames_is_an_error(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", 0.0, audio_rate=48000, audio_seconds=1.0)
    (unit,) = units(path)
    assert isinstance(unit.error, BadMedium)
    assert "0 frames" in str(unit.error)


def test_huge_frame_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.sources.video import container

    path = make_video(tmp_path / "a.mp4", 0.2, (640, 480))
    monkeypatch.setattr(container, "MAX_PIXELS", 640 * 480 - 1)
    assert "640 by 480 pixels are too many" in str(one_error(path).error)


def cut(path: Path, part: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    return path


def test_mp4_cut_before_its_index_is_one_unit(tmp_path: Path) -> None:
    path = cut(make_video(tmp_path / "a.mp4", 4, draw=noise), 0.6)
    assert "truncated or damaged MP4" in str(one_error(path).error)
    assert one_error(path, medium="clip", clip_spec=SPEC).id == "a.mp4"


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.avi"])
@pytest.mark.parametrize("piece_units", [None, 10])
def test_video_cut_short_gives_its_pairs_and_one_error(tmp_path: Path, name: str, piece_units: int | None) -> None:
    options = CUT_INDEX_FIRST if name in ("a.mp4", "a.mov") else None
    path = make_video(tmp_path / name, 10, draw=noise, format_options=options, audio_rate=48000)
    found = units(cut(path, 0.4), piece_units=piece_units)
    good = [unit for unit in found if unit.error is None]
    assert 80 < len(good) < 105
    assert [unit.medium.frame_index for unit in good] == list(range(len(good)))
    bad = found[len(good) :]
    if name in ("a.mp4", "a.mov"):  # the index tells which frames lie in the file
        assert len(bad) == 1
    assert bad
    assert len({unit.id for unit in found}) == len(found)
    for unit in bad:
        assert isinstance(unit.error, BadMedium)
        assert "declares 10.0 s" in str(unit.error) or "damaged" in str(unit.error)
    assert "declares 10.0 s" in str(bad[-1].error)


@pytest.mark.parametrize("options", [{"fps": 5.0}, {"medium": "clip", "clip_spec": SPEC}])
def test_pairs_at_a_rate_and_clips_of_a_video_cut_short_end_with_an_error(
    tmp_path: Path, options: dict[str, object]
) -> None:
    path = make_video(tmp_path / "a.mp4", 10, (96, 64), draw=noise, format_options=CUT_INDEX_FIRST, audio_rate=48000)
    *good, bad = units(cut(path, 0.4), **options)
    assert len(good) > 3
    assert all(unit.error is None for unit in good)
    assert all(getattr(unit.medium, "padded_frames", 0) == 0 for unit in good)
    assert "declares 10.0 s" in str(bad.error)
    assert bad.id not in {unit.id for unit in good}


@pytest.mark.parametrize("piece_units", [None, 10])
def test_transport_stream_cut_inside_a_packet_gives_its_pairs_and_one_error(
    tmp_path: Path, piece_units: int | None
) -> None:
    """A transport stream does not declare its length, but its packets have a fixed one."""
    path = make_video(tmp_path / "a.ts", 10, draw=noise)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.4) // 188 * 188 + 100])
    *good, bad = units(path, piece_units=piece_units)
    assert 80 < len(good) < 105
    assert all(unit.error is None for unit in good)
    assert "inside a packet: the file was cut short" in str(bad.error)
    assert bad.id not in {unit.id for unit in good}


def test_damage_affects_pairs_up_to_the_next_key_frame(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", 4, b_frames=0, gop=25)
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    at, size = packets[30]
    data = bytearray(path.read_bytes())
    data[at + size // 3 : at + size] = bytes(size - size // 3)  # no valid NAL unit follows
    begin = data.find(b"\xa3", at) if data[at] != 0xA3 else at
    data[begin + 8 : begin + 12] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    for piece_units in (None, 5):
        found = units(path, piece_units=piece_units)
        good = [numbers(unit) for unit in found if unit.error is None]
        assert good == [pair for pair in pairwise(range(100)) if pair[1] < 30 or pair[0] >= 50]
        bad = [unit for unit in found if unit.error is not None]
        assert bad
        assert all("damaged" in str(unit.error) for unit in bad)
    (spaced,) = [units(path, fps=1.0)]
    assert [unit.error is None for unit in spaced] == [True, True, True]  # the frames at 0, 1, 2 and 3 s are intact


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.avi", "a.ts"])
def test_mutated_files_never_raise(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    whole = make_video(tmp_path / name, 1.0, audio_rate=48000, audio_codec="libopus" if name == "a.webm" else None)
    data, path = whole.read_bytes(), tmp_path / f"mutated{whole.suffix}"
    failed = 0
    for seed in range(12):
        random = np.random.default_rng(seed)
        mutated = bytearray(data)
        for at in random.integers(0, len(data) if seed % 2 else 1500, random.integers(1, 60)):
            mutated[at] = random.integers(256)
        path.write_bytes(mutated)
        for options in ({}, {"fps": 7.0}, {"medium": "clip", "clip_spec": SPEC, "piece_units": 1}):
            found = units(path, **options)
            assert found
            assert len(found) < 20_000  # a mutated frame rate makes a long video
            assert all((unit.error is None) != (unit.medium is None) for unit in found)
            failed += sum(unit.error is not None for unit in found)
    assert failed
    assert capfd.readouterr().err == ""


def test_wrong_declared_length_does_not_make_an_endless_plan(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", 2.0)
    data = bytearray(path.read_bytes())
    at = data.index(b"\x44\x89\x88")  # Duration, a float64 in milliseconds
    data[at + 3 : at + 11] = np.array([1e15], ">f8").tobytes()
    path.write_bytes(data)
    source, store, pieces = planned(path, piece_units=10)
    assert len(pieces) < 200
    found = [unit for piece in pieces for unit in source.units(store, piece)]
    assert [numbers(unit) for unit in found if unit.error is None] == list(pairwise(range(50)))
    assert "declares 1000000000000.0 s" in str(found[-1].error)


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_frame_shown_for_hours_does_not_make_endless_units(tmp_path: Path, name: str) -> None:
    """One damaged time stamp suffices for such a frame. Pairs of consecutive frames are not affected."""
    path = make_video(tmp_path / name, times=[0.0, 0.5, 1.0, 9000.0, 9000.5])
    assert [unit.error for unit in units(path)] == [None] * 4
    for options in ({"fps": 2.0}, {"medium": "clip", "clip_spec": SPEC}):
        found, pieces = units(path, **options), planned(path, **options)[2]
        errors = [str(unit.error) for unit in found if unit.error is not None]
        assert 0 < len(found) - len(errors) < 3
        assert 0 < len(errors) <= len(pieces) < 20
        assert all("this frame is shown for 2.5 hours, at most 1 is allowed" in error for error in errors)


def test_avi_with_frames_days_apart_does_not_make_an_endless_plan(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.avi", 1.0)
    data = bytearray(path.read_bytes())
    at = data.index(b"vids") + 20  # the duration of a frame is a quotient of two numbers
    data[at : at + 8] = np.array([2**31 - 1, 1000], "<u4").tobytes()
    path.write_bytes(data)
    for options in ({"fps": 5.0}, {"medium": "clip", "clip_spec": SPEC}):
        _, _, pieces = planned(path, **options)
        assert len(pieces) < 100
        assert all("hours, at most 1 is allowed" in str(unit.error) for unit in units(path, **options))
