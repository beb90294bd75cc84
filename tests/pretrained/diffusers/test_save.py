"""What is written is what was read, key by key."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from pcm_jax.pretrained import diffusers
from tests.pretrained.diffusers import folders

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("name", ["unet-celeba", "stable-diffusion", "sdxl", "dit", "sd3.5", "kl-attention", "vq"])
def test_a_saved_model_is_the_one_that_was_loaded(tmp_path, name):
    first = folders.write(tmp_path / "first", name)
    coder = name in ("kl-attention", "vq")
    load = diffusers.load_autoencoder if coder else diffusers.load_denoiser
    model = load(first)
    module = model.module if coder else model.model_fn.module
    size = folders.cases.CASES[name]["sample_size"]
    path = diffusers.save_model(tmp_path / "second", module, model.params, sample_size=size)
    before, after = load_file(first / folders.FILE), load_file(path)
    assert before.keys() == after.keys()
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value)
    again = load(tmp_path / "second")
    jax.tree.map(np.testing.assert_array_equal, again.params, model.params)
    assert (again.module if coder else again.model_fn.module) == module
    content = json.loads((tmp_path / "second" / "config.json").read_text())
    assert content["_class_name"] == folders.cases.CASES[name]["_class_name"] and content["sample_size"] == size
    assert [file.name for file in (tmp_path / "second").iterdir() if file.suffix == ".tmp"] == []


def test_storage_in_bfloat16(tmp_path):
    model = diffusers.load_denoiser(folders.write(tmp_path / "first", "unet"))
    path = diffusers.save_model(tmp_path / "second", model.model_fn.module, model.params, storage=jnp.bfloat16)
    assert {str(value.dtype) for value in load_file(path).values()} == {"bfloat16"}
    again = diffusers.load_denoiser(tmp_path / "second")
    for a, b in zip(jax.tree.leaves(again.params), jax.tree.leaves(model.params), strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=2**-8)


def test_broken_parameters_are_not_written(tmp_path):
    model = diffusers.load_denoiser(folders.write(tmp_path / "first", "unet"))
    params = jax.tree.map(lambda leaf: jnp.full_like(leaf, jnp.nan), model.params)
    with pytest.raises(ValueError, match="holds NaN or inf; it is not written to"):
        diffusers.save_model(tmp_path / "second", model.model_fn.module, params)
    assert not (tmp_path / "second").exists()
