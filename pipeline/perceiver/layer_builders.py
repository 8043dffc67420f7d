"""Build the encoder and attention layers with the shapes that a `PerceiverConfig` specifies."""

from typing import TYPE_CHECKING, Any, TypeAlias

from pipeline.perceiver.activations import activation
from pipeline.perceiver.attention_layers import MLP, CrossAttention, CrossLayer, SelfAttention, SelfLayer
from pipeline.perceiver.encoder import Encoder

if TYPE_CHECKING:
    from transformers import PerceiverConfig

Config: TypeAlias = "PerceiverConfig"


def build_encoder(config: Config, input_channels: int) -> Encoder:
    """Build the encoder, the same in every model class, for inputs with `input_channels` channels."""
    channels = config.d_latents
    default = {"q": channels, "kv": input_channels}[config.cross_attention_shape_for_attention]
    cross = build_cross_layer(
        config,
        query_channels=channels,
        input_channels=input_channels,
        qk_channels=config.qk_channels or default,
        v_channels=config.v_channels,
        num_heads=config.num_cross_attention_heads,
        widening_factor=config.cross_attention_widening_factor,
        query_residual=config.use_query_residual,
    )
    layers = [build_self_layer(config) for _ in range(config.num_self_attends_per_block)]
    return Encoder(
        num_latents=config.num_latents, channels=channels, cross=cross, layers=layers, num_blocks=config.num_blocks
    )


def build_self_layer(config: Config) -> SelfLayer:
    """Build one self-attention layer of the encoder."""
    channels = config.d_latents
    qk_channels = config.qk_channels or channels
    v_channels = config.v_channels or qk_channels
    if v_channels != channels:
        raise ValueError(f"v_channels ({v_channels}) must equal d_latents ({channels}): self-attention adds to latents")
    attention = SelfAttention(
        channels=channels, qk_channels=qk_channels, v_channels=v_channels, num_heads=config.num_self_attention_heads
    )
    return SelfLayer(attention, _build_mlp(config, channels, config.self_attention_widening_factor))


def build_cross_layer(config: Config, *, query_channels: int, widening_factor: int = 1, **attention: Any) -> CrossLayer:
    """Build a cross-attention layer. attention: the other arguments of `CrossAttention`."""
    mlp = _build_mlp(config, query_channels, widening_factor)
    return CrossLayer(CrossAttention(query_channels=query_channels, **attention), mlp)


def build_decoder_layer(config: Config, query_channels: int, *, query_residual: bool = False) -> CrossLayer:
    """Build a decoder's layer, which depends on the config's latent width and shape for attention only."""
    width = {"q": query_channels, "kv": config.d_latents}[config.cross_attention_shape_for_attention]
    attention = {"input_channels": config.d_latents, "qk_channels": width, "query_residual": query_residual}
    return build_cross_layer(config, query_channels=query_channels, **attention)


def _build_mlp(config: Config, channels: int, widening_factor: int) -> MLP:
    return MLP(channels=channels, widening_factor=widening_factor, activation=activation(config.hidden_act))
