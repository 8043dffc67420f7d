"""Each preprocessor, decoder and postprocessor alone, against transformers' with the same weights.

The model classes use some of them in one way only; here they are put together in the others that transformers knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PerceiverConfig
from transformers.models.perceiver import modeling_perceiver as theirs

from pipeline.perceiver.decoders import Decoder, Output, ProjectionDecoder
from pipeline.perceiver.input_features import AudioPatches, ConvStem, OneHot, Patches, Pixels, PointwiseConv
from pipeline.perceiver.layer_builders import build_cross_layer
from pipeline.perceiver.positions import FourierPositions, ProjectedPositions, TrainedPositions
from pipeline.perceiver.postprocessors import (
    AudioPostprocessor,
    ClassificationPostprocessor,
    GridPostprocessor,
    Postprocessor,
)
from pipeline.perceiver.preprocessors import MultimodalPreprocessor, Preprocessor
from pipeline.perceiver.queries import PositionQueries
from pipeline.perceiver.state_dict_map import checkpoint_names
from pipeline.reference.random_checkpoints import draw_weights

CONFIG = PerceiverConfig(num_latents=6, d_latents=32, d_model=24, num_labels=5, max_position_embeddings=20)
FOURIER_2D: dict[str, Any] = {"num_bands": 5, "max_resolution": (8, 12)}
FOURIER_3D: dict[str, Any] = {"num_bands": 4, "max_resolution": (4, 8, 12)}
PLACES = {
    "features.pointwise.": "convnet_1x1.",
    "features.conv.": "convnet.conv.",
    "features.batchnorm.": "convnet.batchnorm.",
    "features.linear.": "conv_after_patches.",
    "positions.table": "position_embeddings.position_embeddings",
    "positions.positions.table": "position_embeddings.position_embeddings",
    "positions.projection.": "positions_projection.",
}


def close(ours: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def fill(ours: nn.Module, reference: nn.Module, places: Mapping[str, str]) -> None:
    """Draw weights for transformers' module and copy them into ours by name."""
    draw_weights(reference, seed=5)
    tensors = reference.eval().state_dict()
    for name, target in ours.eval().state_dict().items():
        if not name.endswith("num_batches_tracked"):
            target.copy_(torch.cat([tensors[part] for part in checkpoint_names(name, places)]))


IMAGE, VIDEO = (2, 3, 8, 12), (2, 4, 3, 8, 12)

