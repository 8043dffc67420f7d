"""Flow as Middlebury colors: an mp4 per source video, with one scale for all of its frames."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from statistics import median

import numpy as np

from pipeline.export.destination import INDEX, Destination
from pipeline.export.exported import Exported, Format, Selection
from pipeline.export.unit_files import put_file
from pipeline.results.flow_colors import flow_colors, typical_length
from pipeline.results.unit_arrays import flow_array
from pipeline.sinks.media import FPS, VideoWriter

COLUMNS = ["flow", "height", "width", "start_seconds", "frame_index"]
_PLACE = re.compile(r"(.+)#\d+(\.\d+)?", re.DOTALL)  # the id of a pair of frames in a file: drive.mp4#12.480
_OTHER_SIZE = "frames of another size than the first of their video, left out"
_LACKING = "videos lack frames between others, which follow each other without a gap"
_NO_TIMES = f"videos are of image files, which have no times: shown at {FPS} frames per second"


@dataclass(kw_only=True)
class _Video:
    """Flow of one source video.

    Attributes:
        frames: by id the place in time and the part of the row; of a unit that was predicted again, the latest.
        lengths: by id the typical length of the motion in pixels.
        size: height and width of the first frame.
        version: of the source, as its last row has it.
    """

    frames: dict[str, tuple[float, str]] = field(default_factory=dict)
    times: dict[str, float | None] = field(default_factory=dict)
    lengths: dict[str, float] = field(default_factory=dict)
    size: tuple[int, int] = (0, 0)
    version: str = ""

    @property
    def scale(self) -> float:
        """Length in pixels of the most saturated color: 99 % of the motion in each frame is shorter."""
        return max(self.lengths.values())

    @property
    def fps(self) -> float:
        """Frames per second, from the median time between frames; FPS if there is no time."""
        return min(240.0, max(0.1, 1 / median(self._gaps))) if self._gaps else float(FPS)

    @property
    def lacks_frames(self) -> bool:
        """Whether the time between some frames is longer than between most: not selected, or without a row."""
        return bool(self._gaps) and max(self._gaps) > 1.5 * median(self._gaps)

    @property
    def _gaps(self) -> list[float]:
        times = sorted(time for time in self.times.values() if time is not None)
        return [later - earlier for earlier, later in pairwise(times) if later > earlier]


def _write(selection: Selection, destination: Destination) -> Exported:
    exported = Exported(path=destination.store.uri)
    destination.open_folder()
    known = destination.recorded()
    videos = _measure(selection, exported)
    for name, video in videos.items():
        about = {
            "id": name,
            "version": video.version,
            "frames": len(video.frames),
            "frames_per_second": round(video.fps, 3),
            "scale_pixels": round(video.scale, 4),
        }
        (file,) = destination.name_files([about], ".mp4")
        exported.rows += len(video.frames)
        if file not in known:
            put_file(destination, file, _encode(selection, video))
        elif not destination.has(file) or known[file]["frames"] != len(video.frames):  # the run has more rows by now
            destination.replace(known[file] | about, _encode(selection, video))
        else:
            exported.present += 1
            continue
        exported.written += 1
    if lacking := sum(video.lacks_frames for video in videos.values()):
        exported.notes[_LACKING] = lacking
    if untimed := sum(all(time is None for time in video.times.values()) for video in videos.values()):
        exported.notes[_NO_TIMES] = untimed
    destination.put_index()
    exported.notes[f"the scale of each video in pixels: {destination.store.uri_of(INDEX)}"] = 0
    return exported


def _measure(selection: Selection, exported: Exported) -> Mapping[str, _Video]:
    """Read all flow once, for the scale, the rate and the order of frames of each video."""
    videos: dict[str, _Video] = defaultdict(_Video)
    for part in selection.each_part():
        for row in selection.rows(part, ["id", "version", *COLUMNS]):
            video = videos[source_of(row["id"])]
            video.size = video.size if video.frames else (row["height"], row["width"])
            if video.size != (row["height"], row["width"]):
                exported.notes[_OTHER_SIZE] += 1
                continue
            time = row["start_seconds"]
            video.frames[row["id"]] = (row["frame_index"] if time is None else time), part
            video.times[row["id"]] = time
            video.lengths[row["id"]] = typical_length(flow_array(row))
            video.version = row["version"] or ""
    return videos


def source_of(unit: str) -> str:
    """Return the id of the source of a pair of frames: its video, image sequence or table, or the folder of images."""
    found = _PLACE.fullmatch(unit)
    return found[1] if found else unit.rpartition("/")[0] or "frames"


def _encode(selection: Selection, video: _Video) -> bytes:
    """Return the mp4, with a frame in memory at a time."""
    writer = VideoWriter(video.size, Fraction(video.fps).limit_denominator(1000))
    for flow in _flows_in_order(selection, video):
        writer.add(flow_colors(flow, video.scale))
    return writer.close()


def _flows_in_order(selection: Selection, video: _Video) -> Iterator[np.ndarray]:
    """Yield the flow of each frame in the order of time.

    Rows come in this order within a part, except for those that a retry or a change of the source added.
    """
    order = sorted(video.frames, key=lambda unit: video.frames[unit][0])
    for part, units in _runs(order, video):
        rows = {row["id"]: flow_array(row) for row in selection.rows(part, ["id", *COLUMNS], units)}
        yield from (rows[unit] for unit in units)


def _runs(order: Sequence[str], video: _Video) -> Iterator[tuple[str, list[str]]]:
    """Yield (part, units) for units in one part that follow each other."""
    units: list[str] = []
    for unit in order:
        if units and video.frames[units[0]][1] != video.frames[unit][1]:
            yield video.frames[units[0]][1], units
            units = []
        units.append(unit)
    if units:
        yield video.frames[units[0]][1], units


FLOW_VIDEO = Format(
    name="flow-video",
    target="folder",
    check=lambda selection: selection.results.require("flow"),
    write=_write,
)
