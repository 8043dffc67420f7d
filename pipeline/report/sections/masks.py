"""Filled masks in their texts, with the candidates for each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.formatting import counted
from pipeline.heads.special_tokens import SPECIAL
from pipeline.heads.tokenizer import VOCABULARY
from pipeline.report.plots import Plot
from pipeline.report.sample import Sample
from pipeline.report.sections.labels import score_plot
from pipeline.report.shown_text import shown_name
from pipeline.visible import visible_text

MAX_ROWS = 5_000
EXAMPLES = 8  # of the least and of the most certain texts
SHOWN_MASKS = 12  # per text
AROUND = 90  # characters of text on each side of a mask
MASK = "[MASK]"


@dataclass(frozen=True, kw_only=True)
class Filled:
    """A mask and its candidates, as (token, score), the best first."""

    token: str
    score: float
    candidates: Sequence[tuple[str, float]]


@dataclass(frozen=True, kw_only=True)
class FilledText:
    """A text in parts: strings and filled masks. `score`: of its least certain mask. `cut`: what is not shown."""

    name: str
    parts: Sequence[str | Filled]
    score: float
    cut: str = ""


@dataclass(frozen=True, kw_only=True)
class MaskSection:
    """Filled masks of a sample. `without`: number of its texts without a mask."""

    note: str
    texts: int
    masks: int
    without: int
    plot: Plot
    median: float
    least: Sequence[FilledText]
    most: Sequence[FilledText]


def mask_section(sample: Sample) -> MaskSection | None:
    """Return the section, None if no text in the sample has a mask."""
    rows = list(sample.rows_of(["id", "text", "masks"], MAX_ROWS))
    masked = sorted((row for row in rows if row["masks"]), key=_confidence)
    if not masked:
        return None
    scores = np.array([mask["candidates"][0]["score"] for row in masked for mask in row["masks"]])
    half = min(EXAMPLES, (len(masked) + 1) // 2)
    return MaskSection(
        note=sample.note,
        texts=len(masked),
        masks=len(scores),
        without=len(rows) - len(masked),
        plot=score_plot(scores, "score of the best token"),
        median=float(np.median(scores)),
        least=[filled_text(row) for row in masked[:half]],
        most=[filled_text(row) for row in masked[half:][-EXAMPLES:][::-1]],
    )


def _confidence(row: Mapping[str, Any]) -> float:
    return min(mask["candidates"][0]["score"] for mask in row["masks"])


def filled_text(row: Mapping[str, Any]) -> FilledText:
    """Return the text with its masks filled. Long stretches between masks are cut, and so are masks after the first."""
    texts, masks = row["text"].split(MASK), [_filled(mask) for mask in row["masks"]]
    if len(texts) != len(masks) + 1:  # a part of a mask's name is in the text
        texts, masks = [row["text"], *[" "] * (len(masks) - 1), ""], masks
    more = len(masks) - SHOWN_MASKS
    parts = list(_interleave(texts[: SHOWN_MASKS + 1], masks[:SHOWN_MASKS]))
    notes = [counted(more, "more mask") if more > 0 else "", f"{len(row['text']):,} characters in all"]
    is_cut = more > 0 or any(len(text) > 2 * AROUND for text in texts)
    cut = ", ".join(filter(None, notes)) if is_cut else ""
    return FilledText(name=shown_name(row["id"]), parts=parts, score=_confidence(row), cut=cut)


def _interleave(texts: Sequence[str], masks: Sequence[Filled]) -> Iterator[str | Filled]:
    for number, text in enumerate(texts):
        begin = text if len(text) <= 2 * AROUND else f"{text[:AROUND]} … {text[-AROUND:]}"
        if number == 0 and len(text) > 2 * AROUND:
            begin = f"… {text[-AROUND:]}"
        elif number == len(masks) and len(text) > 2 * AROUND:
            begin = f"{text[:AROUND]} …"
        yield visible_text(begin)
        if number < len(masks):
            yield masks[number]


def _filled(mask: Mapping[str, Any]) -> Filled:
    candidates = [(shown_token(each["token_id"], each["token"]), each["score"]) for each in mask["candidates"]]
    return Filled(token=candidates[0][0], score=candidates[0][1], candidates=candidates)


def shown_token(token_id: int, token: str) -> str:
    """Return a token as it is shown: a blank one by a mark, a part of a character as its byte, \\xc3."""
    if token == "\ufffd" and len(SPECIAL) <= token_id < VOCABULARY:  # noqa: S105 - no password
        return f"\\x{token_id - len(SPECIAL):02x}"
    return {" ": "␣", "\n": "↵", "\t": "⇥", "": "(nothing)"}.get(token, shown_name(token, 20))