# What it is called: transformers' arguments, our parts (features, their channels, positions, added), the units' shape.
PREPROCESSORS: dict[str, tuple[dict[str, Any], Any, tuple[int, ...]]] = {
    "pixels and Fourier": (
        {"prep_type": "pixels", "spatial_downsample": 1, "fourier_position_encoding_kwargs": FOURIER_2D},
        lambda: (Pixels(), 3, FourierPositions(**FOURIER_2D), False),
        IMAGE,
    ),
    "pixels and sines alone": (
        {
            "prep_type": "pixels",
            "spatial_downsample": 1,
            "fourier_position_encoding_kwargs": {**FOURIER_2D, "sine_only": True},
        },
        lambda: (Pixels(), 3, FourierPositions(**FOURIER_2D, sine_only=True), False),
        IMAGE,
    ),
    "every second pixel of every second frame": (
        {
            "prep_type": "pixels",
            "spatial_downsample": 2,
            "temporal_downsample": 2,
            "fourier_position_encoding_kwargs": FOURIER_3D,
        },
        lambda: (Pixels(spatial_downsample=2, temporal_downsample=2), 3, FourierPositions(**FOURIER_3D), False),
        VIDEO,
    ),
    "1x1 convolution and projected trained positions": (
        {
            "prep_type": "conv1x1",
            "spatial_downsample": 2,
            "out_channels": 16,
            "position_encoding_type": "trainable",
            "project_pos_dim": 10,
            "trainable_position_encoding_kwargs": {"num_channels": 16, "index_dims": 24},
        },
        lambda: (
            PointwiseConv(in_channels=3, out_channels=16, downsample=2),
            16,
            ProjectedPositions(TrainedPositions(count=24, channels=16), 10),
            False,
        ),
        IMAGE,
    ),
    "1x1 convolution and added trained positions": (
        {
            "prep_type": "conv1x1",
            "spatial_downsample": 1,
            "out_channels": 16,
            "position_encoding_type": "trainable",
            "concat_or_add_pos": "add",
            "trainable_position_encoding_kwargs": {"num_channels": 16, "index_dims": 96},
        },
        lambda: (
            PointwiseConv(in_channels=3, out_channels=16, downsample=1),
            16,
            TrainedPositions(count=96, channels=16),
            True,
        ),
        IMAGE,
    ),
    "convolution with BatchNorm": (
        {"prep_type": "conv", "out_channels": 16, "fourier_position_encoding_kwargs": FOURIER_2D},
        lambda: (ConvStem(in_channels=3, out_channels=16), 16, FourierPositions(**FOURIER_2D), False),
        (2, 3, 32, 40),
    ),
    "convolution without BatchNorm": (
        {
            "prep_type": "conv",
            "out_channels": 16,
            "conv2d_use_batchnorm": False,
            "fourier_position_encoding_kwargs": FOURIER_2D,
        },
        lambda: (ConvStem(in_channels=3, out_channels=16, batchnorm=False), 16, FourierPositions(**FOURIER_2D), False),
        (2, 3, 32, 40),
    ),
    "patches of images": (
        {"prep_type": "patches", "spatial_downsample": 4, "fourier_position_encoding_kwargs": FOURIER_2D},
        lambda: (Patches(spatial=4), 48, FourierPositions(**FOURIER_2D), False),
        IMAGE,
    ),
    "patches of videos": (
        {
            "prep_type": "patches",
            "spatial_downsample": 4,
            "temporal_downsample": 2,
            "fourier_position_encoding_kwargs": FOURIER_3D,
        },
        lambda: (Patches(spatial=4, temporal=2), 96, FourierPositions(**FOURIER_3D), False),
        VIDEO,
    ),
    "patches and a linear map": (
        {
            "prep_type": "patches",
            "spatial_downsample": 2,
            "temporal_downsample": 4,
            "conv_after_patching": True,
            "conv_after_patching_in_channels": 48,
            "out_channels": 16,
            "fourier_position_encoding_kwargs": FOURIER_2D,
        },
        lambda: (
            Patches(spatial=2, temporal=4, in_channels=48, out_channels=16),
            16,
            FourierPositions(**FOURIER_2D),
            False,
        ),
        VIDEO,
    ),
}


@pytest.mark.parametrize("name", PREPROCESSORS)
@torch.no_grad()
def test_image_preprocessor(name: str) -> None:
    arguments, parts, shape = PREPROCESSORS[name]
    reference = theirs.PerceiverImagePreprocessor(CONFIG, **arguments)
    features, channels, positions, add = parts()
    ours = Preprocessor(features, positions, feature_channels=channels, add=add)
    fill(ours, reference, PLACES)
    units = torch.randn(shape)
    expected = reference(units)[0]
    close(ours(units), expected)
    assert ours.channels == expected.shape[-1]
    points = torch.tensor([3, 0, 5])
    part = ours.part(units)
    close(part.at(points), expected[:, points])
    close(part.at(points.expand(2, -1).contiguous()), expected[:, points])
    if isinstance(features, ConvStem):
        features.fold()
        assert features.batchnorm is None
        close(ours(units), expected)


