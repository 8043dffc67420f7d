"""Masks of two runs: the tokens that fill them, and which of them changed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.comparison.differences import Respect
from pipeline.comparison.pairs import in_order
from pipeline.formatting import count, counted, percent
from pipeline.labelling.metrics import wilson_interval
from pipeline.report.sections.masks import shown_token

NAMED = 3


@dataclass(frozen=True, kw_only=True)
class TokenChange:
    """Masks whose best token is `a` in A and `b` in B. ids: of both tokens; parts of a character look the same."""

    a: str
    b: str
    ids: tuple[int, int]
    masks: int

    @property
    def shown(self) -> tuple[str, str]:
        """Both tokens as pages and terminals show them."""
        return shown_token(self.ids[0], self.a), shown_token(self.ids[1], self.b)


@dataclass(frozen=True, kw_only=True)
class MaskChanges:
    """Best tokens of the masks of the same texts in two runs.

    Attributes:
        texts: number of texts with a mask.
        masks, same: number of masks, and of those with the same token.
        unequal: number of texts whose masks are in other places in B, which are not compared.
        agreement: share of masks with the same token; 1 if there are none.
        interval: between which the agreement of such masks lies with 95 % confidence (Wilson's interval).
        changes: pairs of different tokens, the most frequent first.
    """

    texts: int
    masks: int
    same: int
    unequal: int
    agreement: float
    interval: tuple[float, float]
    changes: Sequence[TokenChange]

    def describe(self, pairs: int = NAMED) -> list[str]:
        """Return sentences for people. pairs: Number of pairs of tokens to name."""
        lines = [f"not compared: {counted(self.unequal, 'text')} with masks in other places in B"]
        lines = lines if self.unequal else []
        if not self.masks:
            return ["there is no mask to compare", *lines]
        low, high = self.interval
        return [
            f"the best token agrees for {count(self.same)} of {counted(self.masks, 'mask')} in "
            f"{counted(self.texts, 'text')}: {percent(self.agreement)} (95 % interval {percent(low)} to "
            f"{percent(high)})",
            *(f"{each.shown[0]} in A is {each.shown[1]} in B: {count(each.masks)}" for each in self.changes[:pairs]),
            *lines,
        ]


class MaskColumns:
    """Compares the best tokens of masks.

    The columns of the table are the tokens in each run, and how many of them changed; null if masks are in other
    places.
    """

    columns: Sequence[str] = ("masks",)

    def __init__(self, units: int) -> None:
        self._masks, self._changed = np.zeros(units, np.int64), np.zeros(units, np.int64)
        self._unequal, self._scores = np.zeros(units, bool), np.zeros(units, bool)
        self._changes: Counter[tuple[str, int, str, int]] = Counter()
        self._numbers: list[np.ndarray] = []
        self._tokens: tuple[list[pa.Array], list[pa.Array]] = ([], [])

    def add(self, numbers: np.ndarray, a: pa.Table, b: pa.Table) -> None:
        """Compare some texts."""
        self._numbers.append(numbers)
        first, second = (_Best(table["masks"].combine_chunks()) for table in (a, b))
        for tokens, best in zip(self._tokens, (first, second), strict=True):
            tokens.append(best.tokens)
        unequal = first.counts != second.counts
        keep_a, keep_b = (~np.repeat(unequal, best.counts) for best in (first, second))
        rows = np.repeat(np.arange(len(numbers)), first.counts)[keep_a]
        moved = np.flatnonzero(first.positions[keep_a] != second.positions[keep_b])
        unequal[rows[moved]] = True
        is_same_text = ~unequal[rows]
        changed = (first.ids[keep_a] != second.ids[keep_b]) & is_same_text
        self._unequal[numbers] = unequal
        self._masks[numbers] = np.bincount(rows[is_same_text], minlength=len(numbers))
        self._changed[numbers] = np.bincount(rows[changed], minlength=len(numbers))
        scored = (first.scores[keep_a] != second.scores[keep_b]) & is_same_text & ~changed
        self._scores[numbers] = np.bincount(rows[scored], minlength=len(numbers)) > 0
        tokens = [
            column.filter(pa.array(keep)).filter(pa.array(changed)).to_pylist()
            for best, keep in ((first, keep_a), (second, keep_b))
            for column in (best.flat, pa.array(best.ids))
        ]
        self._changes.update(zip(*tokens, strict=True))

    def found(self) -> MaskChanges:
        """Return the counts of all texts."""
        masks = int(self._masks.sum())
        same = masks - int(self._changed.sum())
        return MaskChanges(
            texts=int((self._masks > 0).sum()),
            masks=masks,
            same=same,
            unequal=int(self._unequal.sum()),
            agreement=same / masks if masks else 1.0,
            interval=wilson_interval(same, masks) if masks else (0.0, 1.0),
            changes=[
                TokenChange(a=a, b=b, ids=(id_a, id_b), masks=masks)
                for (a, id_a, b, id_b), masks in sorted(self._changes.items(), key=lambda each: (-each[1], each[0]))
            ],
        )

    def respects(self) -> list[Respect]:
        """Return the differences of all texts, those with masks in other places first."""
        columns = {
            name: in_order(self._numbers, tokens)
            for name, tokens in zip(("tokens_a", "tokens_b"), self._tokens, strict=True)
        }
        changed = pa.array(self._changed, mask=self._unequal)
        order = np.where(self._unequal, np.inf, self._changed)
        return [
            Respect(
                name="tokens",
                differs=self._unequal | (self._changed > 0),
                columns={"tokens_changed": changed, **columns},
                order=order,
            ),
            Respect(name="scores", differs=self._scores),
        ]


class _Best:
    """The best candidates of the masks of m texts, flat.

    Attributes:
        counts: int64 [m], masks of each text.
        tokens: list of texts [m]; `flat` has all of them.
        ids, positions, scores: of all masks.
    """

    def __init__(self, masks: pa.ListArray) -> None:
        flat = pc.list_flatten(masks)
        best = pc.list_element(pc.struct_field(flat, "candidates"), 0)
        self.counts = pc.list_value_length(masks).to_numpy(zero_copy_only=False).astype(np.int64)
        self.flat = pc.struct_field(best, "token")
        self.ids = pc.struct_field(best, "token_id").to_numpy(zero_copy_only=False)
        self.scores = pc.struct_field(best, "score").to_numpy(zero_copy_only=False)
        self.positions = pc.struct_field(flat, "position").to_numpy(zero_copy_only=False)
        offsets = np.concatenate([[0], np.cumsum(self.counts)]).astype(np.int32)
        self.tokens = pa.ListArray.from_arrays(pa.array(offsets), self.flat)
