"""Damaged images and texts in whole runs: each is quarantined alone with its reason; all others are predicted.

Decoding is tested in detail with the sources; these tests check what a user finds in OUTPUT.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skimage.data
from PIL import Image

from pipeline.reference.published_configs import SEQUENCE
from tests import reference_outputs
from tests.faults.conftest import Outcome
from tests.sources.image_files import encoded
from tests.sources.image_files import raw_png as png_header
from tests.sources.test_webdataset_source import tar

Run = Callable[..., Outcome]

TURNED = 6  # EXIF orientation: stored rotated by a quarter turn
PAGE = b"<!DOCTYPE html><html><body>404 not found</body></html>\n"


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    """A photograph of 60 × 44 pixels."""
    return Image.fromarray(skimage.data.astronaut()).resize((60, 44))


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def with_fifty_bytes_overwritten(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(50) + data[middle + 50 :]


def readable_images(photo: Image.Image) -> dict[str, tuple[bytes, np.ndarray]]:
    """Return files by name, with the image uint8 [H, W, 3] that transformers' pipelines see."""
    pixels, gray = np.asarray(photo), np.asarray(photo.convert("L"))
    shown = np.indices(gray.shape).sum(axis=0) % 16 < 11
    alpha = np.where(shown, 255, 0).astype(np.uint8)
    few = photo.quantize(60)
    from_palette = np.array(few.getpalette(), np.uint8).reshape(-1, 3)[np.asarray(few)]
    jpeg = encoded(photo, "JPEG")
    damaged = with_fifty_bytes_overwritten(encoded(Image.fromarray(skimage.data.astronaut()), "JPEG"))
    exif = Image.Exif()
    exif[0x0112] = TURNED
    return {
        "animated.gif": (encoded(few, "GIF", save_all=True, append_images=[few.rotate(90)]), from_palette),
        "cmyk.tif": (encoded(photo.convert("CMYK"), "TIFF"), pixels),
        "float.tiff": (encoded(Image.fromarray(gray / np.float32(255)), "TIFF"), np.stack([gray] * 3, axis=-1)),
        "gray-alpha.png": (
            encoded(Image.merge("LA", (Image.fromarray(gray), Image.fromarray(alpha))), "PNG"),
            np.stack([gray] * 3, axis=-1),
        ),
        "alpha.png": (encoded(Image.fromarray(np.dstack([pixels, alpha])), "PNG"), pixels),
        "jpeg-named.gif": (jpeg, decoded(jpeg)),
        "overwritten.jpg": (damaged, decoded(damaged)),
        "palette.png": (encoded(few, "PNG"), from_palette),
        "photo.png": (encoded(photo, "PNG"), pixels),
        "png-named.jpg": (encoded(photo, "PNG"), pixels),
        "sixteen-bit.png": (
            encoded(Image.fromarray(gray.astype(np.uint16) * 257), "PNG"),
            np.stack([gray] * 3, axis=-1),
        ),
        # The centre crop of one pixel has none, and is black; transformers itself refuses to guess its channels.
        "tiny.png": (encoded(Image.new("RGB", (1, 1), "white"), "PNG"), np.zeros((40, 40, 3), np.uint8)),
        "turned.jpg": (encoded(photo, "JPEG", exif=exif), np.rot90(decoded(jpeg), -1)),
    }


def unreadable_images(photo: Image.Image) -> dict[str, tuple[bytes, str]]:
    """Return files by name, with the start of the message for each."""
    return {
        "cut.jpg": (encoded(photo, "JPEG")[:-300], "truncated JPEG: image file is truncated"),
        "cut.png": (encoded(photo, "PNG")[:900], "truncated PNG: image file is truncated"),
        "empty.jpg": (b"", "an empty file (0 bytes) is not an image of a supported format (JPEG, PNG, "),
        "hundred.png": (
            png_header(10_000, 10_000, color=2, depth=8, rows=b""),
            "10000 by 10000 pixels are too many: 100.0 megapixels, at most 76.7 are decoded from PNG "
            "(possibly a decompression bomb)",
        ),
        "four-hundred.png": (png_header(20_000, 20_000, color=2, depth=8, rows=b""), "too large: "),
        "page.jpg": (PAGE, "an HTML file is not an image of a supported format"),
        "postscript.jpg": (encoded(photo, "EPS"), "a PostScript (EPS) file is not an image of a supported format"),
    }


