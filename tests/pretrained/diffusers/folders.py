"""Folders as `save_pretrained` of diffusers writes them, with the random weights of `tests.reference.random_models`."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from pcm_jax.pretrained import diffusers
from pcm_jax.pretrained.diffusers import config as configs
from pcm_jax.pretrained.diffusers.weights import shapes
from pcm_jax.trees import flatten
from tests.reference import random_models as cases

REFERENCE = Path(__file__).parents[2] / "reference"
ARRAYS = dict(np.load(REFERENCE / "models.npz"))
"""What PyTorch computed."""

FILE = "diffusion_pytorch_model.safetensors"


def checkpoint(config):
    """{key: array} of a model, in PyTorch's names and layouts."""
    like = shapes(configs.build(config, "config.json", jnp.float32))
    flat = flatten(like)
    found = {}
    for name, source in diffusers.key_map(like).items():
        found[source.key] = cases.weight(source.key, source.shape(tuple(flat[name].shape)))
    return found


def write(folder, name, weights=None, file=FILE, **changes):
    """Write a case's folder; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = cases.CASES[name] | changes
    (folder / "config.json").write_text(json.dumps(config))
    save_file(checkpoint(cases.CASES[name]) if weights is None else weights, folder / file)
    return folder


def shard(folder):
    """Split a folder's file in two, with an index."""
    weights = checkpoint(json.loads((folder / "config.json").read_text()))
    (folder / FILE).unlink()
    keys, places = sorted(weights), {}
    for number, part in ((1, keys[::2]), (2, keys[1::2])):
        name = f"diffusion_pytorch_model-{number:05d}-of-00002.safetensors"
        save_file({key: weights[key] for key in part}, folder / name)
        places |= dict.fromkeys(part, name)
    (folder / f"{FILE}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder
