"""Fill-mask: the most likely tokens at each [MASK] of a text. Paper, "Language" (masked language modelling)."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from pipeline.heads.head import FLOW_OPTIONS, JSON, ColumnType, Head, HeadOptions, Model, Tensor, as_tensor
from pipeline.heads.latent_columns import check_latent_count
from pipeline.heads.text_inputs import TextInputs, length_bucket, pad
from pipeline.heads.tokenizer import CLS, MASK, SEP, VOCABULARY, decode

_MIN_WINDOWS_PER_BATCH = 8  # if the units are few and long
_TOKENS = [decode([index]) for index in range(VOCABULARY)]


@dataclass(frozen=True, kw_only=True)
class FillMask(TextInputs, Head):
    """The head of the masked language model. Only the positions of [MASK] are decoded.

    A text longer than the model is read in overlapping windows, each mask where it has most context. A text without
    masks is not encoded.
    """

    task: ClassVar[str] = "fill-mask"
    model_classes: ClassVar[tuple[str, ...]] = ("PerceiverForMaskedLM",)
    stored_columns: ClassVar[tuple[str, ...]] = ("text", "replaced")
    top_k: int

    @classmethod
    def from_checkpoint(cls, folder: Path, options: HeadOptions) -> Self:
        """Create the head from config.json and tokenizer_config.json, or transformers' defaults without the latter.

        Raise CheckpointError if the checkpoint has an invalid file, and ValueError for options that are not supported.
        Among these is `logits`: `top_k` up to the whole vocabulary gives every score.
        """
        if options.logits:
            raise ValueError(f"logits are not supported for {cls.task}: top_k {VOCABULARY} keeps every token's score")
        options.reject_unsupported(cls.task, "arrays", "points", "frames", "outputs", *FLOW_OPTIONS)
        return cls.from_folder(folder, top_k=min(options.top_k, VOCABULARY))

    @property
    def columns(self) -> dict[str, ColumnType]:
        """text; filled: the text with each mask replaced by its best token; masks; replaced: it had invalid Unicode.

        masks: the position of each mask among the tokens, with [CLS] at 0, and its best `top_k` candidates.
        """
        candidates: list[ColumnType] = [{"token_id": "int32", "token": "string", "score": "float32"}]
        masks: list[ColumnType] = [{"position": "int32", "candidates": candidates}]
        return {"text": "string", "filled": "string", "masks": masks, "replaced": "bool"}

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """The options of the transform and of the output."""
        return {**super().fingerprint_options, "top_k": self.top_k}

    def transform(self, medium: str | bytes) -> dict[str, np.ndarray]:
        """Return {"ids": int16 [tokens], "masks": int32 [masks], "replaced": uint8 [1]} of a text of any length."""
        encoded = self.tokenizer.encode(medium, truncate=False)
        masks = np.flatnonzero(encoded.ids == MASK).astype(np.int32)
        return {"ids": encoded.ids, "masks": masks, "replaced": np.array([encoded.replaced], np.uint8)}

    def bucket(self, shapes: Mapping[str, tuple[int, ...]]) -> Hashable:
        """Group texts of similar length and number of masks; those without masks, which are not encoded, together."""
        tokens, masks = shapes["ids"][0], shapes["masks"][0]
        return (length_bucket(tokens), length_bucket(masks)) if masks else None

    def collate(self, arrays: dict[str, list[np.ndarray]]) -> dict[str, Any]:
        """Cut texts into windows and pad these.

        Returns:
            texts: the arrays of each unit.
            window_masks: of each window the index of its unit and the indices of its masks.
            batches: windows padded to one length, each with "ids" int64 [B, L], "mask" bool [B, L] or None, and
                "points" int64 [B, P], the positions of the masks.
        """
        window_masks: list[tuple[int, np.ndarray]] = []
        window_ids: list[tuple[np.ndarray, np.ndarray]] = []
        for unit, (ids, masks) in enumerate(zip(arrays["ids"], arrays["masks"], strict=True)):
            for window in mask_windows(len(ids) - 2, masks - 1, self.tokenizer.max_length - 2) if len(masks) else ():
                window_masks.append((unit, window.masks))
                inside = np.concatenate([[CLS], ids[1 + window.begin : 1 + window.end], [SEP]])
                window_ids.append((inside, masks[window.masks] - window.begin))
        size = max(_MIN_WINDOWS_PER_BATCH, len(arrays["ids"]))
        batches = [self._pad(window_ids[at : at + size]) for at in range(0, len(window_ids), size)]
        return {"texts": arrays, "window_masks": window_masks, "batches": batches}

    def encode(self, model: Model, inputs: dict[str, Any]) -> Tensor:
        """Return latents [T, N, D] of all windows, ordered by text."""
        import torch

        if not inputs["batches"]:
            latents = model.encoder.latents
            return latents.new_empty(0, *latents.shape)
        return torch.cat([model.encode(batch["ids"], batch["mask"]) for batch in inputs["batches"]])

    def latents_per_unit(self, inputs: dict[str, Any]) -> list[int]:
        """Return the number of windows of each text."""
        units = np.array([unit for unit, _ in inputs["window_masks"]], np.int64)
        return [int(count) for count in np.bincount(units, minlength=len(inputs["texts"]["ids"]))]

    def arrays_from_row(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return the arrays of `transform` for the text of a row; its masks determine its windows and their latents."""
        return {**self.transform(row["text"]), "replaced": np.array([row["replaced"]], np.uint8)}

    def decode(self, model: Model, latents: Tensor, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the texts, the masks of each window, and of each batch the best token ids and scores [B, P, top_k]."""
        check_latent_count(latents, self.latents_per_unit(inputs))
        parts = latents.split([len(batch["ids"]) for batch in inputs["batches"]])
        decoded = (model.decode(part, batch["points"]) for part, batch in zip(parts, inputs["batches"], strict=True))
        best = [self._best_tokens(logits) for logits in decoded]
        return {"texts": inputs["texts"], "window_masks": inputs["window_masks"], "best": best}

    def rows(self, outputs: dict[str, Any]) -> dict[str, list[Any] | np.ndarray]:
        """Return the columns of a micro-batch."""
        texts = outputs["texts"]
        tokens = [np.zeros((len(masks), self.top_k), np.int32) for masks in texts["masks"]]
        scores = [np.zeros((len(masks), self.top_k), np.float32) for masks in texts["masks"]]
        windows = iter(outputs["window_masks"])
        for batch_tokens, batch_scores in outputs["best"]:
            for best, values in zip(batch_tokens.cpu().numpy(), batch_scores.cpu().numpy(), strict=True):
                unit, masks = next(windows)
                tokens[unit][masks] = best[: len(masks)]
                scores[unit][masks] = values[: len(masks)]
        return {
            "text": [decode(ids[1:-1]) for ids in texts["ids"]],
            "filled": [_filled(*unit) for unit in zip(texts["ids"], texts["masks"], tokens, strict=True)],
            "masks": [_mask_structs(*unit) for unit in zip(texts["masks"], tokens, scores, strict=True)],
            "replaced": np.concatenate(texts["replaced"]).astype(bool),
        }

    def _pad(self, windows: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, Any]:
        """Pad windows to one length and their points to one number; the outputs at padded points are ignored."""
        ids, mask = pad([ids for ids, _ in windows], self.tokenizer.max_length)
        points = np.zeros((len(windows), max(len(positions) for _, positions in windows)), np.int64)
        for row, (_, positions) in zip(points, windows, strict=True):
            row[: len(positions)] = positions
        return {"ids": ids, "mask": mask, "points": as_tensor(points)}

    def _best_tokens(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return ids and scores [B, P, top_k] of logits [B, P, vocabulary]; of equal logits the lower id is better."""
        values = logits.float()
        order = values.sort(dim=-1, descending=True, stable=True).indices[..., : self.top_k]
        return order, values.softmax(dim=-1).gather(-1, order)


class Window(NamedTuple):
    """Tokens `begin` to `end` of a text, and the indices of the `masks` that are predicted in it."""

    begin: int
    end: int
    masks: np.ndarray


def mask_windows(tokens: int, positions: np.ndarray, size: int) -> list[Window]:
    """Cover masks at sorted token `positions` of a text of `tokens` tokens with windows of at most `size` tokens.

    A mask belongs to the window whose centre is nearest, where the shorter side of its context is longest. Windows
    start every `size` / 2 tokens, and the last one ends with the text; windows without masks are left out.
    """
    last = max(0, tokens - size)
    begins = np.append(np.arange(0, last, max(1, size // 2)), last)
    # The nearest of two neighbouring windows changes half way between their centres.
    nearest = np.searchsorted((begins[:-1] + begins[1:] + size - 1) / 2, positions)
    used, firsts = np.unique(nearest, return_index=True)
    return [
        Window(int(begins[at]), int(min(tokens, begins[at] + size)), masks)
        for at, masks in zip(used, np.split(np.arange(len(positions)), firsts[1:]), strict=True)
    ]


def _filled(ids: np.ndarray, masks: np.ndarray, tokens: np.ndarray) -> str:
    """Return the text with each mask replaced by its best token; neighbouring bytes may form one character."""
    filled = ids.copy()
    filled[masks] = tokens[:, 0]
    return decode(filled[1:-1])


def _mask_structs(masks: np.ndarray, tokens: np.ndarray, scores: np.ndarray) -> list[dict[str, Any]]:
    """Return the structs of one unit's masks."""
    return [
        {"position": position, "candidates": [_candidate(*each) for each in zip(best, values, strict=True)]}
        for position, best, values in zip(masks.tolist(), tokens.tolist(), scores.tolist(), strict=True)
    ]


def _candidate(token_id: int, score: float) -> dict[str, Any]:
    token = _TOKENS[token_id] if token_id < VOCABULARY else decode([token_id])
    return {"token_id": token_id, "token": token, "score": score}
