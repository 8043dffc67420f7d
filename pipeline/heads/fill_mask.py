"""Fill-mask: what most likely stood where a text says [MASK], place by place. Paper, section 4.1 (masked modelling)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipeline.heads.head import JSON, ColumnType, HeadOptions
from pipeline.heads.latent_columns import check_latent_count
from pipeline.heads.text_inputs import length_bucket, pad, read_tokenizer
from pipeline.heads.text_windows import mask_windows
from pipeline.heads.tokenizer import CLS, MASK, SEP, VOCABULARY, Tokenizer, decode
from pipeline.media import MediumKind

if TYPE_CHECKING:  # load tasks transform without torch
    import torch

    from pipeline.perceiver import PerceiverIO

_WINDOWS = 8  # predicted at once at least, where the units are few and long
_CANDIDATE: dict[str, ColumnType] = {"token_id": "int32", "token": "string", "score": "float32"}
_TOKENS = [decode([index]) for index in range(VOCABULARY)]


@dataclass(frozen=True, kw_only=True)
class FillMask:
    """The head of the masked language model. Only the places of [MASK] are decoded, and a text without any is not.

    A text longer than the model is read in overlapping windows, each place where it has most context.
    """

    task: ClassVar[str] = "fill-mask"
    model_classes: ClassVar[tuple[str, ...]] = ("PerceiverForMaskedLM",)
    stored_columns: ClassVar[tuple[str, ...]] = ("text", "replaced")
    medium: ClassVar[MediumKind] = "text"
    bytes_per_medium_byte: ClassVar[float] = 0.0
    clip_spec: ClassVar[None] = None
    tokenizer: Tokenizer
    top_k: int

    @classmethod
    def from_checkpoint(cls, folder: Path, options: HeadOptions) -> FillMask:
        """The head of a checkpoint in a local folder, from its config.json and tokenizer_config.json.

        CheckpointError where the checkpoint is of another class, or one of its files makes no sense. ValueError where
        the logits are asked for: `top_k` up to the whole vocabulary gives every score.
        """
        from pipeline.heads.checkpoint_json import check_class

        check_class(folder, cls.task, cls.model_classes)
        if options.logits:
            raise ValueError(f"{cls.task} keeps no logits: top_k {VOCABULARY} keeps every token's score")
        options.reject_unsupported(cls.task, "arrays", "points", "frames", "outputs")
        return cls(tokenizer=read_tokenizer(folder), top_k=min(options.top_k, VOCABULARY))

    @property
    def unit_bytes(self) -> int:
        """Bytes of the ids of a text as long as the model."""
        return 2 * self.tokenizer.max_length

    @property
    def columns(self) -> dict[str, ColumnType]:
        """text; filled: each mask replaced by its best token; masks: position in the tokens, the first of which is
        [CLS], and the best candidates; replaced: the text was not valid Unicode."""
        masks: list[ColumnType] = [{"position": "int32", "candidates": [dict(_CANDIDATE)]}]
        return {"text": "string", "filled": "string", "masks": masks, "replaced": "bool"}

    @property
    def fingerprint_options(self) -> dict[str, JSON]:
        """Transform and output options."""
        return {"transform": self.tokenizer.fingerprint_options, "top_k": self.top_k}

    def transform(self, medium: str | bytes) -> dict[str, np.ndarray]:
        """{"ids": int16 [tokens], "masks": int32 [masks], "replaced": uint8 [1]} of a whole text, however long."""
        encoded = self.tokenizer.encode(medium, truncate=False)
        masks = np.flatnonzero(encoded.ids == MASK).astype(np.int32)
        return {"ids": encoded.ids, "masks": masks, "replaced": np.array([encoded.replaced], np.uint8)}

    def bucket(self, shapes: Mapping[str, tuple[int, ...]]) -> Hashable:
        """Texts of about one length and number of masks; those without masks, of any length, cost nothing together."""
        tokens, masks = shapes["ids"][0], shapes["masks"][0]
        return (length_bucket(tokens), length_bucket(masks)) if masks else None

    def collate(self, arrays: dict[str, list[np.ndarray]], device: torch.device | str) -> dict[str, Any]:
        """{"texts": arrays of each unit, "asked": (unit, indices of its masks) of each window, "batches": windows
        padded to one length, each with "ids" int64 [B, L], "mask" bool [B, L] or None, "points" int64 [B, P]}."""
        asked: list[tuple[int, np.ndarray]] = []
        cut: list[tuple[np.ndarray, np.ndarray]] = []
        for unit, (ids, masks) in enumerate(zip(arrays["ids"], arrays["masks"], strict=True)):
            for window in mask_windows(len(ids) - 2, masks - 1, self.tokenizer.max_length - 2) if len(masks) else ():
                asked.append((unit, window.places))
                inside = np.concatenate([[CLS], ids[1 + window.begin : 1 + window.end], [SEP]])
                cut.append((inside, masks[window.places] - window.begin))
        size = max(_WINDOWS, len(arrays["ids"]))
        batches = [self._batch(cut[at : at + size], device) for at in range(0, len(cut), size)]
        return {"texts": arrays, "asked": asked, "batches": batches}

    def encode(self, model: PerceiverIO, inputs: dict[str, Any]) -> torch.Tensor:
        """Latents [T, N, D] of every window; no rows where no text has a mask."""
        import torch

        if not inputs["batches"]:
            latents = model.encoder.latents
            return latents.new_empty(0, *latents.shape)
        return torch.cat([model.encode(batch["ids"], batch["mask"]) for batch in inputs["batches"]])

    def latents_per_unit(self, inputs: dict[str, Any]) -> list[int]:
        """How many windows each text has."""
        units = np.array([unit for unit, _ in inputs["asked"]], np.int64)
        return [int(count) for count in np.bincount(units, minlength=len(inputs["texts"]["ids"]))]

    def arrays_from_row(self, row: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """What the text gave: where its masks are says which latents were made for which."""
        return {**self.transform(row["text"]), "replaced": np.array([row["replaced"]], np.uint8)}

    def decode(self, model: PerceiverIO, latents: torch.Tensor, inputs: dict[str, Any]) -> dict[str, Any]:
        """{"texts", "asked", "best": (token ids, scores), [B, P, top_k] each, of every batch}."""
        check_latent_count(latents, self.latents_per_unit(inputs))
        best, begin = [], 0
        for batch in inputs["batches"]:
            end = begin + len(batch["ids"])
            best.append(self._best(model.decode(latents[begin:end], batch["points"])))
            begin = end
        return {"texts": inputs["texts"], "asked": inputs["asked"], "best": best}

    def rows(self, outputs: dict[str, Any]) -> dict[str, list[Any] | np.ndarray]:
        """The columns of a micro-batch."""
        texts = outputs["texts"]
        tokens = [np.zeros((len(masks), self.top_k), np.int32) for masks in texts["masks"]]
        scores = [np.zeros((len(masks), self.top_k), np.float32) for masks in texts["masks"]]
        windows_of = iter(outputs["asked"])
        for token_ids, values in outputs["best"]:
            for some_tokens, some_scores in zip(token_ids.cpu().numpy(), values.cpu().numpy(), strict=True):
                unit, places = next(windows_of)
                tokens[unit][places] = some_tokens[: len(places)]
                scores[unit][places] = some_scores[: len(places)]
        return {
            "text": [decode(ids[1:-1]) for ids in texts["ids"]],
            "filled": [_filled(*unit) for unit in zip(texts["ids"], texts["masks"], tokens, strict=True)],
            "masks": [_masks(*unit) for unit in zip(texts["masks"], tokens, scores, strict=True)],
            "replaced": np.concatenate(texts["replaced"]).astype(bool),
        }

    def _batch(self, cut: list[tuple[np.ndarray, np.ndarray]], device: torch.device | str) -> dict[str, Any]:
        """Windows padded to one length, their points to one number: what is asked for twice is not looked at."""
        import torch

        ids, mask = pad([ids for ids, _ in cut], self.tokenizer.max_length)
        points = np.zeros((len(cut), max(len(asked) for _, asked in cut)), np.int64)
        for row, (_, asked) in zip(points, cut, strict=True):
            row[: len(asked)] = asked
        mask = None if mask is None else mask.to(device)
        return {"ids": ids.to(device), "mask": mask, "points": torch.from_numpy(points).to(device)}

    def _best(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and scores [B, P, top_k] of the best tokens of logits [B, P, vocabulary]; of equals the lower id wins."""
        values = logits.float()
        order = values.sort(dim=-1, descending=True, stable=True).indices[..., : self.top_k]
        return order, values.softmax(dim=-1).gather(-1, order)


def _filled(ids: np.ndarray, masks: np.ndarray, tokens: np.ndarray) -> str:
    """The text with each mask replaced by its best token; bytes side by side may make one character."""
    filled = ids.copy()
    filled[masks] = tokens[:, 0]
    return decode(filled[1:-1])


def _masks(masks: np.ndarray, tokens: np.ndarray, scores: np.ndarray) -> list[dict[str, Any]]:
    """One unit's list of structs."""
    return [
        {"position": position, "candidates": [_candidate(*one) for one in zip(some_tokens, some_scores, strict=True)]}
        for position, some_tokens, some_scores in zip(masks.tolist(), tokens.tolist(), scores.tolist(), strict=True)
    ]


def _candidate(token_id: int, score: float) -> dict[str, Any]:
    token = _TOKENS[token_id] if token_id < VOCABULARY else decode([token_id])
    return {"token_id": token_id, "token": token, "score": score}