def test_unreadable_images_are_quarantined_alone(
    run: Run, checkpoint: Path, tmp_path: Path, photo: Image.Image
) -> None:
    good, bad = readable_images(photo), unreadable_images(photo)
    (tmp_path / "in").mkdir()
    for name, (data, _) in (good | bad).items():
        (tmp_path / "in" / name).write_bytes(data)
    found = run("image-classification", checkpoint, tmp_path / "in", logits=True, shard_size=5)
    assert found.rows.keys() == good.keys()
    assert found.quarantined.keys() == bad.keys()
    expected = reference_outputs.image_logits(checkpoint, [np.ascontiguousarray(image) for _, image in good.values()])
    for name, logits in zip(good, expected, strict=True):
        np.testing.assert_allclose(found.rows[name]["logits"], logits, atol=1e-4 * np.ptp(expected), err_msg=name)
    for name, (_, expected_text) in bad.items():
        unit = found.quarantined[name]
        assert unit["message"].startswith(expected_text), name
        assert (unit["stage"], unit["error"], unit["attempts"]) == ("load", "BadMedium", 1)
        assert unit["uri"] == str(tmp_path / "in" / name)


# Each line or record is a unit, whose id contains its place in the file.

LONG = "long " * (2 << 20)
LAST = b'{"text": "last"}'


def text_lines() -> bytes:
    """Return a good line, an empty one, one that is not UTF-8, one of 10 MB, and one without a line end."""
    return b"\n".join([b"a line", b"", b"caf\xe9 \xff", LONG.encode(), b"the last"])


def records() -> bytes:
    """Return a good record, lines that are not records with a text, and a good record."""
    bad = [b'{"text": ', b'["text"]', b'{"text": null}', b'{"text": 7}', b'{"other": "x"}', b"[" * 100_000, b"\xff\xfe"]
    return b"\n".join([b'{"text": "first"}', *bad, LAST])


def parquet(texts: list[str | None]) -> bytes:
    """Return a Parquet file of two rows per row group, uncompressed, so that damage hits a known row."""
    file = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), file, row_group_size=2, compression="none", use_dictionary=False)
    return file.getvalue()


def with_damaged_page(data: bytes, group: int) -> bytes:
    """Overwrite the page header of a row group."""
    at = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(group).column(0).data_page_offset
    return data[:at] + b"\xff" * 12 + data[at + 12 :]


def stream(texts: list[str | None], folder: Path) -> bytes:
    """Return the Arrow stream that `save_to_disk` writes."""
    datasets.Dataset.from_dict({"text": texts}).save_to_disk(folder)
    return next(folder.glob("data-*.arrow")).read_bytes()


def archive(count: int) -> bytes:
    return tar([(f"{number}.txt", f"sample {number}".encode()) for number in range(count)])


@pytest.fixture
def texts(tmp_path: Path) -> dict[str, bytes]:
    """Files by key."""
    many = b"".join(b'{"text": "%d"}\n' % number for number in range(5000))
    arrow = stream(["row 0", "row 1", "row 2", None], tmp_path / "saved")
    return {
        "lines.txt": text_lines(),
        "empty.txt": b"",
        "cut.txt.gz": gzip.compress(many)[:-5000],
        "records.jsonl": records(),
        "page.jsonl": PAGE,
        "page.jsonl.gz": PAGE,
        "cut.jsonl.zst": pa.compress(many, "zstd", asbytes=True)[:-900],
        "rows.csv": b'n,text\n1,one\n2,two,too\n3\n4,"f\xe9ur"\n5,"not closed\n6,six\n',
        "cut.csv.gz": gzip.compress(b"text\n" + many)[:-5000],
        "rows.parquet": parquet(["zero", None, "two"]),
        "damaged.parquet": with_damaged_page(parquet([f"row {number}" for number in range(6)]), 1),
        "cut.parquet": parquet(["zero"])[:-10],
        "empty.parquet": b"",
        "page.parquet": PAGE,
        "good/data-00000.arrow": arrow,
        "cut/data-00000.arrow": arrow[:-100],
        "page/data-00000.arrow": PAGE,
        "samples.tar": tar([("0.txt", b"zero"), ("1.cls", b"1"), ("2.txt", b"two")]),
        "cut.tar": tar([(f"{number}.txt", b"text") for number in range(20)])[:9000],
        "page.tar": PAGE,
    }


