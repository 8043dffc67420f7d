"""What the runs of the demo found, next to what is right, in words."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow.dataset as ds

from pipeline.demo.samples import SHIFT, Sample
from pipeline.results.unit_arrays import flow_array

Row: TypeAlias = Mapping[str, Any]
Lines: TypeAlias = list[tuple[str, str]]
_SHOWN = 10  # rows per task


def describe(sample: Sample, output: Path) -> tuple[Lines, str]:
    """Return lines for the units of a run, and a sentence about all of them. Quarantined units come last."""
    rows = _read(output / "predictions")
    lines, verdict = _DESCRIBE[sample.task](sample, rows)
    quarantined = _read(output / "quarantine") if (output / "quarantine").is_dir() else []
    return [*lines[:_SHOWN], *((row["id"], f"quarantined: {row['message']}") for row in quarantined)], verdict


def _read(folder: Path) -> list[dict[str, Any]]:
    rows = ds.dataset(folder, format="parquet").to_table().to_pylist()
    return sorted(rows, key=lambda row: str(row["id"]))


def _sure(row: Row) -> str:
    return f"{row['label']}, {100 * row['score']:.0f} % sure"


def _digits(sample: Sample, rows: Sequence[Row]) -> tuple[Lines, str]:
    lines = [(row["id"], f"digit {sample.answers[row['id']]}: predicted {_sure(row)}") for row in rows]
    right = sum(row["label"] == sample.answers[row["id"]] for row in rows)
    return lines[::2], f"{right} of {len(rows)} digits are right."


def _kinds(sample: Sample, rows: Sequence[Row]) -> tuple[Lines, str]:
    lines = [(row["text"].splitlines()[0][:40], f"{sample.answers[row['id']]}: predicted {_sure(row)}") for row in rows]
    right = sum(row["label"] == sample.answers[row["id"]] for row in rows)
    return lines, f"{right} of {len(rows)} texts are right."


def _masks(sample: Sample, rows: Sequence[Row]) -> tuple[Lines, str]:
    lines, right = [], 0
    for row in rows:
        best, wanted = row["masks"][0]["candidates"][0], sample.answers[row["id"]]
        right += best["token"] == wanted
        lines.append((row["text"], f"{wanted!r}: predicted {best['token']!r}, {100 * best['score']:.0f} % sure"))
    return lines, f"{right} of {len(rows)} masked bytes are right."


def _flow(sample: Sample, rows: Sequence[Row]) -> tuple[Lines, str]:
    lines, errors = [], []
    for row in rows:
        flow = flow_array(row)
        x, y = flow.mean(axis=(0, 1))
        errors.append(float(np.linalg.norm(flow - np.array(SHIFT), axis=-1).mean()))
        lines.append((row["id"], f"{sample.answers[row['id']]}: predicted {x:+.2f}, {y:+.2f} (mean of all pixels)"))
    still = float(np.linalg.norm(SHIFT))
    return lines, f"The flow is off by {np.mean(errors):.2f} pixels on average; no motion would be off by {still:.2f}."


def _clips(sample: Sample, rows: Sequence[Row]) -> tuple[Lines, str]:  # noqa: ARG001
    lines = [
        (
            f"{row['start_seconds']:.2f} to {row['end_seconds']:.2f} s",
            f"frames rebuilt at {row['video_psnr_db']:.1f} dB, sound at {row['audio_psnr_db']:.1f} dB",
        )
        for row in rows
    ]
    quality = np.mean([row["video_psnr_db"] for row in rows])
    return lines, (
        f"Frames are rebuilt at {quality:.1f} dB on average. So small a model has learned neither sound nor labels."
    )


def _embeddings(sample: Sample, rows: Sequence[Row]) -> tuple[Lines, str]:
    vectors = np.array([row["embedding"] for row in rows], np.float32)
    vectors -= vectors.mean(axis=0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness = vectors @ vectors.T - 2 * np.eye(len(rows))
    nearest = [rows[index]["id"] for index in likeness.argmax(axis=1)]
    lines = [(row["id"], f"most like {name}") for row, name in zip(rows, nearest, strict=True)]
    right = sum(sample.answers[row["id"]] == sample.answers[name] for row, name in zip(rows, nearest, strict=True))
    return lines[::2], f"{right} of {len(rows)} images are most like the other one of their digit."


_DESCRIBE: Mapping[str, Callable[[Sample, Sequence[Row]], tuple[Lines, str]]] = {
    "image-classification": _digits,
    "text-classification": _kinds,
    "fill-mask": _masks,
    "optical-flow": _flow,
    "multimodal-autoencoding": _clips,
    "feature-extraction": _embeddings,
}
