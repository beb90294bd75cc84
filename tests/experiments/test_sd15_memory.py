"""The network whose memory is measured: Stable Diffusion 1.5's size, weights that a network can compute with."""

import gc
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.bench import sd15_memory
from pcm_jax.pretrained import diffusers
from pcm_jax.pretrained.diffusers import config as configs
from pcm_jax.pretrained.diffusers.weights import shapes
from tests.reference import random_models as cases


def test_it_has_as_many_parameters_as_stable_diffusion():
    module = configs.build(sd15_memory.STABLE_DIFFUSION, "config.json", jnp.bfloat16)
    # 859,520,964 is what PyTorch counts of runwayml/stable-diffusion-v1-5.
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes(module))) == 859_520_964


@pytest.mark.slow
def test_the_written_folder_loads_and_has_weights_of_order_one(tmp_path):
    count = sd15_memory.write_folder(tmp_path, cases.CASES["stable-diffusion"], seed=0)
    params = diffusers.load_denoiser(tmp_path, dtype=jnp.bfloat16).params
    leaves = jax.tree.leaves(params)
    assert count == sum(leaf.size for leaf in leaves) and {leaf.dtype for leaf in leaves} == {np.dtype(jnp.bfloat16)}
    conv = np.asarray(params["down_blocks.0"]["resnets.0"]["conv1"]["kernel"], np.float32)
    assert 0.8 < conv.std() * math.sqrt(9 * 8) < 1.2
    norm = {key: np.asarray(value, np.float32) for key, value in params["conv_norm_out"].items()}
    assert abs(norm["scale"].mean() - 1) < 0.2 and abs(norm["bias"].mean()) < 0.2


def test_memory_is_counted_in_bytes():
    gc.collect()  # or the block finds room in what earlier tests have left
    before = sd15_memory.resident()
    block = np.ones(256 * 2**20, np.uint8)
    slack = 2**20  # the kernel counts in batches
    assert sd15_memory.peak() + slack >= sd15_memory.resident() >= before + block.size // 2
