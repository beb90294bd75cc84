"""Models of diffusers and of Diffusion Policy with random weights, saved and loaded here, against PyTorch's outputs.

    make parity

makes the folders and tests/reference/models.npz in an environment of its own, then runs

    python -m experiments.parity.imports --folders DIR

which writes experiments/results/import_parity.json and the figure `import.max_relative_error`: the largest
max|ours - theirs| / max|theirs| in float32 over every class, option and size.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.progress import track
from safetensors.numpy import save_file

from experiments.common.figures import RESULTS, ROOT, record, write_result
from pcm_jax.lora import merge
from pcm_jax.pretrained import diffusers, load_lerobot, load_unet1d
from tests.reference import random_loras as loras
from tests.reference import random_models as cases
from tests.reference import random_policies as policies
from tests.reference import random_visions as visions

REFERENCE = ROOT / "tests" / "reference" / "models.npz"
COMMAND = "make parity"
BOUND = 1e-4


@dataclasses.dataclass(frozen=True)
class Config:
    """folders: one for each case, as `save_pretrained` writes them. results: where to write."""

    folders: Path
    results: Path = RESULTS


def cond_of(given: dict[str, np.ndarray]) -> Any:
    """What the model function takes as cond."""
    told = {key: jnp.asarray(given[key]) for key in ("text", "pooled", "time_ids", "label") if key in given}
    return next(iter(told.values()), None) if len(told) < 2 else told


def outputs(folder: Path, name: str, size: tuple[int, int], jit: bool = True) -> dict[str, np.ndarray]:
    """What the case's model in `folder` computes."""
    given = {key: jnp.asarray(value) for key, value in cases.inputs(name, size).items()}
    if "z" in given:
        return _of_autoencoder(diffusers.load_autoencoder(folder), given["x"], given["z"])
    model = diffusers.load_denoiser(folder)
    call = jax.jit(model.model_fn) if jit else model.model_fn
    return {"out": np.asarray(call(model.params, given["x"], given["t"], cond_of(cases.inputs(name, size))))}


def _of_autoencoder(coder: diffusers.Autoencoder, x: jax.Array, z: jax.Array) -> dict[str, np.ndarray]:
    """In the autoencoder's own latents, where the reference is."""
    mean = coder.encode(x) / coder.scale + coder.shift
    found = {"encode": mean, "decode": coder.decode((z - coder.shift) * coder.scale)}
    if coder.config["_class_name"] == "AutoencoderKL":
        key = jax.random.key(3)
        draw = coder.encode(x, key=key) / coder.scale + coder.shift
        found["logvar"] = 2 * jnp.log((draw - mean) / jax.random.normal(key, draw.shape))
    return {part: np.asarray(value) for part, value in found.items()}


def actions(folder: Path, name: str, horizon: int) -> np.ndarray:
    """What the policy's network in `folder` predicts."""
    model = load_unet1d(folder / policies.FILE, groups=policies.CASES[name]["n_groups"])
    given = {key: jnp.asarray(value) for key, value in policies.inputs(name, horizon).items()}
    return np.asarray(model.model_fn(model.params, given["x"], given["t"], given.get("cond")))


def adapted(folder: Path, name: str) -> np.ndarray:
    """What the case's model, which is in `folder`, computes with its LoRA file."""
    model = diffusers.load_denoiser(folder)
    with tempfile.TemporaryDirectory() as scratch:
        save_file(loras.arrays(name), Path(scratch) / loras.FILE, loras.header(name))
        params = merge(model.params, diffusers.load_lora(Path(scratch), model))
    given = cases.inputs(loras.CASES[name]["model"], loras.SIZE)
    return np.asarray(jax.jit(model.model_fn)(params, given["x"], given["t"], cond_of(given)))


def seen(folder: Path, name: str) -> dict[str, np.ndarray]:
    """What the policy in `folder` makes of images and states, and its network's prediction under that."""
    policy = load_lerobot(folder)
    history, x, t = visions.inputs(name)
    assert policy.vision is not None
    features = jax.jit(policy.vision.features)(policy.observation, history)
    out = policy.model_fn(policy.params, jnp.asarray(x), jnp.asarray(t), features)
    return {"features": np.asarray(features), "out": np.asarray(out)}


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """max|found - expected| / max|expected|; infinite for another shape."""
    if found.shape != expected.shape:
        return float("inf")
    return float(np.max(np.abs(found - expected)) / np.max(np.abs(expected)))


def main(config: Config) -> None:
    """Compare everything; exit 1 above the bound."""
    console, expected = Console(), dict(np.load(REFERENCE))
    worst: dict[str, float] = {}
    runs = [(name, size) for name, options in cases.CASES.items() for size in cases.sizes(options)]
    for name, size in track(runs, "models", console=console):
        found = outputs(config.folders / name, name, size)
        prefix = f"{name}/{size[0]}x{size[1]}/"
        if set(found) != {key.removeprefix(prefix) for key in expected if key.startswith(prefix)}:
            sys.exit(f"{REFERENCE.name} and this study disagree on the outputs of {prefix}; run {COMMAND}")
        for part, value in found.items():
            worst[prefix + part] = relative_error(value, expected[prefix + part])
    for name, case in track(loras.CASES.items(), "LoRA files", console=console):
        worst[f"{name}/out"] = relative_error(adapted(config.folders / case["model"], name), expected[f"{name}/out"])
    for name in track(policies.CASES, "policies", console=console):
        for horizon in policies.HORIZONS:
            key = f"{name}/{horizon}/out"
            worst[key] = relative_error(actions(config.folders / name, name, horizon), expected[key])
    for name in track(visions.CASES, "policies with images", console=console):
        for part, value in seen(config.folders / name, name).items():
            worst[f"{name}/{part}"] = relative_error(value, expected[f"{name}/{part}"])
    key, error = max(worst.items(), key=lambda item: item[1])
    console.print(f"{len(worst)} outputs, largest relative error {error:.2e} ({key}), bound {BOUND:.0e}")
    if not error < BOUND:
        sys.exit(1)
    about = json.loads(REFERENCE.with_suffix(".json").read_text())
    payload = {"errors": worst, "reference": {name: about[name] for name in ("torch", "diffusers")}}
    write_result("import_parity", payload, config={"bound": BOUND}, seed=0, command=COMMAND, results=config.results)
    record("import.max_relative_error", error, command=COMMAND, results=config.results)


if __name__ == "__main__":
    main(tyro.cli(Config))
