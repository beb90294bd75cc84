"""Folders in every form that they come in, and what is returned."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

import pcm_jax as pcm
from experiments.parity import imports as import_study
from pcm_jax import lora
from pcm_jax.networks import factored
from pcm_jax.pretrained import diffusers
from pcm_jax.pretrained.diffusers import config as configs
from pcm_jax.pretrained.diffusers.weights import shapes
from pcm_jax.trees import flatten
from tests.pretrained.diffusers import folders
from tests.reference import random_models as cases


def assert_same(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.fixture(scope="module")
def unet_folder(tmp_path_factory):
    return folders.write(tmp_path_factory.mktemp("models") / "unet", "unet")


@pytest.fixture(scope="module")
def unet(unet_folder):
    return diffusers.load_denoiser(unet_folder)


def test_shards_give_what_one_file_gives(tmp_path, unet):
    folder = folders.shard(folders.write(tmp_path, "unet"))
    assert_same(diffusers.load_denoiser(folder).params, unet.params)


def test_a_file_is_loaded_with_the_config_beside_it_or_another(tmp_path, unet_folder, unet):
    found = diffusers.load_denoiser(unet_folder / folders.FILE)
    assert_same(found.params, unet.params)
    assert (found.model_fn, hash(found.model_fn)) == (unet.model_fn, hash(unet.model_fn))
    assert found.sample_shape == (8, 8, 3)
    (tmp_path / "mine.safetensors").write_bytes((unet_folder / folders.FILE).read_bytes())
    found = diffusers.load_denoiser(tmp_path / "mine.safetensors", config=unet_folder / "config.json")
    assert_same(found.params, unet.params)


def test_variants_are_named_by_the_user(tmp_path):
    half = {key: value.astype(np.float16) for key, value in folders.checkpoint(cases.CASES["unet"]).items()}
    folders.write(tmp_path, "unet", half, "diffusion_pytorch_model.fp16.safetensors")
    with pytest.raises(ValueError, match=r"no weights of no variant, but .*fp16.safetensors; pass variant='fp16'"):
        diffusers.load_denoiser(tmp_path)
    params = diffusers.load_denoiser(tmp_path, variant="fp16", dtype=jnp.float16).params
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float16)}


def test_names_of_attention_before_diffusers_0_16(tmp_path, unet):
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = {}
    for key, value in folders.checkpoint(cases.CASES["unet"]).items():
        for new, name in old.items():
            key = key.replace(f".{new}.", f".{name}.")
        weights[key] = value
    assert "mid_block.attentions.0.proj_attn.weight" in weights
    assert_same(diffusers.load_denoiser(folders.write(tmp_path, "unet", weights)).params, unet.params)


def test_the_key_map_is_one_to_one_and_moves_axes(unet):
    sources = diffusers.key_map(unet.params)
    assert len({source.key for source in sources.values()}) == len(sources) == len(jax.tree.leaves(unet.params))
    conv = sources["down_blocks.0/resnets.0/conv1/kernel"]
    assert conv.key == "down_blocks.0.resnets.0.conv1.weight" and conv.shape((3, 2, 5, 7)) == (7, 5, 3, 2)
    assert sources["time_embedding/linear_1/kernel"].axes == (1, 0)


@pytest.mark.parametrize("name", ["stable-diffusion", "sdxl", "dit", "sd3.5"])
def test_bfloat16_is_near_float32(tmp_path, name):
    given = cases.inputs(name, (8, 8))
    x, t = jnp.asarray(given["x"]), jnp.asarray(given["t"])
    model = diffusers.load_denoiser(folders.write(tmp_path, name), dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(model.params)} == {np.dtype(jnp.bfloat16)}
    out = jax.jit(model.model_fn)(model.params, x, t, import_study.cond_of(given))
    expected = folders.ARRAYS[f"{name}/8x8/out"]
    assert out.dtype == jnp.float32
    assert 1e-4 < np.max(np.abs(out - expected)) / np.max(np.abs(expected)) < 0.05


LOAD = """
import json, sys, jax, jax.numpy as jnp
from pathlib import Path
from pcm_jax.pretrained import diffusers
from pcm_jax.pretrained.diffusers import config, weights