PREDICTED = {
    *("lines.txt#0", "lines.txt#7", "lines.txt#8", "lines.txt#15", f"lines.txt#{16 + len(LONG)}"),
    *("records.jsonl#0", "records.jsonl#37", f"records.jsonl#{len(records()) - len(LAST)}"),
    *("rows.csv#7", "rows.csv#25", "rows.csv#48", "rows.parquet#0", "rows.parquet#1", "rows.parquet#2"),
    *(f"damaged.parquet#{row}" for row in (0, 1, 4, 5)),
    *(f"good/data-00000.arrow#{row}" for row in range(4)),
    *("samples.tar#0", "samples.tar#2"),
}

REASONS = {
    "cut.txt.gz": "could not be decompressed to its end",
    "records.jsonl#18": "Expecting value",
    "records.jsonl#28": "the record must be a JSON object, got list",
    "records.jsonl#52": "column 'text' must hold text, got int",
    "records.jsonl#64": "column 'text' not found; the record has other",
    "records.jsonl#79": "recursion",
    f"records.jsonl#{len(records()) - len(LAST) - 3}": "Expecting value",
    "page.jsonl#0": "Expecting value",
    "page.jsonl.gz": "could not be decompressed",
    "cut.jsonl.zst": "could not be decompressed to its end",
    "rows.csv#13": "the row has 3 fields, the header has 2",
    "rows.csv#23": "the row has 1 fields, the header has 2",
    "rows.csv#34": "a quote in the row at byte 34 is not closed",
    "cut.csv.gz": "could not be decompressed to its end",
    "damaged.parquet#2": "page header",
    "damaged.parquet#3": "page header",
    "cut.parquet": "the file is a Parquet file that is truncated or damaged",
    "empty.parquet": "the file is an empty file (0 bytes), not a Parquet file",
    "page.parquet": "the file is an HTML file, not a Parquet file",
    "cut/data-00000.arrow": "the file is an Arrow file that is truncated or damaged",
    "page/data-00000.arrow": "the file is an HTML file, not an Arrow file",
    "samples.tar#1": "column txt or text not found; the sample has cls",
    "cut.tar": "the archive could not be read to its end",
    "page.tar": "the archive could not be read to its end",
}


def test_unreadable_texts_are_quarantined_alone(run: Run, checkpoints, tmp_path: Path, texts: dict[str, bytes]) -> None:
    for key, data in texts.items():
        (tmp_path / "in" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / key).write_bytes(data)
    folder = checkpoints(SEQUENCE)
    found = run("text-classification", folder, tmp_path / "in", shard_size=7, logits=True)
    assert found.rows.keys() == PREDICTED
    assert found.quarantined.keys() == REASONS.keys()
    for name, expected_text in REASONS.items():
        assert expected_text in found.quarantined[name]["message"], name
        assert found.quarantined[name]["stage"] == "load"
    lines = found.predicted("lines.txt")
    flags = {"truncated": [False, False, False, True, False], "replaced": [False, False, True, False, False]}
    assert {name: [row[name] for row in lines] for name in flags} == flags
    read = [
        "a line",
        "",
        "caf\ufffd \ufffd",
        "long " * 7 + "lon",
        "the last",
    ]  # the model reads 38 bytes
    expected = reference_outputs.text_logits(folder, read)
    np.testing.assert_allclose([row["logits"] for row in lines], expected, atol=1e-4 * np.ptp(expected))
