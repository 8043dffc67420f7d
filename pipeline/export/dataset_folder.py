"""Export to a folder that `datasets.load_dataset` opens: Parquet with features, and a card.

Predicted and known labels become ClassLabel, stored media Video, Audio and Image, and the image that each row is about
is copied.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.export.destination import Destination
from pipeline.export.exported import Exported, Format, Selection
from pipeline.export.label_classes import LabelClasses, count_known_labels, label_classes
from pipeline.export.source_images import NEEDED, SourceImages
from pipeline.formatting import counted
from pipeline.results import Results
from pipeline.runtime.errors import UsageError
from pipeline.runtime.records.dataset_card import CARD
from pipeline.runtime.stages.known_labels import KNOWN_LABEL
from pipeline.sinks.schema import MEDIA_STRUCT
from pipeline.storage.errors import translated_errors

if TYPE_CHECKING:
    from datasets import Features

GROUP_BYTES = 64 << 20  # per row group, of which one is in memory
ROWS_AT_ONCE = 16
_TEMPORARY = "_export/shard.parquet"
_COPY = "_export/README.md"  # of the card, to find out whether somebody edited it
_TEXT = """\
# {title}

{rows} of run {run} on `{input}` with the checkpoint `{checkpoint}`.

```python
import datasets

dataset = datasets.load_dataset("{folder}", split="train")
```
"""


def _check(selection: Selection) -> None:
    if not selection.schema.names:
        raise UsageError(f"{selection.results.store.uri} has no rows yet")
    try:
        import datasets  # noqa: F401
    except ImportError:
        raise UsageError("--to dataset requires datasets: pip install 'perceiver-pipeline[export]'") from None


def _write(selection: Selection, destination: Destination) -> Exported:
    exported = Exported(path=destination.store.uri)
    found = count_known_labels(selection, exported.notes)
    destination.open_folder()
    images = SourceImages.of(selection, exported.notes)
    classes = label_classes(selection, found, destination, exported.notes)
    features = _features(selection, classes, images is not None, exported.notes)
    for part in selection.each_part():
        key = f"data/{part.rpartition('/')[2]}"
        if destination.has(key):
            exported.present += 1
        elif _write_shard(_tables(selection, part, features, classes, images), features, destination.path, key):
            exported.written += 1
    for shard in sorted((destination.path / "data").glob("*.parquet")):
        exported.rows += pq.read_metadata(shard).num_rows
    _put_card(selection.results, features, destination, exported)
    destination.remove_temporary_files()
    return exported


def _features(selection: Selection, classes: LabelClasses, with_images: bool, notes: Counter[str]) -> "Features":
    """Return the features in the order of the columns, the image after the id."""
    from datasets import Audio, Features, Image, List, Value, Video

    schema = selection.schema
    features: dict[str, Any] = {}
    for field in schema:
        try:
            features |= Features.from_arrow_schema(pa.schema([field]))
        except ValueError:
            notes[f"column {field.name} left out: datasets has no feature for {field.type}"] = 0
    if selection.has_known_labels:
        features.setdefault(KNOWN_LABEL, Value("string"))
    features |= classes.features
    media = {"video": Video(), "audio": Audio()}
    features |= {name: kind for name, kind in media.items() if name in schema.names and _is_medium(schema, name)}
    if "frames" in schema.names and pa.types.is_list(schema.field("frames").type) and _is_medium(schema, "frames"):
        features["frames"] = List(Image())
    if with_images:
        first = features.pop("id")
        features = {"id": first, _image_column(schema): Image(), **features}
    return Features(features)


def _is_medium(schema: pa.Schema, name: str) -> bool:
    kind = schema.field(name).type
    return bool((kind.value_type if pa.types.is_list(kind) else kind) == MEDIA_STRUCT)


def _image_column(schema: pa.Schema) -> str:
    return "image" if "image" not in schema.names else "input_image"


def _tables(
    selection: Selection, part: str, features: "Features", classes: LabelClasses, images: SourceImages | None
) -> Iterator[pa.Table]:
    """Yield the rows of a part with the types of the features, a few at a time."""
    schema = features.arrow_schema
    for batch in selection.batches(part, selection.schema.names):
        rows = pa.table(batch)
        if selection.has_known_labels:
            rows = _with_known_labels(rows, selection, classes)
        for start in range(0, rows.num_rows, ROWS_AT_ONCE):
            table = rows.slice(start, ROWS_AT_ONCE)
            columns = {name: table[name] for name in table.column_names}
            if classes.predicted:
                columns["label"] = table["label_id"]
            if images is not None:
                copied = images.read(table.select(NEEDED).to_pylist())
                columns[_image_column(selection.schema)] = pa.array(copied, MEDIA_STRUCT)
            yield pa.table({name: columns[name] for name in schema.names}).cast(schema)


def _with_known_labels(rows: pa.Table, selection: Selection, classes: LabelClasses) -> pa.Table:
    """Return the rows with the known labels of the file, if there is one, and as classes, if they can be."""
    file = selection.label_file
    known = rows[KNOWN_LABEL] if file is None else file.of(rows["id"].combine_chunks())
    others = rows.drop_columns([KNOWN_LABEL] if KNOWN_LABEL in rows.column_names else [])
    return others.append_column(KNOWN_LABEL, classes.of_known(known))


def _write_shard(tables: Iterator[pa.Table], features: "Features", folder: Path, key: str) -> bool:
    """Write rows as one Parquet file, a row group at a time. Return whether there are any."""
    temporary, target = folder / _TEMPORARY, folder / key
    waiting: list[pa.Table] = []
    rows = 0
    with translated_errors(str(target), "writing"):
        target.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(temporary, features.arrow_schema, compression="zstd") as file:
            for table in tables:
                waiting.append(table)
                rows += table.num_rows
                if sum(each.nbytes for each in waiting) > GROUP_BYTES:
                    file.write_table(pa.concat_tables(waiting))
                    waiting.clear()
            if waiting:
                file.write_table(pa.concat_tables(waiting))
        if rows:
            temporary.rename(target)
        else:
            temporary.unlink()
    return rows > 0


def _put_card(results: Results, features: "Features", destination: Destination, exported: Exported) -> None:
    """Write README.md, unless somebody edited the one of an earlier attempt."""
    from datasets.info import DatasetInfo, DatasetInfosDict
    from huggingface_hub import DatasetCardData

    # `datasets` keeps a copy of what it loads, by the names of folder and configuration: other rows need another name.
    rows = json.dumps([destination.identity, exported.rows]).encode()
    name = f"run-{results.run.run}-{hashlib.sha256(rows).hexdigest()[:8]}"
    data = DatasetCardData(configs=[{"config_name": name, "data_files": "data/*.parquet", "default": True}])
    DatasetInfosDict({name: DatasetInfo(config_name=name, features=features)}).to_dataset_card_data(data)
    text = _TEXT.format(
        title=f"{results.task} by Perceiver IO",
        rows=counted(exported.rows, "row"),
        input=results.run.input,
        checkpoint=results.run.record.get("checkpoint", "unknown"),
        run=results.run.run,
        folder=destination.path.name,
    )
    card = f"---\n{data}\n---\n\n{text}".encode()
    store = destination.store
    if destination.has(CARD) and not (destination.has(_COPY) and store.read(CARD) == store.read(_COPY)):
        exported.notes[f"{CARD} was edited and stays as it is"] = 0
        return
    store.put(_COPY, card)
    store.put(CARD, card)


DATASET = Format(name="dataset", target="local folder", check=_check, write=_write, options=("labels",))
