"""Three well-known samplers as work: the flops of a network row, its weights, the numbers of a state."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from experiments.models.sd15 import STABLE_DIFFUSION
from pcm_jax.networks import linen
from pcm_jax.pretrained.diffusers import config as configs
from pcm_jax.pretrained.diffusers.weights import shapes

SDXL: dict[str, Any] = STABLE_DIFFUSION | {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "attention_head_dim": [5, 10, 20],
    "block_out_channels": [320, 640, 1280],
    "cross_attention_dim": 2048,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "projection_class_embeddings_input_dim": 2816,
    "sample_size": 128,
    "transformer_layers_per_block": [1, 2, 10],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "use_linear_projection": True,
}
"""stabilityai/stable-diffusion-xl-base-1.0."""
TOKENS, ATOMS_PER_TOKEN = 1024, 8


@dataclasses.dataclass(frozen=True)
class Workload:
    """A sampler: T steps, network rows of one evaluation, numbers of a state, and whose rounds stand for its own.

    flops: of a row; shared: of a call, whatever its rows; weights: bytes. stretch: of the rounds, for more steps.
    """

    name: str
    steps: int
    rows: int
    state: int
    flops: float
    shared: float
    weights: float
    like: str
    batches: tuple[int, ...]
    stretch: float = 1.0
    noise: bool = False


def unet(config: Mapping[str, Any]) -> tuple[float, int]:
    """(flops of one row, parameters) of a diffusers network, from its program: nothing is computed."""
    module = configs.build(config, "config.json", jnp.bfloat16)
    like = shapes(module)
    arrays = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape[1:]), leaf.dtype), module.example())
    size = config["sample_size"]
    x = jax.ShapeDtypeStruct((1, size, size, config["in_channels"]), jnp.bfloat16)
    counted: Any = jax.jit(linen(module)).lower(like, x, *arrays[1:]).cost_analysis()
    return float(counted["flops"]), sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(like))


def alphafold() -> tuple[float, float, int]:
    """(flops of a row, of a call, parameters) of the diffusion module for 1,024 tokens of 8 atoms.

    From the sizes of algorithms 5 to 7, 20 and 23 to 25 in the supplement of doi 10.1038/s41586-024-07487-w: 24 blocks
    of 768 channels and 16 heads, twice 3 blocks of 128 channels on atoms that see 128 others. The projection of the
    pair representation (128 channels) to biases does not depend on the state: it is shared by all rows of a call.
    """

    def block(width: int, single: int, keys: int) -> tuple[int, int]:
        """Multiplications for each element, and parameters: attention with gates, a transition, two adaptive norms."""
        matrices = 11 * width**2 + 6 * width * single
        return matrices + 2 * keys * width, matrices

    token, token_size = block(768, 384, TOKENS)
    atom, atom_size = block(128, 128, 128)
    atoms = TOKENS * ATOMS_PER_TOKEN
    pairs = 24 * TOKENS**2 * 128 * 16
    return 2.0 * (24 * TOKENS * token + 6 * atoms * atom), 2.0 * pairs, 24 * token_size + 6 * atom_size


def workloads() -> list[Workload]:
    """The three of them."""
    found = []
    for name, config, like in (("SD-1.5", STABLE_DIFFUSION, "DDIM-50"), ("SDXL", SDXL, "Euler-50")):
        flops, parameters = unet(config)
        state = config["sample_size"] ** 2 * config["in_channels"]
        found.append(Workload(name, 50, 2, state, flops, 0.0, 2.0 * parameters, like, (1, 4)))
    flops, shared, parameters = alphafold()
    state = 3 * TOKENS * ATOMS_PER_TOKEN
    found.append(
        Workload("AlphaFold 3", 200, 1, state, flops, shared, 2.0 * parameters, "DDPM-100", (1, 5), 2.0, noise=True)
    )
    return found
