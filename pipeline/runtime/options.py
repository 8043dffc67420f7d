"""Options of a run: the command line, its help and job files are made from these fields."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pipeline.formatting import did_you_mean
from pipeline.heads import HEADS, HeadOptions
from pipeline.heads.head import FLOW_OPTIONS
from pipeline.heads.probe import Probe
from pipeline.runtime.errors import UsageError
from pipeline.sandbox import ResourceLimits


@dataclass(frozen=True)
class InHelp:
    """Where `--help` shows an option, and the placeholder of its value."""

    panel: str
    metavar: str = ""


def _split_commas(value: Any) -> Any:
    """Split `a,b` from the command line; leave the list of a job file alone."""
    return tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value


def _split_points(value: Any) -> Any:
    """Split `10,20 30,40` from the command line; leave the pairs of a job file alone."""
    return tuple(tuple(point.split(",")) for point in value.split()) if isinstance(value, str) else value


MAX_SECONDS = 10_000_000  # four months: longer than any video or wait

# Ranges are wide: what is beyond them is a slip of the keyboard, or would end in an allocation or a wait without end.
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Processes = Annotated[int, Field(ge=1, le=10_000)]
Units = Annotated[int, Field(ge=1, le=10**12)]
Index = Annotated[int, Field(ge=0, le=1_000_000)]
Rate = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]
Scale = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=MAX_SECONDS, allow_inf_nan=False)]
Start = Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]
Gibibytes = Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)]
Names = Annotated[tuple[str, ...], BeforeValidator(_split_commas)]
Indices = Annotated[tuple[Index, ...], BeforeValidator(_split_commas)]
Points = Annotated[tuple[tuple[Index, Index], ...], BeforeValidator(_split_points)]

INPUT, MODEL, OUTPUT, RESOURCES, FAULTS = "Input", "Model", "Output", "Resources", "Fault tolerance"
DISPLAY = "Display"


class RunOptions(BaseModel):
    """Everything that a user can set for a run. Unknown names are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)

    task: str = Field(description=f"One of {', '.join(HEADS)}.")
    input: str = ""
    """File, folder, glob or URI to read. Omit it with --from-latents."""
    output: str
    """Folder or URI for the predictions. An OUTPUT belongs to one INPUT."""

    input_format: Annotated[str, InHelp(INPUT, "FORMAT")] = "auto"
    """Read INPUT as text, jsonl, csv, parquet, dataset, webdataset, images or video. auto chooses by the extension of
    each file, or else by its content."""
    column: Annotated[str | None, InHelp(INPUT, "NAME")] = None
    """Table column with the text, image, video or array; for image pairs two columns: left,right. Default: text,
    image, video or inputs."""
    id_column: Annotated[str | None, InHelp(INPUT, "NAME")] = None
    """Table column with a unique id for each unit. Default: the file and the position in it."""
    keep_columns: Annotated[Names, InHelp(INPUT, "NAMES"), Field(examples=["source,stars"])] = ()
    """Columns to copy to the output rows: of tables, of a metadata.csv next to images or videos, or of folders such as
    lang=de. A name that the output has itself, such as label, gets the prefix input_."""
    label_column: Annotated[str | None, InHelp(INPUT, "NAME")] = None
    """Column with the known label of each unit, copied to the output as known_label: of a table, a metadata.csv, or
    folders such as lang=de."""
    label_from: Annotated[Literal["folder"] | None, InHelp(INPUT, "SOURCE")] = None
    """folder: the known label of a unit is the name of the folder that its file is in."""
    labels: Annotated[str | None, InHelp(INPUT, "FILE")] = None
    """File with the known labels of units: CSV, JSON Lines or Parquet with the columns id and label, or an export of
    Label Studio."""
    text_unit: Annotated[Literal["line", "file"], InHelp(INPUT)] = "line"
    """Treat each line, or the whole .txt file, as one unit."""
    blank_text: Annotated[Literal["predict", "quarantine"], InHelp(INPUT)] = "predict"
    """Predict texts that are null, empty or white space like others, or quarantine them. A null is an empty text."""
    csv_quoting: Annotated[Literal["auto", "double", "none"], InHelp(INPUT)] = "auto"
    """Double quotes around the fields of CSV files: double removes them, as in RFC 4180; none reads them as text. auto
    is none for .tsv, else double."""
    fps: Annotated[Rate | None, InHelp(INPUT, "RATE")] = None
    """Frames per second for optical flow. Default: the video's own rate."""
    start: Annotated[Start | None, InHelp(INPUT, "SECONDS")] = None
    """Read only what begins at this second of each video or later."""
    end: Annotated[Seconds | None, InHelp(INPUT, "SECONDS")] = None
    """Read only what begins before this second of each video."""
    max_side: Annotated[Count | None, InHelp(INPUT, "PIXELS")] = None
    """Reduce frames for optical flow whose longer side has more pixels. The flow is that of the reduced frames."""
    clip_stride: Annotated[Seconds | None, InHelp(INPUT, "SECONDS")] = None
    """Seconds from the start of one clip to the start of the next. Default: the length of a clip, so that clips neither
    overlap nor leave gaps."""
    short_clip: Annotated[Literal["pad", "drop"], InHelp(INPUT)] = "pad"
    """If the last clip of a video is too short, pad it with its last frame, or drop it."""
    transparency: Annotated[Literal["auto", "drop", "white"], InHelp(INPUT)] = "auto"
    """Drop the transparency of images, as transformers' pipelines do, or composite them on white. auto is drop, or
    white in an OUTPUT that was begun before this option existed."""
    limit: Annotated[Units | None, InHelp(INPUT)] = None
    """Plan at most this many units. A later run with a higher limit, or none, plans the next ones."""
    changed: Annotated[Literal["skip", "redo"], InHelp(INPUT)] = "skip"
    """Skip inputs that changed since they were planned, or predict them again."""
    from_latents: Annotated[str | None, InHelp(INPUT, "URI")] = None
    """Instead of reading INPUT, decode the latents in the OUTPUT of an earlier run with --latents."""

    checkpoint: Annotated[str, InHelp(MODEL, "REF")]
    """Hugging Face Hub id, folder or URI with config.json and the weights; demo is a small trained one that the
    package contains, for images, texts and clips."""
    probe: Annotated[str | None, InHelp(MODEL, "PROBE")] = None
    """Folder or URI of a linear probe, as `perceiver probe` writes it, that predicts in the place of the checkpoint's
    own decoder. For image-classification, text-classification and feature-extraction."""
    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16"], InHelp(MODEL, "DTYPE")] = "auto"
    """Precision of the model: float32, bfloat16 or float16. auto is bfloat16 on a GPU and float32 on a CPU."""

    top_k: Annotated[Count, InHelp(OUTPUT)] = 5
    """Number of labels per unit, or tokens per mask, to store, best first."""
    logits: Annotated[bool, InHelp(OUTPUT)] = False
    """Also store the logits of each unit."""
    latents: Annotated[bool, InHelp(OUTPUT)] = False
    """Also store the latents of each unit, which --from-latents can decode later."""
    arrays: Annotated[bool, InHelp(OUTPUT)] = False
    """Also store reconstructed frames and audio samples as arrays."""
    flow_scale: Annotated[Scale | None, InHelp(OUTPUT, "PIXELS")] = None
    """Pixels of flow per unit of the model's output. Default: 20, for which the published checkpoint was trained."""
    array_dtype: Annotated[Literal["float16", "float32"], InHelp(OUTPUT, "DTYPE")] = "float16"
    """Precision of stored flow and latents: float16, or float32 in twice the space."""
    points: Annotated[Points, InHelp(OUTPUT, "POINTS"), Field(examples=["10,20 30,40"])] = ()
    """Decode these pixels (x,y) only. Default: all."""
    frames: Annotated[Indices, InHelp(OUTPUT, "NUMBERS"), Field(examples=["0,8,15"])] = ()
    """Decode these frames of each clip only, counted from 0. Default: all."""
    outputs: Annotated[Names, InHelp(OUTPUT, "NAMES"), Field(examples=["video,label"])] = ()
    """Decode these outputs of a clip only: video, audio, label. Default: all."""
    single_writer: Annotated[bool, InHelp(OUTPUT)] = False
    """Allow a store without conditional writes. Safe only if no other process writes to OUTPUT."""
    report: Annotated[bool, InHelp(OUTPUT)] = True
    """Write report.html to OUTPUT at the end of a run. --no-report leaves it out, which saves some seconds."""

    replicas: Annotated[Literal["auto"] | Processes, InHelp(RESOURCES, "N|auto")] = "auto"
    """Number of models that predict in parallel, each with its own copy of the weights. auto uses every GPU, or one
    replica without GPUs."""
    devices_per_replica: Annotated[Processes, InHelp(RESOURCES)] = 1
    """Number of devices that share each unit of a replica, for units that are too large or too slow for one device."""
    device: Annotated[Literal["auto", "cpu", "cuda"], InHelp(RESOURCES)] = "auto"
    """Where replicas run. auto is cuda if the cluster has a GPU."""
    batch_size: Annotated[Literal["auto"] | Count, InHelp(RESOURCES, "N|auto")] = "auto"
    """Number of units that a replica predicts at once. A larger batch uses a GPU better and takes more memory; auto
    finds the smallest batch within 5 % of the best rate."""
    shard_size: Annotated[Count | None, InHelp(RESOURCES)] = None
    """Most units per shard and output file. Smaller shards repeat less work after a crash, larger ones make fewer
    files. Default: about half a minute of expected work, at most 32 MB or 4096 units, and at least four shards per
    replica if there is enough work."""
    address: Annotated[str | None, InHelp(RESOURCES, "ADDRESS")] = None
    """Address of the Ray cluster. Default: RAY_ADDRESS, else the cluster that was started on this machine, else a new
    local one."""

    max_quarantine: Annotated[float, InHelp(FAULTS, "FRACTION"), Field(ge=0, le=1)] = 0.05
    """Stop with exit code 3 if more than this fraction of the units is quarantined."""
    retry_quarantined: Annotated[bool, InHelp(FAULTS)] = False
    """Plan quarantined units again. Those that succeed count as predicted."""
    repair: Annotated[bool, InHelp(FAULTS)] = False
    """Move files of OUTPUT that are damaged, or not of this run, to _run/set-aside/, rebuild what is missing in _run/
    from the parts, and predict what is missing."""
    stall_timeout: Annotated[Seconds, InHelp(FAULTS, "SECONDS")] = 1800.0
    """Fail if no stage produces output for this many seconds."""
    unit_seconds: Annotated[Seconds, InHelp(FAULTS, "SECONDS")] = 300.0
    """Quarantine a unit whose reading takes more than this many seconds, waits for storage not counted."""
    unit_memory: Annotated[Gibibytes, InHelp(FAULTS, "GIB")] = 4.0
    """Quarantine a unit whose reading takes more than this many GiB of memory."""
    trusted_inputs: Annotated[bool, InHelp(FAULTS)] = False
    """Read inputs without the child process that limits their time and memory. Only for files that you made
    yourself."""

    log_format: Annotated[Literal["text", "json"], InHelp(DISPLAY)] = "text"
    """Show progress as text, or as one JSON object per line, for programs that read logs."""
    quiet: Annotated[bool, InHelp(DISPLAY)] = False
    """Show no progress: only notes, errors and the result."""

    @model_validator(mode="after")
    def _one_input(self) -> Self:
        if self.input and self.from_latents:
            raise ValueError(
                f"input ({self.input}) and from_latents ({self.from_latents}) cannot be combined; give one of them"
            )
        if not self.input and not self.from_latents:
            raise ValueError("input is required unless from_latents is given")
        return self

    @model_validator(mode="after")
    def _one_source_of_labels(self) -> Self:
        given = {"label_column": self.label_column, "label_from": self.label_from, "labels": self.labels}
        named = [f"{name} ({value})" for name, value in given.items() if value]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} cannot be combined; give one of them")
        return self

    @property
    def columns_to_keep(self) -> tuple[str, ...]:
        """Columns of INPUT that are read besides the medium, each once."""
        return tuple(dict.fromkeys((*self.keep_columns, *((self.label_column,) if self.label_column else ()))))

    @property
    def latent_dtype(self) -> str | None:
        """Precision of the latents in the rows, None if rows do not keep them."""
        return self.array_dtype if self.latents else None

    def limits(self) -> ResourceLimits | None:
        """Return the limits of reading a unit or opening a file in the sandbox; None reads it without one."""
        if self.trusted_inputs:
            return None
        return ResourceLimits(seconds=self.unit_seconds, memory_bytes=int(self.unit_memory * 2**30))

    def head_options(self, digest: str) -> HeadOptions:
        """Return the options of the head, with the probe.

        digest: Of the checkpoint. AccessError or CheckpointError if the probe cannot be read, or is of another one.
        """
        names = ("top_k", "logits", "latents", "arrays", "array_dtype", "points", "frames", "outputs", *FLOW_OPTIONS)
        probe = None if self.probe is None else Probe.load(self.probe)
        if probe is not None:
            probe.check_checkpoint(digest)
        return HeadOptions(**{name: getattr(self, name) for name in names}, probe=probe)

    def source_options(self) -> dict[str, Any]:
        """Return the options of the source that differ from their defaults: they decide what the units are."""
        fields = {"column", "id_column", "keep_columns", "text_unit", "blank_text", "csv_quoting"}
        fields |= {"fps", "start", "end", "clip_stride", "short_clip"}
        options = self.model_dump(include=fields - {"keep_columns"}, exclude_defaults=True)
        return options | ({"keep": self.columns_to_keep} if self.columns_to_keep else {})


def require_task(task: str) -> None:
    """Raise UsageError, with the valid tasks, if the task does not exist."""
    if task not in HEADS:
        raise UsageError(f"task {task!r} must be one of {', '.join(HEADS)}{did_you_mean(task, HEADS)}")


def typed_value(value: Any) -> str:
    """Return the value of an option, as JSON has it, as it is typed on the command line: a,b or 10,20 30,40."""
    if not isinstance(value, list):
        return f"{value:g}" if isinstance(value, float) else str(value)
    are_pairs = any(isinstance(each, list) for each in value)
    return (" " if are_pairs else ",").join(map(typed_value, value))
