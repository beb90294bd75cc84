"""Networks: what they refuse, they refuse when they are traced."""

import jax
import jax.numpy as jnp

import pcm_jax as pcm
from pcm_jax import networks
from pcm_jax.networks import diffusers
from tests.sweep.kinds import (
    Kind,
    choice,
    entry,
    flag,
    instance,
    number,
    positive,
    whole,
    widths,
)

KEY = jax.random.key(0)
KERNEL = {"dense": {"kernel": jnp.ones((4, 6))}}


def init(module, x, *told):
    """Shapes of a network's parameters: what it refuses, it refuses when it is traced."""
    return jax.eval_shape(module.init, KEY, x, *told)


def network(kind, size, cond=None, **swept):
    """A network is swept when it is initialised."""

    def call(**fields):
        return init(kind(**fields), jnp.zeros((1, *size)), jnp.zeros(1), cond)

    return entry(call, "dtype", "parent", "name", of=kind, **swept)


UNET = {
    "in_channels": whole(3),
    "out_channels": whole(3),
    "center_input_sample": flag(False),
    "flip_sin_to_cos": flag(True),
    "freq_shift": number(0),
    "block_out_channels": widths((8,)),
    "layers_per_block": whole(1),
    "downsample_padding": whole(1, 0),
    "mid_block_scale_factor": positive(1),
    "act_fn": choice("silu"),
    "norm_num_groups": whole(4),
    "norm_eps": positive(1e-5),
    "class_embed_type": choice(None, optional=True),
    "num_class_embeds": whole(None, optional=True),
    "resnet_time_scale_shift": choice("default"),
    "time_embedding_type": choice("positional"),
    "time_embedding_dim": whole(None, optional=True),
}
CODER = {
    "in_channels": whole(3),
    "out_channels": whole(3),
    "down_block_types": choice(("DownEncoderBlock2D",)),
    "up_block_types": choice(("UpDecoderBlock2D",)),
    "block_out_channels": widths((8,)),
    "layers_per_block": whole(1),
    "act_fn": choice("silu"),
    "norm_num_groups": whole(4),
    "mid_block_add_attention": flag(False),
    "scaling_factor": positive(0.2),
    "latent_channels": whole(3),
}
TEXT = jnp.zeros((1, 2, 8))


def coder(kind, **swept):
    def call(**fields):
        return init(kind(**fields), jnp.zeros((1, 4, 4, 3)))

    return entry(call, "dtype", "parent", "name", of=kind, **CODER, **swept)


NETWORKS = {
    "networks.ResidualMLP": network(
        networks.ResidualMLP, (6,), width=whole(8, 2), depth=whole(1), expansion=whole(1), num_classes=whole(0, 0),
        time_scale=positive(1.0), observations=flag(False),
    ),
    "networks.UNet2D": network(
        networks.UNet2D, (8, 8, 1), channels=widths((8,)), blocks=whole(1), patch=whole(1), num_heads=whole(1),
        num_classes=whole(0, 0), time_scale=positive(1.0), attention=Kind((), (3, "a", (2.5,), (-1,), (7,), None)),
    ),
    "networks.ConditionalUNet1D": network(
        networks.ConditionalUNet1D, (8, 2), channels=widths((8,)), embed=whole(8, 2), kernel_size=whole(3),
        groups=whole(4), out_groups=whole(None, optional=True), film_scale=flag(True),
    ),
    "networks.diffusers.UNet2DModel": network(
        diffusers.UNet2DModel, (8, 8, 3), down_block_types=choice(("DownBlock2D",)),
        mid_block_type=choice("UNetMidBlock2D", optional=True), up_block_types=choice(("UpBlock2D",)),
        downsample_type=choice("conv"), upsample_type=choice("conv"), attention_head_dim=whole(8, optional=True),
        attn_norm_num_groups=whole(None, optional=True), add_attention=flag(True),
        num_train_timesteps=whole(None, optional=True), **UNET,
    ),
    "networks.diffusers.UNet2DConditionModel": network(
        diffusers.UNet2DConditionModel, (8, 8, 3), TEXT, down_block_types=choice(("CrossAttnDownBlock2D",)),
        mid_block_type=choice("UNetMidBlock2DCrossAttn", optional=True), up_block_types=choice(("CrossAttnUpBlock2D",)),
        only_cross_attention=flag(False), cross_attention_dim=whole(8), transformer_layers_per_block=whole(1),
        reverse_transformer_layers_per_block=Kind(None, (3, "a", (2.5,), (0,))),
        encoder_hid_dim=whole(None, optional=True), encoder_hid_dim_type=choice(None, optional=True),
        attention_head_dim=whole(4), use_linear_projection=flag(False),
        projection_class_embeddings_input_dim=whole(None, optional=True), class_embeddings_concat=flag(False),
        addition_embed_type=choice(None, optional=True), addition_time_embed_dim=whole(None, optional=True),
        resnet_skip_time_act=flag(False), resnet_out_scale_factor=positive(1.0),
        time_embedding_act_fn=choice(None, optional=True), timestep_post_act=choice(None, optional=True),
        conv_in_kernel=whole(3), conv_out_kernel=whole(3), **UNET,
    ),
    "networks.diffusers.DiTTransformer2DModel": network(
        diffusers.DiTTransformer2DModel, (8, 8, 4), jnp.zeros(1, jnp.int32), num_attention_heads=whole(2),
        attention_head_dim=whole(4), in_channels=whole(4), out_channels=whole(8, optional=True), num_layers=whole(1),
        attention_bias=flag(True), sample_size=whole(8), patch_size=whole(2), num_embeds_ada_norm=whole(10),
        norm_eps=positive(1e-5),
    ),
    "networks.diffusers.SD3Transformer2DModel": network(
        diffusers.SD3Transformer2DModel, (8, 8, 4), {"text": TEXT, "pooled": jnp.zeros((1, 6))},
        sample_size=whole(8), patch_size=whole(2), in_channels=whole(4), num_layers=whole(1),
        attention_head_dim=whole(4), num_attention_heads=whole(2), joint_attention_dim=whole(8),
        caption_projection_dim=whole(8), pooled_projection_dim=whole(6), out_channels=whole(4, optional=True),
        pos_embed_max_size=whole(8), dual_attention_layers=Kind((), (3, "a", (2.5,), (-1,), None)),
        qk_norm=choice(None, optional=True),
    ),
    "networks.diffusers.AutoencoderKL": coder(
        diffusers.AutoencoderKL, use_quant_conv=flag(True), use_post_quant_conv=flag(True),
        shift_factor=number(None, optional=True),
    ),
    "networks.diffusers.VQModel": coder(
        diffusers.VQModel, num_vq_embeddings=whole(16), vq_embed_dim=whole(None, optional=True),
    ),
    "networks.by_name": entry(networks.by_name, name=choice("mlp")),
    "networks.linen": entry(networks.linen, module=instance(networks.ResidualMLP(8, 1))),
    "networks.nnx": entry(networks.nnx, "module", module=Kind(None, (3, "a", None))),
    "networks.nnx_model": entry(networks.nnx_model, graphdef=Kind(None, (3, "a", None))),
    "networks.factored": entry(
        networks.factored, "lora", of=networks.factored, model_fn=Kind(None, (3, "a", None)),
        given={"lora": pcm.lora.init(KERNEL, 2, KEY)},
    ),
}  # fmt: skip
