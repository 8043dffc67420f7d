"""Read and predict items with one model, in groups whose arrays fit in memory."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from pipeline.checkpoints import CheckpointChanged, fetch, shipped_ref, unchanged
from pipeline.heads import Head, head_for
from pipeline.heads.image_config import describe_settings
from pipeline.perceiver import PerceiverIO
from pipeline.predictor.item_reader import READ_BYTES, ItemReader, ReadUnit
from pipeline.predictor.predicted_rows import PredictedRows, predict_rows, row_schema
from pipeline.runtime.errors import UsageError
from pipeline.runtime.option_errors import as_usage_errors
from pipeline.runtime.options import RunOptions
from pipeline.runtime.stages.model_runner import ModelRef
from pipeline.runtime.stages.predict import Replica
from pipeline.runtime.stages.unit_reader import Loaded
from pipeline.sources import SourceOptions
from pipeline.sources.images.image_pixels import Transparency
from pipeline.storage.uris import check_uri

GROUP_UNITS = 256  # of a shard of small units
MAX_THREADS = 4096


class UnitPredictor:
    """A model, the head of its task, and how items are read.

    Attributes:
        medium: what an item holds.
        schema: Arrow schema of the rows.
        notes: what is assumed about the checkpoint, for the user.
        digest: of the checkpoint.
    """

    def __init__(self, options: RunOptions, *, threads: int | None = None, digest: str | None = None) -> None:
        """Load the model. `threads`: of torch; None for as many as it has in this process.

        Raise UsageError for an option that the task does not support, CheckpointError or AccessError for the
        checkpoint, CheckpointChanged if it does not have the given digest.
        """
        if threads is not None and not 1 <= threads <= MAX_THREADS:
            raise UsageError(f"threads ({threads}) must be at least 1 and at most {MAX_THREADS:,}")
        folder = fetch(shipped_ref(check_uri(options.checkpoint), options.task))
        with unchanged(folder) as found:
            notes = PerceiverIO.check_pretrained(folder)
            with as_usage_errors():
                head = head_for(options.task, folder, options.head_options(found))
                reader = ItemReader(head, _source_options(options, head), options.limits())
            self.notes = (*notes, *(describe_settings(folder) if head.medium == "image" else ()))
        if digest is not None and found != digest:
            raise CheckpointChanged(f"checkpoint {options.checkpoint} changed: its digest is {found}, not {digest}")
        device = _device(options.device)
        ref = ModelRef(
            checkpoint=str(folder),
            digest=found,
            device=device,
            dtype=options.dtype if options.dtype != "auto" else "bfloat16" if device == "cuda" else "float32",
            threads=threads or torch.get_num_threads(),
        )
        self.medium, self.digest, self.ref = head.medium, found, ref
        self._reader = reader
        self._replica = Replica(ref=ref, head=head, batch_size=options.batch_size, keep_latents=options.latent_dtype)
        self._least = 1 if options.batch_size == "auto" else options.batch_size
        self._most = max(self._least, GROUP_UNITS - GROUP_UNITS % self._least)
        self.schema = row_schema(self._replica.runner.columns, reader.kept)

    def predict(self, values: Iterable[Any]) -> Iterator[tuple[list[int], PredictedRows]]:
        """Yield the rows of units in order, with the number of the item of each."""
        for group in self._groups(self._reader.read(values)):
            rows = predict_rows(self._replica, self._reader.kept, [unit for _, unit in group])
            yield [number for number, _ in group], rows

    def _groups(self, units: Iterable[ReadUnit]) -> Iterator[list[ReadUnit]]:
        """Yield units in groups: of at most READ_BYTES, unless the batch size is greater, and GROUP_UNITS."""
        group: list[ReadUnit] = []
        nbytes = 0
        for number, unit in units:
            group.append((number, unit))
            nbytes += sum(array.nbytes for array in unit.arrays.values()) if isinstance(unit, Loaded) else 0
            if len(group) >= self._most or (nbytes >= READ_BYTES and len(group) >= self._least):
                yield group
                group, nbytes = [], 0
        if group:
            yield group


def _source_options(options: RunOptions, head: Head) -> SourceOptions:
    transparency: Transparency = "white" if options.transparency == "white" else "drop"
    return SourceOptions(
        medium=head.medium, clip_spec=head.clip_spec, transparency=transparency, **options.source_options()
    )


def _device(name: str) -> str:
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UsageError("device (cuda) is not available in this process: use cpu or auto, or give it a GPU")
    return name if name != "auto" else "cuda" if available else "cpu"
