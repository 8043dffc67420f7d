"""Modules of each of transformers' Perceiver classes.

A builder takes a `PerceiverConfig` and returns the preprocessor and the decoder of one class; the encoder is built
alike for all. Constants without a comment are written in transformers' constructors rather than in the config.
"""

from collections.abc import Callable

from torch import nn

from pipeline.perceiver.decoders import LOGITS, Decoder, Output
from pipeline.perceiver.encoder import Encoder
from pipeline.perceiver.input_features import AudioPatches, ConvStem, OneHot, Patches, Pixels, PointwiseConv
from pipeline.perceiver.layer_builders import Config, build_cross_layer, build_decoder_layer, build_encoder
from pipeline.perceiver.onednn_linear import Linear
from pipeline.perceiver.positions import FourierPositions, Positions, ProjectedPositions, TrainedPositions
from pipeline.perceiver.postprocessors import (
    AudioPostprocessor,
    ClassificationPostprocessor,
    EmbeddingPostprocessor,
    GridPostprocessor,
    Postprocessor,
)
from pipeline.perceiver.preprocessors import MultimodalPreprocessor, Preprocessor
from pipeline.perceiver.queries import InputQueries, PositionQueries

AnyPreprocessor = Preprocessor | MultimodalPreprocessor | None
Modules = tuple[AnyPreprocessor, Decoder | None]


def build_modules(config: Config, model_class: str) -> tuple[AnyPreprocessor, Encoder, Decoder | None]:
    """Build the preprocessor, encoder and decoder of `model_class`, weights not initialised.

    Raises ValueError if the class or a shape in `config` is not supported.
    """
    if model_class not in BUILDERS:
        raise ValueError(f"{model_class!r} is not a Perceiver class: use one of {', '.join(BUILDERS)}")
    preprocessor, decoder = BUILDERS[model_class](config)
    input_channels = config.d_model if preprocessor is None else preprocessor.channels
    return preprocessor, build_encoder(config, input_channels), decoder


def text_preprocessor(config: Config) -> Preprocessor:
    """Build token embeddings with trained positions added."""
    return Preprocessor(
        nn.Embedding(config.vocab_size, config.d_model),
        TrainedPositions(count=config.max_position_embeddings, channels=config.d_model),
        feature_channels=config.d_model,
        add=True,
    )


def classification_decoder(config: Config) -> Decoder:
    """Build a decoder with one trained query, a query residual and logits."""
    channels = config.d_latents
    queries = PositionQueries(TrainedPositions(count=1, channels=channels), index_dims=(1,))
    layer = build_decoder_layer(config, channels, query_residual=True)
    return Decoder(layer, Linear(channels, config.num_labels), {LOGITS: Output(queries, ClassificationPostprocessor())})


def masked_lm(config: Config) -> Modules:
    """PerceiverForMaskedLM: a trained query for every position, logits by the embedding matrix."""
    preprocessor = text_preprocessor(config)
    positions = TrainedPositions(count=config.max_position_embeddings, channels=config.d_model)
    queries = PositionQueries(positions, index_dims=(config.max_position_embeddings,))
    layer = build_cross_layer(
        config,
        query_channels=config.d_model,
        input_channels=config.d_latents,
        qk_channels=8 * 32,
        v_channels=config.d_model,
        num_heads=8,
    )
    assert isinstance(preprocessor.features, nn.Embedding)
    logits = Output(queries, EmbeddingPostprocessor(preprocessor.features))
    return preprocessor, Decoder(layer, None, {LOGITS: logits})


def sequence_classification(config: Config) -> Modules:
    """PerceiverForSequenceClassification: logits of the whole text."""
    return text_preprocessor(config), classification_decoder(config)


def image_classification_learned(config: Config) -> Modules:
    """PerceiverForImageClassificationLearned: a 1×1 convolution and trained positions."""
    if not isinstance(config.image_size, int):
        raise ValueError(f"image_size ({config.image_size}) must be one number: trained positions form a square")  # noqa: TRY004
    positions = TrainedPositions(count=config.image_size**2, channels=256)
    conv = PointwiseConv(in_channels=3, out_channels=256, downsample=1)
    preprocessor = Preprocessor(conv, ProjectedPositions(positions, 256), feature_channels=256)
    return preprocessor, classification_decoder(config)


