"""What a run is asked to do. The command line and job files are made from these fields and their descriptions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from pipeline.heads import HEADS, HeadOptions

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


def _words(value: Any) -> Any:
    """`a,b` as a person types it, or the list of a job file."""
    return tuple(word.strip() for word in value.split(",") if word.strip()) if isinstance(value, str) else value


def _points(value: Any) -> Any:
    """`10,20 30,40` as a person types it, or the list of pairs of a job file."""
    if not isinstance(value, str):
        return value
    return tuple(tuple(point.split(",")) for point in value.split())


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Numbers = Annotated[tuple[Annotated[int, Field(ge=0)], ...], BeforeValidator(_words)]
Points = Annotated[
    tuple[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]], ...], BeforeValidator(_points)
]


class RunOptions(BaseModel):
    """Everything that a user can say about a run. Unknown names are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str = Field(description=f"The head: one of {', '.join(HEADS)}.")
    input: str = Field("", description="A file, folder, glob or URI that fsspec knows; none with --from-latents.")
    output: str = Field(description="Folder or URI for predictions; it belongs to one INPUT.")
    checkpoint: str = Field(description="A hub id, a folder or a URI with config.json and weights.")
    from_latents: str | None = Field(
        None, description="OUTPUT of a run with --latents: decode what it encoded, and read no input."
    )
    input_format: str = Field(
        "auto",
        description="What INPUT holds: text, jsonl, csv, parquet, dataset, webdataset, images or video; auto goes "
        "by the extension of each file.",
    )
    column: str | None = Field(
        None, description="Column of a table with the text, image or array; for image pairs two of them, a,b."
    )
    id_column: str | None = Field(None, description="Column of a table with the id of each unit; no two may be equal.")
    keep_columns: Words = Field((), description="Columns of a table that the rows carry along: a,b.")
    text_unit: Literal["line", "file"] = Field("line", description="What of a .txt is a unit.")
    fps: Positive | None = Field(None, description="Frames a second for optical flow; by default the video's own.")
    clip_stride: Positive | None = Field(
        None, description="Seconds from the start of one clip to the next; by default clips follow one another."
    )
    short_clip: Literal["pad", "drop"] = Field(
        "pad", description="A last clip that is too short: padded by its last frame, or left out."
    )
    replicas: Literal["auto"] | Count = Field(
        "auto",
        description="Number of model replicas that predict in parallel, each with its own copy of the weights; auto "
        "uses every GPU, or one replica without GPUs.",
    )
    devices_per_replica: Count = Field(
        1, description="Devices that one replica takes; it splits each unit between them."
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto is cuda where the cluster has a GPU.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Precision of the model; auto is bfloat16 on cuda, float32 on cpu."
    )
    batch_size: Literal["auto"] | Count = Field(
        "auto",
        description="Units that a replica predicts at once; auto finds the fewest within 5 % of the best rate.",
    )
    shard_size: Count | None = Field(
        None,
        description="Units a shard; by default about 32 MB of them, at most 256. Lines count as a kilobyte each.",
    )
    top_k: Count = Field(5, description="Labels of each unit, or tokens of each mask, to keep, best first.")
    logits: bool = Field(False, description="Keep the logits of each unit as well.")
    latents: bool = Field(False, description="Keep the latents of each unit as well, to decode again later.")
    arrays: bool = Field(False, description="Keep the values of reconstructed frames and samples as well.")
    array_dtype: Literal["float16", "float32"] = Field("float16", description="Precision of flow and latents in rows.")
    points: Points = Field((), description='Pixels to decode, all by default: x,y for each, as in "10,20 30,40".')
    frames: Numbers = Field((), description="Frames of each clip to decode, by number: 0,8,15; all by default.")
    outputs: Words = Field((), description="What to decode of a clip: video,audio,label or some of them.")
    limit: Count | None = Field(None, description="Plan no more units than this.")
    max_quarantine: float = Field(
        0.05, ge=0, le=1, description="Stop with exit code 3 when more than this share of the units is quarantined."
    )
    changed: Literal["skip", "redo"] = Field(
        "skip", description="Inputs that changed since they were planned: leave them, or predict them again."
    )
    retry_quarantined: bool = Field(
        False, description="Plan quarantined units once more; what is then predicted counts as predicted."
    )
    stall_timeout: Positive = Field(
        1800.0, description="Seconds without anything coming out of any stage after which the run fails."
    )
    unit_seconds: Positive = Field(
        300.0, description="Seconds that reading one unit may take, waiting for storage aside; then it is quarantined."
    )
    unit_memory: Positive = Field(
        4.0, description="GiB of memory that reading one unit may take; then it is quarantined."
    )
    trusted_inputs: bool = Field(
        False,
        description="Read inputs without a child process and its limits: only for files of your own making.",
    )
    address: str | None = Field(None, description="Ray cluster to use; by default the one at hand, or a new local one.")
    single_writer: bool = Field(
        False,
        description="Nobody else writes to OUTPUT: allows a store that cannot put an object only if it is absent.",
    )

    @model_validator(mode="after")
    def _one_input(self) -> RunOptions:
        if bool(self.input) == bool(self.from_latents):
            raise ValueError("give an input, or from_latents and no input")
        return self

    def head_options(self) -> HeadOptions:
        """What of these reaches the head."""
        names = ("top_k", "logits", "latents", "arrays", "array_dtype", "points", "frames", "outputs")
        return HeadOptions(**{name: getattr(self, name) for name in names})

    @property
    def asked_of_source(self) -> dict[str, Any]:
        """What of these reaches the source, where it is not the default: it changes what the units are."""
        names = {
            "column": self.column,
            "id_column": self.id_column,
            "keep": self.keep_columns,
            "text_unit": self.text_unit,
            "fps": self.fps,
            "clip_stride": self.clip_stride,
            "short_clip": self.short_clip,
        }
        defaults = {"keep": (), "text_unit": "line", "short_clip": "pad"}
        return {name: value for name, value in names.items() if value != defaults.get(name)}


def near(name: str, names: Sequence[str]) -> str:
    """` (did you mean x?)` where one of the names is near, else nothing."""
    from difflib import get_close_matches

    found = get_close_matches(name, names, n=1)
    return f" (did you mean {found[0]}?)" if found else ""
