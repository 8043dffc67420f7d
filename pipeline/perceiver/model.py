"""Perceiver IO for inference: encode once, decode all output queries or only some.

Shape letters: B units, M inputs, N latents, D latent channels, P output queries given by flat indices.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from pipeline.checkpoints import CheckpointError, fetch, read_config, read_model_class
from pipeline.perceiver.architectures import build_modules
from pipeline.perceiver.batching import concat, even_slices
from pipeline.perceiver.checkpoint_loading import load_weights, match_weights, removed_prefix
from pipeline.perceiver.cpu_allocator import keep_freed_memory
from pipeline.perceiver.cpu_parallel import map_units
from pipeline.perceiver.decoders import LOGITS, Decoder, OutputPoints
from pipeline.perceiver.input_features import ConvStem
from pipeline.perceiver.layer_builders import Config
from pipeline.perceiver.onednn_linear import Linear
from pipeline.perceiver.partial_attention import PartialAttention
from pipeline.perceiver.preprocessors import InputPart, MultimodalPreprocessor, Preprocessor
from pipeline.visible import visible_line

_LOGGER = logging.getLogger(__name__)

ModelInputs = Tensor | Mapping[str, Tensor]
Points = Tensor | OutputPoints | None


class PerceiverIO(nn.Module):
    """Preprocessor, encoder and decoder of one of transformers' Perceiver classes, see `architectures`.

    For inference only: no dropout, no gradients, and weights must not change after loading.
    """

    def __init__(self, config: Config, model_class: str) -> None:
        """Build a model of `model_class`, such as "PerceiverForMaskedLM", with uninitialised weights.

        Raises ValueError if the class or a shape in `config` is not supported.
        """
        super().__init__()
        self.config, self.model_class = config, model_class
        self.preprocessor, self.encoder, self.decoder = build_modules(config, model_class)
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def from_pretrained(
        cls, ref: str, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32, fold: bool = True
    ) -> Self:
        """Load a Hugging Face checkpoint from a Hub id, a folder, or a URI that fsspec supports.

        fold: form products of weights and pack weights for the CPU, for speed. If False, every layer is computed as it
        was trained.
        Raises CheckpointError, naming the file or tensor, if this is not a valid Perceiver checkpoint.
        """
        folder = fetch(ref)
        model = cls.without_weights(folder)
        if prefix := load_weights(model, folder, model.model_class):
            _LOGGER.warning(visible_line(removed_prefix(prefix)))
        if fold:
            model.fold()
        model = model.to(device=device, dtype=dtype)
        if fold:
            model.pack()
        return model

    @classmethod
    def check_pretrained(cls, folder: Path) -> list[str]:
        """Check a checkpoint in a local folder by its configuration and the headers of its weights.

        Returns lines about what loading it will assume. Raises CheckpointError as `from_pretrained` does.
        """
        model = cls.without_weights(folder)
        prefix = match_weights(model, folder, model.model_class).prefix
        return [removed_prefix(prefix)] if prefix else []

    @classmethod
    def without_weights(cls, folder: Path) -> Self:
        """Build the model of the config.json in a local folder on the meta device."""
        config, model_class = read_config(folder), read_model_class(folder)
        try:
            with torch.device("meta"):
                return cls(config, model_class)
        except Exception as error:  # whatever torch raises for a shape that is no shape
            raise CheckpointError(f"{folder / 'config.json'}: {error}") from error

    @torch.no_grad()
    def fold(self) -> None:
        """Form the products of weights that save work, in float64, and delete weights that are no longer needed."""
        self.encoder.fold()
        for module in list(self.modules()):
            if isinstance(module, ConvStem | Decoder):
                module.fold()

    def pack(self) -> None:
        """Convert weights to the fastest layout for this CPU, if it has one."""
        if self.device.type == "cpu":
            keep_freed_memory()
        for module in self.modules():
            if isinstance(module, Linear):
                module.pack()

    @property
    def device(self) -> torch.device:
        return self.encoder.latents.device

    @property
    def dtype(self) -> torch.dtype:
        return self.encoder.latents.dtype

    @property
    def outputs(self) -> dict[str, int]:
        """Names of the decoder's outputs, with the number of queries of each."""
        outputs = {} if self.decoder is None else self.decoder.outputs
        return {name: output.queries.count for name, output in outputs.items()}

    @torch.inference_mode()
    def encode(self, inputs: ModelInputs, mask: Tensor | None = None) -> Tensor:
        """Return latents [B, N, D].

        inputs: token ids [B, L]; images [B, 3, H, W]; frame pairs as patches [B, 2, 27, H, W]; for several modalities a
        dict, {"audio": [B, S, 1], "image": [B, T, 3, H, W]}; without a preprocessor [B, M, d_model].
        mask: [B, M], 1 for inputs, 0 for padding.
        """

        def encode(inputs: ModelInputs, mask: Tensor | None) -> Tensor:
            parts = self.input_parts(inputs)
            return self.encoder(parts, None if mask is None else self._score_bias(mask, parts))

        count = max(map(len, inputs.values())) if isinstance(inputs, Mapping) else len(inputs)
        return concat(map_units(encode, count, self.device, inputs, mask))

    @torch.inference_mode()
    def encode_shard(self, inputs: ModelInputs, mask: Tensor | None, shard: int, num_shards: int) -> PartialAttention:
        """Return the latents' attention over one of `num_shards` equal shares of the inputs, numbered from 0.

        `encoder.finish` turns those of all shards into latents. inputs, mask: see `encode`, for all inputs.
        """
        if mask is not None and isinstance(self.preprocessor, MultimodalPreprocessor):
            raise ValueError("a mask over several modalities is not supported on several devices")
        parts = self.input_parts(inputs)
        bias = None if mask is None else self._score_bias(mask, parts)
        shares = [even_slices(part.shape[1], num_shards)[shard] for part in parts]
        return self.encoder.attend_partial(
            [part[:, share] for part, share in zip(parts, shares, strict=True)],
            None if bias is None else bias[:, shares[0]],  # a mask allows one part only
        )

    def input_parts(self, inputs: ModelInputs) -> list[InputPart]:
        """Return the encoder's inputs in order; those on a grid without their positions."""
        x = self._cast(inputs)
        if isinstance(self.preprocessor, MultimodalPreprocessor):
            return self.preprocessor.parts(x)
        if self.preprocessor is not None:
            return [self.preprocessor.part(x)]
        d_model = self.config.d_model
        if not isinstance(x, Tensor) or x.shape[-1] != d_model:
            shape = tuple(x.shape) if isinstance(x, Tensor) else sorted(x)
            raise ValueError(f"inputs {shape} must be [B, M, d_model ({d_model})]: this model has no preprocessor")
        return [x]

    @torch.inference_mode()
    def decode(self, latents: Tensor, points: Points = None, *, inputs: ModelInputs | None = None) -> Any:
        """Return the outputs of latents [B, N, D], for all output queries or only those at `points`.

        points: flat indices of output queries, [P] for all units alike or [B, P] per unit. With several outputs, a dict
        of such by name, or None for all queries of an output; outputs that it does not name are not decoded.
        inputs: the inputs that were encoded, for models whose queries are made of them (optical flow).
        Returns a tensor, or with several outputs a dict of tensors. Optical flow [B, H, W, 2] is in the unit in which
        the model was trained: 20 pixels for the published checkpoint.
        """
        indices = self.check_points(points)
        return self.assemble(self.decode_queries(latents, indices, inputs), indices)

    @torch.inference_mode()
    def decode_queries(
        self, latents: Tensor, points: OutputPoints, inputs: ModelInputs | None = None
    ) -> dict[str, Tensor]:
        """Return [B, P, out] of each output, for any of its queries; `assemble` shapes those of all queries.

        points: flat indices by output, from `check_points`.
        """
        decoder = self._require_decoder()

        def decode(latents: Tensor, points: OutputPoints, inputs: ModelInputs | None) -> dict[str, Tensor]:
            query_inputs = None
            if decoder.needs_inputs and inputs is not None and isinstance(self.preprocessor, Preprocessor):
                query_inputs = self.preprocessor.part(self._cast(inputs))
            return decoder.decode_queries(latents, points, query_inputs)

        decoded = map_units(decode, len(latents), self.device, latents, points, inputs)
        return {name: concat([each[name] for each in decoded]) for name in decoded[0]}

    def assemble(self, decoded: Mapping[str, Tensor], points: OutputPoints) -> Any:
        """Return what `decode` returns, from `decode_queries` for all requested queries."""
        outputs = self._require_decoder().assemble(decoded, points)
        return outputs.get(LOGITS, outputs)

    def forward(self, inputs: ModelInputs, mask: Tensor | None = None, points: Points = None) -> Any:
        """Return `decode(encode(inputs, mask), points, inputs=inputs)`."""
        return self.decode(self.encode(inputs, mask), points, inputs=inputs)

    def check_points(self, points: Points) -> dict[str, Tensor | None]:
        """Return `points` by output, on the model's device; raise ValueError if an output or index does not exist."""
        self._require_decoder()
        counts = self.outputs
        if points is None:
            return dict.fromkeys(counts)
        checked: dict[str, Tensor | None] = dict(points) if isinstance(points, Mapping) else {LOGITS: points}
        for name, indices in checked.items():
            if name not in counts:
                raise ValueError(
                    f"points are given for output {name!r}, but this model has the outputs {sorted(counts)}"
                )
            if indices is None:
                continue
            if counts[name] == 1:
                raise ValueError(f"points are not supported for output {name!r}, which has one query: leave them out")
            if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < counts[name]:
                wrong = int(indices.max()) if int(indices.min()) >= 0 else int(indices.min())
                raise ValueError(f"point {wrong} of output {name!r} must lie in 0…{counts[name] - 1}")
            checked[name] = indices.to(self.device, torch.int64)
        return checked

    def _cast(self, inputs: ModelInputs) -> Any:
        """Move inputs to the model's device, and floating-point inputs to its dtype."""
        if isinstance(inputs, Mapping):
            return {name: self._cast(x) for name, x in inputs.items()}
        return inputs.to(self.device, self.dtype if inputs.is_floating_point() else None)

    def _require_decoder(self) -> Decoder:
        if self.decoder is None:
            raise ValueError(f"{self.model_class} has no decoder: call encode() only")
        return self.decoder

    def _score_bias(self, mask: Tensor, parts: Sequence[InputPart]) -> Tensor:
        """Return what a mask [B, M] adds to the scores of the inputs: 0 for inputs, the dtype's most negative number
        for padding.

        That number is not -inf, so that a unit whose inputs are all masked stays finite.
        """
        shape = (parts[0].shape[0], sum(part.shape[1] for part in parts))
        if mask.shape != shape:
            raise ValueError(f"mask {tuple(mask.shape)} must be [B, M] as the inputs are: {shape}")
        bias = torch.zeros(mask.shape, dtype=self.dtype, device=self.device)
        return bias.masked_fill_(mask.to(self.device) == 0, torch.finfo(self.dtype).min)
