"""INPUTs and OUTPUTs that a run refuses: the files of each, the options, and what the message says.

In a message WORK is the folder that holds all, and … stands for any text.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.sources.test_webdataset_source import tar


@dataclass(frozen=True)
class Refusal:
    """A command that is refused.

    Attributes:
        words: of the message.
        files: in INPUT, by key.
        links: in the folder that holds all, by name, to names in it.
        options: after those that every command has.
        task: of the command.
        input: in the folder that holds all.
        output: in the folder that holds all.
    """

    words: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    options: Sequence[str] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    task: str = "text-classification"
    input: str = "in"
    output: str = "out"


def parquet(**columns: list[object]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def png(size: tuple[int, int] = (40, 40)) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


TEXT = {"a.txt": b"one\n"}
TABLE = {"a.parquet": parquet(text=["one", "two"], n=[1, 2])}
IMAGES = "image-classification"
REMEDY = "Name the column with --column, or leave the file out"
UNKNOWN = "1, unknown kind: a.doc (a glob such as *.dat reads files with any extension)"

NOTHING = {
    "nothing there": Refusal("error: INPUT WORK/none does not exist: WORK has no 'none'", input="none"),
    "nothing matches": Refusal("nothing in WORK/in matches *.md", TEXT, input="in/*.md"),
    "all left out": Refusal(
        f"WORK/in: no text … found; left out: 1, hidden: .b.txt (a leading . or a folder's leading _); … {UNKNOWN}",
        {"a.doc": b"text", ".b.txt": b"x"},
    ),
    "links to nothing": Refusal(
        "left out: 1, dangling link: a.txt; 1, link loop: b.txt",
        {},
        links={"in/a.txt": "../store/a", "in/b.txt": "b.txt"},
    ),
    "another medium": Refusal("WORK/in: no … images", {"a.txt": b"text"}, task=IMAGES),
    "only one frame": Refusal("1, the only frame in its folder: a.png", {"a.png": png()}, task="optical-flow"),
    "files without columns": Refusal(
        "left out: 1, without columns, while an option names one: a.png",
        {"a.png": png()},
        ["--column", "x"],
        task=IMAGES,
    ),
    "frames in two orders": Refusal(
        "frame2.png follows frame10.png by name, but its number is lower: name frames with leading zeros",
        {f"frame{number}.png": png() for number in (1, 2, 10)},
        task="optical-flow",
    ),
    "a wildcard in a bucket": Refusal(
        "s3://imag*/in: the name after s3:// must not contain a wildcard", input="s3://imag*/in"
    ),
    "an unknown scheme": Refusal(
        "nonsense://a/in: nonsense:// is not supported; use a folder, s3://, gs://, az://, hf:// or https://",
        input="nonsense://a/in",
    ),
    "a folder in the memory of a process": Refusal(
        "memory://in: memory:// is in the memory of one process; use a folder, s3://", input="memory://in"
    ),
}

TABLES = {
    "a table without the column": Refusal(
        f"WORK/in/a.csv: column 'text' not found; available columns: id, label. {REMEDY}", {"a.csv": b"id,label\n0,1\n"}
    ),
    "a column that a Parquet lacks": Refusal(
        "WORK/in/b.parquet: column 'text' not found; available columns: words, n",
        {**TABLE, "b.parquet": parquet(words=["three"], n=[3])},
    ),
    "a column with a name like another": Refusal(
        "WORK/in/a.csv: column 'revew' not found (did you mean review?); available columns: id, review",
        {"a.csv": b"id,review\n0,good\n"},
        ["--column", "revew"],
    ),
    "a kept column with a name like another": Refusal(
        "column 'star' not found (did you mean stars?)", {"a.csv": b"text,stars\na,5\n"}, ["--keep-columns", "star"]
    ),
    "a column of a Parquet of another type": Refusal(
        "WORK/in/b.parquet: column 'text' must hold text, got int64", {**TABLE, "b.parquet": parquet(text=[3], n=[3])}
    ),
    "a kept column of another type": Refusal(
        "WORK/in/b.parquet: column 'n' has the type string, in the first file int64",
        {**TABLE, "b.parquet": parquet(text=["three"], n=["3"])},
        ["--keep-columns", "n"],
    ),
    "a kept column that a Parquet lacks": Refusal(
        "WORK/in/b.parquet: column 'n' not found; available columns: text",
        {**TABLE, "b.parquet": parquet(text=["three"])},
        ["--keep-columns", "n"],
    ),
    "an id column that a Parquet lacks": Refusal(
        "WORK/in/b.parquet: column 'n' not found; available columns: text",
        {**TABLE, "b.parquet": parquet(text=["three"])},
        ["--id-column", "n"],
    ),
    "an id column that holds no ids": Refusal(
        "WORK/in/b.parquet: column 'n' must hold ids, got list",
        {**TABLE, "b.parquet": parquet(text=["three"], n=[[3]])},
        ["--id-column", "n"],
    ),
    "ids that are there twice": Refusal(
        "WORK/in: the id column gives one id to several units: '2' in a.parquet and b.parquet",
        {**TABLE, "b.parquet": parquet(text=["three", "four"], n=[3, 2])},
        ["--id-column", "n"],
    ),
    "ids that are there twice in tables of two kinds": Refusal(
        "WORK/in: the id column gives one id to several units: '1' in a.parquet and b.csv",
        {**TABLE, "b.csv": b"n,text\n3,three\n1,four\n"},
        ["--id-column", "n"],
    ),
    "a column that a CSV lacks": Refusal(
        "WORK/in/b.csv: column 'text' not found; available columns: n, words",
        {**TABLE, "b.csv": b"n,words\n3,three\n"},
    ),
    "a quoted column of a TSV": Refusal(
        "WORK/in/a.tsv: column 'text' not found … use --csv-quoting double to remove the quotes",
        {"a.tsv": b'"text"\t"n"\n"one"\t"1"\n'},
    ),
    "a page in place of a CSV": Refusal(
        "WORK/in/b.csv: column 'text' not found; available columns: <html>",
        {**TABLE, "b.csv": b"<html>moved</html>\n"},
    ),
    "a column that a CSV has twice": Refusal(
        "WORK/in/b.csv: 2 columns are named 'text'", {**TABLE, "b.csv": b"text,text\na,b\n"}
    ),
    "a column that records lack": Refusal(
        "WORK/in/b.jsonl: column 'text' not found", {**TABLE, "b.jsonl": b'{"n": 3}\n{"n": 4}\n'}
    ),
    "a column of records of another type": Refusal(
        "WORK/in/b.jsonl: column 'text' must hold text, got int", {**TABLE, "b.jsonl": b'{"text": 3}\n'}
    ),
    "a column that samples lack": Refusal(
        "WORK/in/b.tar: column 'txt or text' not found; available columns: cls",
        {**TABLE, "b.tar": tar([("0.cls", b"1"), ("1.cls", b"2")])},
    ),
    "a column of samples whose names have dots": Refusal(
        "column … not found … the column of a member is what follows the first dot of its file name",
        {"a.tar": tar([("0.5.txt", b"one")])},
    ),
    "samples that are there twice": Refusal(
        "WORK/in/b.tar: '0' exists twice, at byte 0 and at byte 2048",
        {**TABLE, "b.tar": tar([("0.txt", b"a"), ("1.txt", b"b"), ("0.txt", b"c")])},
    ),
    "a column of pickles": Refusal(
        "column 'text.pkl' is a pickle, which runs code when it is read",
        {"a.tar": tar([("0.pkl", b"x")])},
        ["--input-format", "webdataset", "--column", "text.pkl"],
    ),
    "three columns for a pair": Refusal(
        "column ('a,b,c') must name one column of videos, or the two columns of a pair of images",
        {"a.csv": b"a,b,c\na.png,b.png,c.png\n"},
        ["--input-format", "csv", "--column", "a,b,c"],
        task="optical-flow",
    ),
    "a damaged Iceberg table": Refusal(
        "WORK/in: the metadata of the Iceberg table cannot be read: … Write its current version as Parquet files",
        {**TABLE, "metadata/v1.metadata.json": b"{}"},
    ),
    "a Hudi table": Refusal("WORK/in is a Hudi table … so its files are not read", {**TABLE, ".hoodie/a": b"x"}),
    "another format": Refusal(
        "input_format 'images' does not support text; use one of:", TEXT, ["--input-format", "images"]
    ),
    "an unknown format": Refusal(
        "input_format 'pictures' must be one of auto, video, images", TEXT, ["--input-format", "pictures"]
    ),
    "an unknown quoting": Refusal("--csv-quoting (some) must be auto, double or none", TEXT, ["--csv-quoting", "some"]),
    "an unknown transparency": Refusal(
        "--transparency (black) must be auto, drop or white", {"a.png": png()}, ["--transparency", "black"], task=IMAGES
    ),
    "a device that is not there": Refusal("room for 0", TEXT, ["--device", "cuda"]),
}

PREDICTIONS = {"predictions/a.txt": b"x"}
SAME = "INPUT (WORK/in) and OUTPUT (WORK/{}) are the same folder … give another OUTPUT"
APART = {
    "OUTPUT that is INPUT": Refusal(SAME.format("in"), TEXT, output="in"),
    "OUTPUT that is INPUT, by a link": Refusal(SAME.format("link"), TEXT, links={"link": "in"}, output="link"),
    "OUTPUT that is INPUT, by its parent": Refusal(SAME.format("in"), TEXT, output="in/../in/"),
    "INPUT that OUTPUT's predictions are": Refusal(
        "INPUT (WORK/in/predictions) lies in WORK/in/predictions, which this run writes to",
        PREDICTIONS,
        input="in/predictions",
        output="in",
    ),
    "INPUT in OUTPUT's predictions, by a link": Refusal(
        "INPUT (WORK/link/predictions/a.txt) lies in WORK/link/predictions, which this run writes to",
        PREDICTIONS,
        links={"link": "in"},
        input="link/predictions/a.txt",
        output="in",
    ),
    "OUTPUT on a read-only scheme": Refusal(
        "https://host/out: https:// cannot be written to; use a folder, s3://, gs:// or az://",
        TEXT,
        output="https://host/out",
    ),
    "OUTPUT below a file": Refusal("WORK/in/a.txt/out cannot be written to", TEXT, output="in/a.txt/out"),
}

REFUSALS: dict[str, Refusal] = NOTHING | TABLES | APART