def image_classification_fourier(config: Config) -> Modules:
    """PerceiverForImageClassificationFourier: the pixels and Fourier positions."""
    positions = FourierPositions(num_bands=64, max_resolution=(224, 224))
    return Preprocessor(Pixels(), positions, feature_channels=3), classification_decoder(config)


def image_classification_conv(config: Config) -> Modules:
    """PerceiverForImageClassificationConvProcessing: a convolution by 4 and Fourier positions."""
    positions = FourierPositions(num_bands=64, max_resolution=(56, 56))
    stem = ConvStem(in_channels=3, out_channels=64)
    return Preprocessor(stem, positions, feature_channels=64), classification_decoder(config)


def optical_flow(config: Config) -> Modules:
    """PerceiverForOpticalFlow: the inputs are the queries; outputs are flow.

    The published checkpoint was trained with 1 for 20 pixels; another one may use another unit.
    """
    positions = FourierPositions(num_bands=64, max_resolution=config.train_size)
    # 3×3 patches of 3 colors of 2 frames: 54 channels.
    features = Patches(spatial=1, temporal=2, in_channels=54, out_channels=64)
    preprocessor = Preprocessor(features, positions, feature_channels=64)
    queries = InputQueries(positions, index_dims=config.train_size, features=64)
    flow = Output(queries, GridPostprocessor(index_dims=config.train_size, divisor=100.0))
    layer = build_decoder_layer(config, preprocessor.channels)
    return preprocessor, Decoder(layer, Linear(preprocessor.channels, 2), {LOGITS: flow})


def multimodal_autoencoding(config: Config) -> Modules:
    """PerceiverForMultimodalAutoencoding: audio, video frames and label, both in and out."""
    samples = config.num_frames * config.audio_samples_per_frame
    resolution = (config.num_frames, config.image_size, config.image_size)
    audio = FourierPositions(num_bands=192, max_resolution=(samples,))
    image = FourierPositions(num_bands=32, max_resolution=resolution)
    per_patch = config.samples_per_patch
    preprocessor = MultimodalPreprocessor(
        {
            "audio": Preprocessor(AudioPatches(samples_per_patch=per_patch), audio, feature_channels=per_patch),
            "image": Preprocessor(Patches(spatial=4), image, feature_channels=3 * 4 * 4),
            "label": Preprocessor(OneHot(), None, feature_channels=config.num_labels),
        },
        min_padding=4,
        masked={"label": 1},
    )
    channels, labels = config.output_num_channels, config.num_labels
    label = TrainedPositions(count=1, channels=config._label_trainable_num_channels)
    sources: dict[str, tuple[Positions, tuple[int, ...], Postprocessor]] = {
        "audio": (audio, (samples // per_patch,), AudioPostprocessor(in_channels=channels, out_channels=per_patch)),
        "image": (image, tuple(config.output_shape[1:4]), Postprocessor(in_channels=channels, out_channels=3)),
        "label": (label, (1,), ClassificationPostprocessor(in_channels=channels, out_channels=labels)),
    }
    width = max(positions.channels for positions, *_ in sources.values()) + 2
    outputs = {
        name: Output(PositionQueries(positions, index_dims=dims, padding=width - positions.channels), postprocessor)
        for name, (positions, dims, postprocessor) in sources.items()
    }
    return preprocessor, Decoder(build_decoder_layer(config, width), Linear(width, channels), outputs)


BUILDERS: dict[str, Callable[[Config], Modules]] = {
    "PerceiverModel": lambda _: (None, None),  # inputs are [B, M, d_model] already, outputs are the latents
    "PerceiverForMaskedLM": masked_lm,
    "PerceiverForSequenceClassification": sequence_classification,
    "PerceiverForImageClassificationLearned": image_classification_learned,
    "PerceiverForImageClassificationFourier": image_classification_fourier,
    "PerceiverForImageClassificationConvProcessing": image_classification_conv,
    "PerceiverForOpticalFlow": optical_flow,
    "PerceiverForMultimodalAutoencoding": multimodal_autoencoding,
}