def memory(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))

# What tracing takes does not grow with the weights, and these are small: it comes first.
folder = Path(sys.argv[1])
weights.shapes(config.build(json.loads((folder / "config.json").read_text()), "", jnp.bfloat16))
jax.block_until_ready(jnp.ones(3))
before = memory("VmRSS")
params = jax.block_until_ready(diffusers.load_autoencoder(folder, dtype=jnp.bfloat16).params)
print((memory("VmHWM") - before) / sum(leaf.nbytes for leaf in jax.tree.leaves(params)))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak of memory where Linux has it")
def test_loading_takes_little_beside_the_weights(tmp_path):
    config = cases.CASES["kl"] | {"block_out_channels": [320] * 4, "layers_per_block": 3, "norm_num_groups": 32}
    config |= {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    like = shapes(configs.build(config, "config.json", jnp.bfloat16))
    flat, sources = flatten(like), diffusers.key_map(like)
    zeros = {sources[name].key: np.zeros(sources[name].shape(leaf.shape), np.float16) for name, leaf in flat.items()}
    save_file(zeros, tmp_path / folders.FILE)
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path)], check=True, capture_output=True, text=True, env=environment
    )
    print(run.stdout)
    assert 0.9 < float(run.stdout) < 1.2


SMALL = {"block_out_channels": [8], "down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"]}
"""Changes to the UNet of cases where the network itself is not tested: one level."""


def small_unet(folder):
    return folders.write(folder, "unet", folders.checkpoint(cases.CASES["unet"] | SMALL), **SMALL)


SCHEDULER = {
    "_class_name": "DDIMScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.0015,
    "beta_end": 0.0195,
    "clip_sample": False,
    "timestep_values": None,
}
"""Of CompVis/ldm-celebahq-256."""


def pipeline(folder, coder="vq"):
    """A latent diffusion folder whose UNet has the channels of its autoencoder's latents."""
    small_unet(folder / "unet")
    folders.write(folder / "vqvae", coder)
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(SCHEDULER))
    parts = {"unet": "UNet2DModel", "vqvae": "VQModel", "scheduler": "DDIMScheduler"}
    index = {"_class_name": "LDMPipeline"} | {name: ["diffusers", kind] for name, kind in parts.items()}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def test_a_latent_diffusion_folder_samples_in_parallel_what_it_samples_in_sequence(tmp_path):
    found = diffusers.load_pipeline(pipeline(tmp_path))
    model, solver = found.denoiser, found.scheduler.solver(5)
    noise = jax.random.normal(jax.random.key(0), (2, *model.sample_shape))
    exact = pcm.sample_sequential(model.model_fn, model.params, noise, solver)
    out = pcm.sample_picard(model.model_fn, model.params, noise, solver, tol=0.0)
    assert np.asarray(out.converged).all()
    np.testing.assert_allclose(out.sample, exact.sample, atol=1e-4)
    images = jax.eval_shape(found.autoencoder.decode, out.sample)
    assert images.shape == (2, 16, 16, 3) and found.autoencoder.factor == 2
    with pytest.raises(ValueError, match="VQModel encodes without noise"):
        found.autoencoder.encode(jnp.ones(images.shape), key=jax.random.key(0))


def test_lora_adapts_an_imported_network(tmp_path):
    unet = diffusers.load_denoiser(small_unet(tmp_path))
    adapted = lora.init(unet.params, 2, jax.random.key(1), select=r"mid_block.*to_q|conv1")
    assert "mid_block/attentions.0/to_q/kernel" in adapted.factors
    x, t = jnp.ones((2, 8, 8, 3)), jnp.full(2, 9.0)
    call = jax.jit(factored(unet.model_fn, adapted).model_fn)
    exact = jax.jit(unet.model_fn)(unet.params, x, t, None)
    np.testing.assert_allclose(call(unet.params, adapted, x, t, None, jnp.ones(2)), exact, atol=1e-5)
