"""Outputs of random-weight models against PyTorch's, for every class and option (made by reference/make_models.py)."""

import hashlib
import json

import numpy as np
import pytest

from experiments.parity import imports as import_study
from pcm_jax.networks.diffusers import blocks
from pcm_jax.pretrained.diffusers.config import SPECS
from tests.pretrained.diffusers import folders
from tests.pretrained.diffusers.folders import ARRAYS
from tests.reference import random_models as cases

KEYS = json.loads((folders.REFERENCE / "models.json").read_text())["keys"]

LONG = ("unet", "unet-celeba", "stable-diffusion-2", "condition-fourier", "condition-times", "vq")
"""What `make parity` alone runs, beside two more sizes of everything: their blocks and options are in other cases."""

RUNS = [(name, cases.sizes(config)[0]) for name, config in cases.CASES.items() if name not in LONG]
RUNS.append(("condition-identity", (7, 9)))


@pytest.mark.parametrize(("name", "size"), RUNS, ids=[f"{name}-{h}x{w}" for name, (h, w) in RUNS])
def test_outputs(tmp_path, name, size):
    weights = folders.checkpoint(cases.CASES[name])
    lines = "\n".join(f"{key} {value.shape}" for key, value in sorted(weights.items()))
    assert hashlib.sha256(lines.encode()).hexdigest()[:16] == KEYS[name], "keys or shapes are not PyTorch's"
    # Cases of one size share the programs of single operations; a size of its own is cheaper as one program.
    found = import_study.outputs(folders.write(tmp_path, name, weights), name, size, jit=size != (8, 8))
    prefix = f"{name}/{size[0]}x{size[1]}/"
    assert set(found) == {key.removeprefix(prefix) for key in ARRAYS if key.startswith(prefix)}
    for part, value in found.items():
        assert value.dtype == np.float32
        assert import_study.relative_error(value, ARRAYS[prefix + part]) < 1e-4, part


def test_the_reference_covers_every_block_and_class():
    assert {cases.CASES[name]["_class_name"] for name, _ in RUNS} == set(SPECS)
    used = {
        block
        for name, config in cases.CASES.items()
        for key in config
        if "block_types" in key and name not in LONG
        for block in config[key]
    }
    known = {*blocks.DOWN, *blocks.UP, *blocks.ENCODER, *blocks.DECODER}
    assert used == known
