"""What a run is asked to do. The command line and job files are made from these fields and their descriptions."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline.heads.base import HeadOptions

Count = Annotated[int, Field(ge=1)]


class RunOptions(BaseModel):
    """Everything that a user can say about a run. Unknown names are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: str = Field(description="The head: fill-mask, text-classification or image-classification.")
    input: str = Field(description="A file, folder, glob or URI that fsspec knows.")
    output: str = Field(description="Folder or URI for predictions; it belongs to one INPUT.")
    checkpoint: str = Field(description="A hub id, a folder or a URI with config.json and weights.")
    input_format: str = Field("auto", description="What INPUT holds; auto is what the head usually reads.")
    column: str | None = Field(None, description="Column of .jsonl records that holds the text; by default text.")
    replicas: Count = Field(1, description="Models that predict at the same time.")
    devices_per_replica: Count = Field(1, description="Devices that one replica takes.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto is cuda where the cluster has a GPU.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Precision of the model; auto is bfloat16 on cuda, float32 on cpu."
    )
    batch_size: Literal["auto"] | Count = Field("auto", description="Units that a replica predicts at once.")
    shard_size: Count | None = Field(
        None,
        description="Units a shard; by default about 32 MB of them, at most 256. Lines count as a kilobyte each.",
    )
    top_k: Count = Field(5, description="Labels of each unit, or tokens of each mask, to keep, best first.")
    logits: bool = Field(False, description="Keep the logits of each unit as well.")
    limit: Count | None = Field(None, description="Plan no more units than this.")
    max_quarantine: float = Field(
        0.05, ge=0, le=1, description="Stop with exit code 3 when more than this share of the units is quarantined."
    )
    changed: Literal["skip", "redo"] = Field(
        "skip", description="Inputs that changed since they were planned: leave them, or predict them again."
    )
    address: str | None = Field(None, description="Ray cluster to use; by default the one at hand, or a new local one.")
    single_writer: bool = Field(
        False,
        description="Nobody else writes to OUTPUT: allows a store that cannot put an object only if it is absent.",
    )

    def head_options(self) -> HeadOptions:
        """What of these reaches the head."""
        return HeadOptions(top_k=self.top_k, logits=self.logits)