@pytest.mark.parametrize("trained", [False, True])
@torch.no_grad()
def test_audio_preprocessor(trained: bool) -> None:
    if trained:
        arguments = {
            "position_encoding_type": "trainable",
            "trainable_position_encoding_kwargs": {"num_channels": 9, "index_dims": 10},
        }
        positions: Any = TrainedPositions(count=10, channels=9)
    else:
        arguments = {"fourier_position_encoding_kwargs": {"num_bands": 6, "max_resolution": (80,)}}
        positions = FourierPositions(num_bands=6, max_resolution=(80,))
    reference = theirs.PerceiverAudioPreprocessor(CONFIG, samples_per_patch=8, **arguments)
    ours = Preprocessor(AudioPatches(samples_per_patch=8), positions, feature_channels=8)
    fill(ours, reference, PLACES)
    samples = torch.rand(2, 80, 1) * 2 - 1
    close(ours(samples), reference(samples)[0])


@torch.no_grad()
def test_text_and_one_hot_preprocessors() -> None:
    ids, labels = torch.randint(0, 262, (2, 13)), torch.randn(2, 5)
    reference = theirs.PerceiverTextPreprocessor(CONFIG)
    ours = Preprocessor(nn.Embedding(262, 24), TrainedPositions(count=20, channels=24), feature_channels=24, add=True)
    fill(ours, reference, {"features.weight": "embeddings.weight", "positions.table": "position_embeddings.weight"})
    close(ours(ids), reference(ids)[0])
    close(
        Preprocessor(OneHot(), None, feature_channels=5)(labels), theirs.PerceiverOneHotPreprocessor(CONFIG)(labels)[0]
    )


@pytest.mark.parametrize("masked", [False, True])
@torch.no_grad()
def test_multimodal_preprocessor(masked: bool) -> None:
    reference = theirs.PerceiverMultimodalPreprocessor(
        min_padding_size=3,
        modalities={
            "image": theirs.PerceiverImagePreprocessor(
                CONFIG, prep_type="pixels", spatial_downsample=1, fourier_position_encoding_kwargs=FOURIER_2D
            ),
            "label": theirs.PerceiverOneHotPreprocessor(CONFIG),
        },
        mask_probs={"label": 1.0} if masked else None,
    )
    parts = {
        "label": Preprocessor(OneHot(), None, feature_channels=5),
        "image": Preprocessor(Pixels(), FourierPositions(**FOURIER_2D), feature_channels=3),
    }
    ours = MultimodalPreprocessor(parts, min_padding=3, masked={"label": 1} if masked else None)
    fill(ours, reference, {"padding.": "padding.", "mask.": "mask."})
    units = {"label": torch.randn(2, 5), "image": torch.randn(IMAGE)}
    expected = reference(units)[0]
    close(ours(units), expected)
    if masked:
        close(ours({"image": units["image"]}), expected)
    else:
        with pytest.raises(ValueError, match="label"):
            ours({"image": units["image"]})


class TheirProjectionDecoder(theirs.PerceiverProjectionDecoder):
    """transformers' class lacks an abstract method of its base class; without this it cannot be instantiated."""

    num_query_channels = 0


@torch.no_grad()
def test_projection_decoder() -> None:
    latents, reference = torch.randn(2, 6, 32), TheirProjectionDecoder(CONFIG)
    ours = ProjectionDecoder(channels=32, num_labels=5)
    fill(ours, reference, {"linear.": "classifier."})
    close(ours(latents), reference(None, latents))


