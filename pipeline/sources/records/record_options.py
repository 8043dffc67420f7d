"""From the options of a run to what is read of each record."""

from pipeline.sources.records.record_reader import DEFAULT_COLUMN, RecordRequest
from pipeline.sources.source import VIDEO_TIMES, SourceOptions
from pipeline.sources.video.video_units import check_video_options

_WITHOUT_VIDEOS = ("jsonl", "csv")  # they hold paths: next to videos, a column called video would give each one twice


def record_request(source: str, options: SourceOptions) -> RecordRequest:
    """Return what the options request of a record. Raise ValueError for options that records do not support."""
    columns = _medium_columns(source, options)
    if options.medium == "clip" or (options.medium == "frame_pair" and len(columns) == 1):
        check_video_options(options)
    else:
        for option in (*VIDEO_TIMES, "clip_stride"):
            if (value := getattr(options, option)) is not None:
                raise ValueError(f"{option} ({value:g}) is not supported for {source}: a record has no time")
    identity = {} if options.id_column is None else {"id": options.id_column}
    return RecordRequest(options=options, medium_columns=columns, identity=identity)


def _medium_columns(source: str, options: SourceOptions) -> tuple[str, ...]:
    """Return the columns that hold the medium. Raise ValueError if the options do not tell or cannot be right."""
    if options.column is None:
        if options.medium in ("frame_pair", "clip") and source in _WITHOUT_VIDEOS:
            pair = ", or the two columns of images, with a comma between: a,b" if options.medium == "frame_pair" else ""
            raise ValueError(f"column (None) must name the column of {source} with the paths of videos{pair}")
        return DEFAULT_COLUMN.get(options.medium, ())
    if options.medium != "frame_pair":
        return (options.column,)
    columns = tuple(name.strip() for name in options.column.split(","))
    if len(columns) > 2 or not all(columns):
        raise ValueError(
            f"column ({options.column!r}) must name one column of videos, or the two columns of a pair of images, with "
            "a comma between: a,b"
        )
    return columns
