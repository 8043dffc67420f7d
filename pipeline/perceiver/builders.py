"""The encoder and the attention layers with the shapes that a `PerceiverConfig` gives them."""

from typing import TYPE_CHECKING

from pipeline.perceiver.activations import activation
from pipeline.perceiver.attention_layers import MLP, CrossAttention, CrossLayer, SelfAttention, SelfLayer
from pipeline.perceiver.encoder import Encoder

if TYPE_CHECKING:
    from transformers import PerceiverConfig as Config


def build_encoder(config: "Config", input_channels: int) -> Encoder:
    """The encoder that every class shares, over inputs of `input_channels`."""
    channels = config.d_latents
    default = {"q": channels, "kv": input_channels}[config.cross_attention_shape_for_attention]
    cross = cross_layer(
        config,
        query_channels=channels,
        input_channels=input_channels,
        qk_channels=config.qk_channels or default,
        v_channels=config.v_channels,
        num_heads=config.num_cross_attention_heads,
        widening_factor=config.cross_attention_widening_factor,
        query_residual=config.use_query_residual,
    )
    return Encoder(
        num_latents=config.num_latents,
        channels=channels,
        cross=cross,
        layers=[self_layer(config) for _ in range(config.num_self_attends_per_block)],
        num_blocks=config.num_blocks,
    )


def self_layer(config: "Config") -> SelfLayer:
    """One self-attention layer of the encoder."""
    channels = config.d_latents
    qk_channels = config.qk_channels or channels
    v_channels = config.v_channels or qk_channels
    if v_channels != channels:
        raise ValueError(f"v_channels ({v_channels}) must equal d_latents ({channels}): self-attention adds to latents")
    attention = SelfAttention(
        channels=channels, qk_channels=qk_channels, v_channels=v_channels, num_heads=config.num_self_attention_heads
    )
    mlp = MLP(
        channels=channels,
        widening_factor=config.self_attention_widening_factor,
        activation=activation(config.hidden_act),
    )
    return SelfLayer(attention, mlp)


def cross_layer(
    config: "Config",
    *,
    query_channels: int,
    input_channels: int,
    qk_channels: int,
    v_channels: int | None = None,
    num_heads: int = 1,
    widening_factor: int = 1,
    query_residual: bool = False,
) -> CrossLayer:
    """A cross-attention layer; values are as wide as keys unless said otherwise."""
    attention = CrossAttention(
        query_channels=query_channels,
        input_channels=input_channels,
        qk_channels=qk_channels,
        v_channels=v_channels or qk_channels,
        num_heads=num_heads,
        query_residual=query_residual,
    )
    mlp = MLP(channels=query_channels, widening_factor=widening_factor, activation=activation(config.hidden_act))
    return CrossLayer(attention, mlp)


def decoder_layer(config: "Config", query_channels: int, *, query_residual: bool = False) -> CrossLayer:
    """The decoder's layer: of the config it knows the latents' width and the shape for attention only."""
    width = {"q": query_channels, "kv": config.d_latents}[config.cross_attention_shape_for_attention]
    return cross_layer(
        config,
        query_channels=query_channels,
        input_channels=config.d_latents,
        qk_channels=width,
        query_residual=query_residual,
    )