DECODER_PLACES = {
    "layer.": "decoding_cross_attention.",
    "final.": "final_layer.",
    "outputs.it.queries.positions.table": "output_position_encodings.position_embeddings",
    "outputs.it.queries.positions.positions.table": "output_position_encodings.position_embeddings",
    "outputs.it.queries.positions.projection.": "positions_projection.",
}


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("project", [False, True])
@torch.no_grad()
def test_basic_decoder(residual: bool, project: bool) -> None:
    """With its own number of heads, a wider MLP and projected positions; with and without the final layer."""
    reference = theirs.PerceiverBasicDecoder(
        CONFIG,
        output_num_channels=7,
        output_index_dims=15,
        num_channels=12,
        qk_channels=16,
        v_channels=8,
        num_heads=4,
        widening_factor=3,
        use_query_residual=residual,
        final_project=project,
        out_channels=10,
        project_pos_dim=12,
        trainable_position_encoding_kwargs={"num_channels": 10, "index_dims": 15},
    )
    positions = ProjectedPositions(TrainedPositions(count=15, channels=10), 12)
    layer = build_cross_layer(
        CONFIG,
        query_channels=12,
        input_channels=32,
        qk_channels=16,
        v_channels=8,
        num_heads=4,
        widening_factor=3,
        query_residual=residual,
    )
    output = Output(PositionQueries(positions, index_dims=(15,)), Postprocessor())
    ours = Decoder(layer, nn.Linear(12, 7) if project else None, {"it": output})
    fill(ours, reference, DECODER_PLACES)
    latents = torch.randn(2, 6, 32)
    expected = reference(reference.decoder_query(torch.zeros(2, 1)), latents).logits
    close(ours(latents, {"it": None})["it"], expected)
    points = torch.tensor([[3, 1, 4], [1, 5, 9]])
    close(ours(latents, {"it": points})["it"], torch.stack([expected[0, points[0]], expected[1, points[1]]]))


@torch.no_grad()
def test_video_autoencoding_decoder() -> None:
    """Queries at points, and outputs in the shape of a video."""
    shape = [2, 4, 8, 12]
    reference = theirs.PerceiverBasicVideoAutoencodingDecoder(
        CONFIG,
        output_shape=shape,
        position_encoding_type="fourier",
        output_num_channels=3,
        num_channels=27,
        fourier_position_encoding_kwargs=FOURIER_3D,
    )
    queries = PositionQueries(FourierPositions(**FOURIER_3D), index_dims=shape[1:])
    assert queries.channels == 27
    layer = build_cross_layer(CONFIG, query_channels=27, input_channels=32, qk_channels=32)
    ours = Decoder(layer, nn.Linear(27, 3), {"it": Output(queries, GridPostprocessor(index_dims=shape[1:]))})
    fill(ours, reference, {name: f"decoder.{place}" for name, place in DECODER_PLACES.items()})
    latents, every = torch.randn(2, 6, 32), torch.arange(4 * 8 * 12)
    queries = reference.decoder_query(torch.zeros(2, 1), subsampled_points=every)
    expected = reference(queries, latents).logits
    assert expected.shape == (2, 4, 8, 12, 3)
    close(ours(latents, {"it": None})["it"], expected)
    close(ours(latents, {"it": every[7:20]})["it"], expected.flatten(1, 3)[:, 7:20])


@torch.no_grad()
def test_postprocessors() -> None:
    decoded = torch.randn(2, 6, 9)
    config = PerceiverConfig(samples_per_patch=4, num_labels=5)
    for ours, reference in (
        (Postprocessor(in_channels=9, out_channels=3), theirs.PerceiverProjectionPostprocessor(9, 3)),
        (AudioPostprocessor(in_channels=9, out_channels=4), theirs.PerceiverAudioPostprocessor(config, 9)),
        (
            ClassificationPostprocessor(in_channels=9, out_channels=5),
            theirs.PerceiverClassificationPostprocessor(config, 9),
        ),
    ):
        fill(ours, reference, {"linear.": "classifier."})
        close(ours.assemble(ours.project(decoded), complete=True), reference(decoded))


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"qk_channels \(261\) must be divisible by num_heads \(8\)"):
        build_cross_layer(CONFIG, query_channels=32, input_channels=261, qk_channels=261, num_heads=8)
    with pytest.raises(ValueError, match="concat_pos"):
        FourierPositions(num_bands=2, max_resolution=(4,), concat_pos=False)
    with pytest.raises(ValueError, match=r"spatial_downsample \(2\) must be 1"):
        Pixels(spatial_downsample=2)(torch.zeros(IMAGE))
    with pytest.raises(ValueError, match="as many channels as features"):
        Preprocessor(OneHot(), TrainedPositions(count=1, channels=4), feature_channels=5, add=True)
