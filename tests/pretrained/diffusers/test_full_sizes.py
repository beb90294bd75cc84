"""The configurations of models that people load: every tensor's name and shape is that of diffusers' own module."""

import hashlib
import json

import jax.numpy as jnp
import pytest

from pcm_jax.pretrained import diffusers
from pcm_jax.pretrained.diffusers import config as configs
from pcm_jax.pretrained.diffusers.weights import shapes
from pcm_jax.trees import flatten
from tests.pretrained.diffusers.folders import REFERENCE
from tests.reference import full_sizes

KEYS = json.loads((REFERENCE / "models.json").read_text())["keys"]


@pytest.mark.parametrize("name", full_sizes.CASES)
def test_names_and_shapes(name):
    like = shapes(configs.build(full_sizes.CASES[name], "config.json", jnp.float32))
    flat = flatten(like)
    found = {source.key: source.shape(tuple(flat[key].shape)) for key, source in diffusers.key_map(like).items()}
    lines = "\n".join(f"{key} {shape}" for key, shape in sorted(found.items()))
    assert hashlib.sha256(lines.encode()).hexdigest()[:16] == KEYS[name]
