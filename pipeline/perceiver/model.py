"""Perceiver IO for inference: encode once, decode what is asked for."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

import torch
from torch import Tensor, nn

from pipeline.checkpoints import CheckpointError, fetch
from pipeline.perceiver.architectures import build_parts
from pipeline.perceiver.attention_kernels import Gathered
from pipeline.perceiver.checkpoint_loading import load_weights, read_config, read_model_class
from pipeline.perceiver.cpu_parallel import by_units, joined
from pipeline.perceiver.decoders import LOGITS, Decoder, ProjectionDecoder
from pipeline.perceiver.onednn_linear import Linear, keep_freed_memory
from pipeline.perceiver.preprocessors import ALL, ConvStem, MultimodalPreprocessor, Piece, Preprocessor, Share

if TYPE_CHECKING:
    from transformers import PerceiverConfig

Inputs = Tensor | Mapping[str, Tensor]
Points = Tensor | Mapping[str, Tensor | None] | None

R = TypeVar("R")


class PerceiverIO(nn.Module):
    """A preprocessor, an encoder and a decoder; which ones is what a checkpoint's class says (`classes.py`).

    Inference only: no dropout, no gradients, weights that do not change once they are loaded.
    """

    def __init__(self, config: "PerceiverConfig", model_class: str) -> None:
        super().__init__()
        parts, encoder = build_parts(config, model_class)
        self.config = config
        self.model_class = model_class
        self.preprocessor = parts.preprocessor
        self.encoder = encoder
        self.decoder = parts.decoder
        self.names = dict(parts.names)
        self.requires_grad_(False)
        self.eval()

    @classmethod
    def from_config(cls, config: "PerceiverConfig", model_class: str) -> Self:
        """Build a model of `model_class`, such as "PerceiverForMaskedLM", with uninitialised weights.

        Raises ValueError if the class or a shape in `config` is not supported.
        """
        return cls(config, model_class)

    @classmethod
    def from_pretrained(
        cls, ref: str, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32, fold: bool = True
    ) -> Self:
        """The model in a Hugging Face checkpoint: a hub id, a folder, or a URI that fsspec knows.

        fold: form products of weights, and lay them out for the CPU, for speed; without, every layer is computed as it
        was trained.
        Raises CheckpointError, naming the file or tensor, where the checkpoint is not one of Perceiver's.
        """
        folder = fetch(ref)
        config, name = read_config(folder), read_model_class(folder)
        try:
            with torch.device("meta"):
                model = cls.from_config(config, name)
        except ValueError as error:
            raise CheckpointError(f"{folder / 'config.json'}: {error}") from error
        load_weights(model, folder, names=model.names, model_class=name)
        if fold:
            model.fold()
        model = model.to(device=device, dtype=dtype)
        if fold:
            model.pack()
        return model

    @torch.no_grad()
    def fold(self) -> None:
        """Form once, in float64, what products of weights inference needs. They are part of the model from then on, and
        some of the checkpoint's own weights no longer are."""
        self.encoder.fold()
        for module in list(self.modules()):
            if isinstance(module, ConvStem | Decoder):
                module.fold()

    def pack(self) -> None:
        """Lay the weights out for this CPU, where it has a faster layout than the plain one."""
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
        """What can be decoded, and how many queries each output has."""
        return {} if self.decoder is None else self.decoder.counts()

    @torch.inference_mode()
    def encode(self, inputs: Inputs, mask: Tensor | None = None) -> Tensor:
        """Latents [B, N, D] from inputs.

        inputs: token ids [B, L]; images [B, 3, H, W]; pairs of frames as patches [B, 2, 27, H, W]; for several
        modalities a dict, {"audio": [B, S, 1], "image": [B, T, 3, H, W]}; without a preprocessor [B, M, d_model].
        mask: [B, M], 1 where an input counts, 0 where it is padding.
        """
        count = max(map(len, inputs.values())) if isinstance(inputs, Mapping) else len(inputs)
        return joined(self._by_units(self._encode, count, inputs, mask))

    def _encode(self, inputs: Inputs, mask: Tensor | None) -> Tensor:
        """The same, of units that go through the encoder together."""
        pieces = self.pieces(inputs)
        return self.encoder(pieces, None if mask is None else _hidden(mask, pieces))

    @torch.inference_mode()
    def encode_part(self, inputs: Inputs, mask: Tensor | None, share: Share) -> Gathered:
        """What the latents gather from one device's share of the inputs: `encoder.finish` makes latents of all parts.
        mask: that of all inputs."""
        pieces = self.pieces(inputs, share)
        if mask is not None and isinstance(self.preprocessor, MultimodalPreprocessor):
            raise ValueError(
                "a mask over several modalities cannot be split between devices"
            )  # each is split by itself
        return self.encoder.part(pieces, None if mask is None else _hidden(mask[:, share.of(mask.shape[1])], pieces))

    def pieces(self, inputs: Inputs, share: Share = ALL) -> list[Piece]:
        """What `encode` is given as the model's inputs, or one device's share of them, in order; where they lie on a
        grid, their positions are not yet beside their features."""
        x = self._cast(inputs)
        if isinstance(self.preprocessor, MultimodalPreprocessor):
            return self.preprocessor.pieces(x, share)
        if self.preprocessor is not None:
            return [self.preprocessor.placed(x, share)]
        if not isinstance(x, Tensor) or x.shape[-1] != self.config.d_model:
            shape = tuple(x.shape) if isinstance(x, Tensor) else sorted(x)
            raise ValueError(f"inputs {shape} must be [B, M, d_model ({self.config.d_model})]: no preprocessor")
        return [x[:, share.of(x.shape[1])]]

    @torch.inference_mode()
    def decode(self, latents: Tensor, points: Points = None, *, inputs: Inputs | None = None) -> Any:
        """Outputs of latents [B, N, D]: all of them, or only the `points` asked for.

        points: flat indices of output queries, [P] for all units alike or [B, P]; for several modalities a dict of
        such, of which only the names present are decoded, None meaning all of that one.
        inputs: what was encoded; only optical flow needs it, whose queries are made of it.
        Returns a tensor, or for several modalities a dict of them.
        """
        asked = self.asked(points)
        return self.form(self.project(latents, asked, inputs), asked)

    @torch.inference_mode()
    def project(
        self, latents: Tensor, asked: Mapping[str, Tensor | None], inputs: Inputs | None = None
    ) -> dict[str, Tensor]:
        """[B, P, out] of each output, query by query, for any part of the queries; `form` gives the whole its shape."""
        parts = self._by_units(self._project, len(latents), latents, asked, inputs)
        return {name: joined([part[name] for part in parts]) for name in parts[0]}

    def _project(self, latents: Tensor, asked: Mapping[str, Tensor | None], inputs: Inputs | None) -> dict[str, Tensor]:
        """The same, of units that go through the decoder together."""
        decoder, placed = self._decoder(), None
        if decoder.needs_inputs and inputs is not None and isinstance(self.preprocessor, Preprocessor):
            placed = self.preprocessor.placed(self._cast(inputs))
        return decoder.project(latents, asked, placed)

    def form(self, projected: Mapping[str, Tensor], asked: Mapping[str, Tensor | None]) -> Any:
        """What `decode` gives, from `project` of all of the queries."""
        outputs = self._decoder().form(projected, asked)
        return outputs.get(LOGITS, outputs)

    def forward(self, inputs: Inputs, mask: Tensor | None = None, points: Points = None) -> Any:
        """`decode(encode(inputs, mask), points)`."""
        return self.decode(self.encode(inputs, mask), points, inputs=inputs)

    def _by_units(self, function: Callable[..., R], count: int, *arguments: Any) -> list[R]:
        """function(*arguments) of all of so many units, by what is given of some of them at a time: see `lanes`."""
        return by_units(lambda some: function(*(_of(some, count, each) for each in arguments)), count, self.device)

    def _cast(self, inputs: Inputs) -> Any:
        """Floating point inputs in the model's dtype, all on its device."""
        if isinstance(inputs, Mapping):
            return {name: self._cast(x) for name, x in inputs.items()}
        return inputs.to(self.device, self.dtype if inputs.is_floating_point() else None)

    def _decoder(self) -> Decoder | ProjectionDecoder:
        if self.decoder is None:
            raise ValueError(f"{self.model_class} has no decoder: only encode() works on it")
        return self.decoder

    def asked(self, points: Points) -> dict[str, Tensor | None]:
        """`points` by output, on the device; ValueError where one of them is none of the model's."""
        self._decoder()
        counts = self.outputs
        if points is None:
            return dict.fromkeys(counts)
        asked: dict[str, Tensor | None] = dict(points) if isinstance(points, Mapping) else {LOGITS: points}
        for name, indices in asked.items():
            if name not in counts:
                raise ValueError(f"no output {name!r} to decode points of: this model has {sorted(counts)}")
            if indices is None:
                continue
            if counts[name] == 1:
                raise ValueError(f"output {name!r} has one query: points mean nothing there, leave them out")
            if indices.numel() and not 0 <= int(indices.min()) <= int(indices.max()) < counts[name]:
                worst = int(indices.max()) if int(indices.min()) >= 0 else int(indices.min())
                raise ValueError(f"point {worst} of output {name!r} must lie in 0…{counts[name] - 1}")
            asked[name] = indices.to(self.device, torch.int64)
        return asked


def _of(units: slice, count: int, given: Any) -> Any:
    """What is given of some of so many units; flat indices [P] and None are of all of them alike. ValueError where it
    is of another number of units."""
    if isinstance(given, Mapping):
        return {name: _of(units, count, value) for name, value in given.items()}
    if given is None or given.ndim == 1:
        return given
    if len(given) != count:
        raise ValueError(f"{tuple(given.shape)} is of {len(given)} units, the others are of {count}")
    return given[units]


def _hidden(mask: Tensor, pieces: Sequence[Piece]) -> Tensor:
    """What is added to the scores of inputs [B, M, C]: 0 where they count. Elsewhere the most negative number, not
    -inf: a unit whose inputs are all masked stays finite. ValueError where the mask is not [B, M]."""
    first, shape = pieces[0], (pieces[0].shape[0], sum(piece.shape[1] for piece in pieces))
    if mask.shape != shape:
        raise ValueError(f"mask {tuple(mask.shape)} must be [B, M] as the inputs are: {shape}")
    hidden = torch.zeros(mask.shape, dtype=first.dtype, device=first.device)
    return hidden.masked_fill_(mask.to(first.device) == 0, torch.finfo(first.dtype).min)
