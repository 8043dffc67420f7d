"""What each of transformers' Perceiver classes is made of.

A builder takes a `PerceiverConfig` and gives the parts, with `names`: where a checkpoint holds them (`names.py`).
Constants without a comment are transformers' own, written in its constructors rather than in the config.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from torch import nn

from pipeline.perceiver import postprocessors as post
from pipeline.perceiver.builders import build_encoder, cross_layer, decoder_layer
from pipeline.perceiver.decoders import LOGITS, Decoder, Output, ProjectionDecoder
from pipeline.perceiver.encoder import Encoder
from pipeline.perceiver.onednn_linear import Linear
from pipeline.perceiver.positions import FourierPositions, ProjectedPositions, TrainedPositions
from pipeline.perceiver.preprocessors import (
    AudioPatches,
    ConvStem,
    MultimodalPreprocessor,
    OneHot,
    Patches,
    Pixels,
    PointwiseConv,
    Preprocessor,
)
from pipeline.perceiver.queries import InputQueries, PositionQueries
from pipeline.perceiver.state_dict_map import IMAGE_NAMES, MULTIMODAL_NAMES, TEXT_NAMES, decoder_names

if TYPE_CHECKING:
    from transformers import PerceiverConfig as Config


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
    """Modules of one model class, without the encoder, which all classes share.

    names: prefixes of our tensor names and the checkpoint's names for them, see `state_dict_map`.
    """

    preprocessor: Preprocessor | MultimodalPreprocessor | None
    decoder: Decoder | ProjectionDecoder | None
    names: Mapping[str, str]


Builder = Callable[["Config"], Parts]


def build_parts(config: "Config", model_class: str) -> tuple[Parts, Encoder]:
    """Build the modules of `model_class` with the shapes of `config`, weights not initialised.

    Raises ValueError if the class or a shape is not supported.
    """
    if model_class not in BUILDERS:
        raise ValueError(f"{model_class!r} is not a Perceiver class: {', '.join(BUILDERS)}")
    parts = BUILDERS[model_class](config)
    input_channels = config.d_model if parts.preprocessor is None else parts.preprocessor.channels
    return parts, build_encoder(config, input_channels)


def text_preprocessor(config: "Config") -> Preprocessor:
    """Token embeddings and trained positions, summed."""
    return Preprocessor(
        nn.Embedding(config.vocab_size, config.d_model),
        TrainedPositions(places=config.max_position_embeddings, channels=config.d_model),
        feature_channels=config.d_model,
        add=True,
    )


def classification_decoder(config: "Config") -> Decoder:
    """One trained query, with a residual, to logits."""
    channels = config.d_latents
    queries = PositionQueries(TrainedPositions(places=1, channels=channels), index_dims=(1,))
    layer = decoder_layer(config, channels, query_residual=True)
    return Decoder(layer, Linear(channels, config.num_labels), {LOGITS: Output(queries, post.Classification())})


def base_model(config: "Config") -> Parts:  # noqa: ARG001
    """PerceiverModel as it is saved: latents of inputs that are already [B, M, d_model]."""
    return Parts(
        preprocessor=None, decoder=None, names={"encoder.": "encoder.", "encoder.latents": "embeddings.latents"}
    )


def masked_lm(config: "Config") -> Parts:
    """PerceiverForMaskedLM: a trained query for every position, logits by the embedding matrix."""
    preprocessor = text_preprocessor(config)
    positions = TrainedPositions(places=config.max_position_embeddings, channels=config.d_model)
    queries = PositionQueries(positions, index_dims=(config.max_position_embeddings,))
    layer = cross_layer(
        config,
        query_channels=config.d_model,
        input_channels=config.d_latents,
        qk_channels=8 * 32,
        v_channels=config.d_model,
        num_heads=8,
    )
    assert isinstance(preprocessor.features, nn.Embedding)
    logits = Output(queries, post.EmbeddingDecoder(preprocessor.features))
    names = {
        **decoder_names("perceiver.decoder.", LOGITS),
        f"decoder.outputs.{LOGITS}.postprocessor.bias": "embedding_decoder.bias",
    }
    return Parts(preprocessor=preprocessor, decoder=Decoder(layer, None, {LOGITS: logits}), names=TEXT_NAMES | names)


def sequence_classification(config: "Config") -> Parts:
    """PerceiverForSequenceClassification."""
    names = TEXT_NAMES | decoder_names("perceiver.decoder.decoder.", LOGITS)
    return Parts(preprocessor=text_preprocessor(config), decoder=classification_decoder(config), names=names)


def image_classification_learned(config: "Config") -> Parts:
    """PerceiverForImageClassificationLearned: a 1×1 convolution and trained positions."""
    if not isinstance(config.image_size, int):
        raise ValueError(f"image_size ({config.image_size}) must be one number: trained positions form a square")  # noqa: TRY004
    positions = TrainedPositions(places=config.image_size**2, channels=256)
    preprocessor = Preprocessor(
        PointwiseConv(in_channels=3, out_channels=256, downsample=1),
        ProjectedPositions(positions, 256),
        feature_channels=256,
    )
    return image_classification(config, preprocessor)


def image_classification_fourier(config: "Config") -> Parts:
    """PerceiverForImageClassificationFourier: the pixels and Fourier positions."""
    positions = FourierPositions(num_bands=64, max_resolution=(224, 224))
    return image_classification(config, Preprocessor(Pixels(), positions, feature_channels=3))


def image_classification_conv(config: "Config") -> Parts:
    """PerceiverForImageClassificationConvProcessing: a convolution by 4 and Fourier positions."""
    positions = FourierPositions(num_bands=64, max_resolution=(56, 56))
    stem = ConvStem(in_channels=3, out_channels=64)
    return image_classification(config, Preprocessor(stem, positions, feature_channels=64))


def image_classification(config: "Config", preprocessor: Preprocessor) -> Parts:
    """What the three image classes share."""
    names = IMAGE_NAMES | decoder_names("perceiver.decoder.decoder.", LOGITS)
    return Parts(preprocessor=preprocessor, decoder=classification_decoder(config), names=names)


def optical_flow(config: "Config") -> Parts:
    """PerceiverForOpticalFlow: the inputs are the queries, pixels / 20 / 100 come out."""
    positions = FourierPositions(num_bands=64, max_resolution=config.train_size)
    # 3×3 patches of 3 colours of 2 frames: 54 channels.
    features = Patches(spatial=1, temporal=2, in_channels=54, out_channels=64)
    preprocessor = Preprocessor(features, positions, feature_channels=64)
    queries = InputQueries(positions, index_dims=config.train_size, features=64)
    flow = Output(queries, post.Grid(index_dims=config.train_size, divisor=100.0))
    layer = decoder_layer(config, preprocessor.channels)
    decoder = Decoder(layer, Linear(preprocessor.channels, 2), {LOGITS: flow})
    names = IMAGE_NAMES | decoder_names("perceiver.decoder.decoder.", LOGITS)
    return Parts(preprocessor=preprocessor, decoder=decoder, names=names)


def multimodal_autoencoding(config: "Config") -> Parts:
    """PerceiverForMultimodalAutoencoding: audio, image and label in one sequence, and the same three out."""
    samples = config.num_frames * config.audio_samples_per_frame
    resolution = (config.num_frames, config.image_size, config.image_size)

    def audio_positions() -> FourierPositions:
        return FourierPositions(num_bands=192, max_resolution=(samples,))

    def image_positions() -> FourierPositions:
        return FourierPositions(num_bands=32, max_resolution=resolution)

    per_patch = config.samples_per_patch
    preprocessor = MultimodalPreprocessor(
        {
            "audio": Preprocessor(
                AudioPatches(samples_per_patch=per_patch), audio_positions(), feature_channels=per_patch
            ),
            "image": Preprocessor(Patches(spatial=4), image_positions(), feature_channels=3 * 4 * 4),
            "label": Preprocessor(OneHot(), None, feature_channels=config.num_labels),
        },
        min_padding=4,
        masked={"label": 1},
    )
    sources: dict[str, tuple[FourierPositions | TrainedPositions, tuple[int, ...]]] = {
        "audio": (audio_positions(), (samples // per_patch,)),
        "image": (image_positions(), tuple(config.output_shape[1:4])),
        "label": (TrainedPositions(places=1, channels=config._label_trainable_num_channels), (1,)),
    }
    channels = config.output_num_channels
    posts: dict[str, post.Postprocessor] = {
        "audio": post.Audio(in_channels=channels, samples_per_patch=per_patch),
        "image": post.Projection(in_channels=channels, out_channels=3),
        "label": post.Classification(in_channels=channels, num_labels=config.num_labels),
    }
    width = max(positions.channels for positions, _ in sources.values()) + 2
    outputs = {
        name: Output(PositionQueries(positions, index_dims=dims, padding=width - positions.channels), posts[name])
        for name, (positions, dims) in sources.items()
    }
    decoder = Decoder(decoder_layer(config, width), Linear(width, channels), outputs)
    return Parts(preprocessor=preprocessor, decoder=decoder, names=MULTIMODAL_NAMES)


BUILDERS: dict[str, Builder] = {
    "PerceiverModel": base_model,
    "PerceiverForMaskedLM": masked_lm,
    "PerceiverForSequenceClassification": sequence_classification,
    "PerceiverForImageClassificationLearned": image_classification_learned,
    "PerceiverForImageClassificationFourier": image_classification_fourier,
    "PerceiverForImageClassificationConvProcessing": image_classification_conv,
    "PerceiverForOpticalFlow": optical_flow,
    "PerceiverForMultimodalAutoencoding": multimodal_autoencoding,
}
