"""What is stored: the size of the tracked tree, the dtype of the weights that ship, and what bfloat16 costs them.

    python -m experiments.models.storage
    git worktree add experiments/out/float32 c562952      # the last commit whose weights were float32
    python -m experiments.models.storage --float32 experiments/out/float32/pcm_jax/pretrained

Writes storage.json and the figures `tree.mib` and `wheel.mb`. The last command also measures every model and adapter
that is there before and now, in float32 and as it ships: the held-out loss where there are data, samples of the same
noise, and an adapter's error after its first rounds. Without --float32 what was measured last is kept. Three minutes on
2 CPU cores.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from safetensors import safe_open

import pcm_jax as pcm
from experiments.common import study
from experiments.common.figures import RESULTS, ROOT, git, record, write_result
from experiments.models.base_quality import heldout_loss
from pcm_jax import pretrained
from pcm_jax.data import ImageSource, load_source
from pcm_jax.metrics import rms_error
from pcm_jax.pretrained.diffusers import Pipeline, load_pipeline
from pcm_jax.solvers import Solver
from pcm_jax.training import denoising_loss
from pcm_jax.types import ModelFn, Params

MIB = 2**20
COMMAND = "python -m experiments.models.storage"
ROUNDS = 3
"""Of an adapter: those that it is for."""


@dataclasses.dataclass(frozen=True)
class Config:
    """float32: folder like pcm_jax/pretrained, to compare with. noises: of each comparison."""

    float32: Path | None = None
    noises: int = 40
    seed: int = 0
    results: Path = RESULTS


def tracked(root: Path = ROOT) -> dict[str, int]:
    """Bytes of every file that git tracks; ValueError where `root` is no checkout of its own."""
    try:
        inside = Path(git(root, "rev-parse", "--show-toplevel")).resolve() == root.resolve()
        names = git(root, "ls-files", "-z").split("\0") if inside else []
    except (OSError, subprocess.CalledProcessError) as error:
        raise ValueError(f"{root} is no git checkout ({error}); the tree is measured in one") from error
    if not inside:
        raise ValueError(f"{root} is no git checkout of its own; the tree is measured in one")
    return {name: (root / name).stat().st_size for name in names if (root / name).is_file()}


def build_wheel(folder: Path) -> Path:
    """The package as a wheel in `folder`; built from a copy, because setuptools leaves a folder behind."""
    source = folder / "source"
    shutil.copytree(ROOT / "pcm_jax", source / "pcm_jax", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    alone = ["--no-index", "--no-deps", "--no-build-isolation"]
    command = [sys.executable, "-m", "pip", "wheel", "-q", *alone, "-w", str(folder), "."]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the wheel was not built: {done.stderr}")
    (wheel,) = folder.glob("*.whl")
    return wheel


def numbers(path: Path) -> dict[str, int]:
    """{"BF16": how many numbers of that dtype the file holds, ..}; from its header."""
    found: dict[str, int] = {}
    with safe_open(path, framework="numpy") as file:
        for name in file.keys():  # noqa: SIM118 - not a mapping
            piece = file.get_slice(name)
            found[piece.get_dtype()] = found.get(piece.get_dtype(), 0) + int(np.prod(piece.get_shape()))
    return found


@dataclasses.dataclass(frozen=True)
class Pair:
    """One model in float32 and as it ships, and a batch to draw."""

    model_fn: ModelFn
    float32: Params
    stored: Params
    solver: Solver
    noise: jax.Array
    cond: jax.Array
    key: jax.Array

    def sequential(self, params: Params) -> np.ndarray:
        """Samples with one of the two."""
        return np.asarray(pcm.sample_sequential(self.model_fn, params, self.noise, self.solver, **self.given).sample)

    @property
    def given(self) -> dict[str, Any]:
        return {"cond": self.cond, "key": self.key if self.solver.stochastic else None}

    def difference(self) -> dict[str, float]:
        """RMS difference of samples of the same noise, over their standard deviation."""
        exact, now = self.sequential(self.float32), self.sequential(self.stored)
        return {"sample_difference": rms_error(now, exact) / float(exact.std())}

    def adapted(self, float32: Any, stored: Any) -> dict[str, list[float]]:
        """RMS error after each of the first rounds, of either with its own base, over the samples' deviation."""
        found = {}
        for name, params, adapter in (("float32", self.float32, float32), ("stored", self.stored, stored)):
            exact = self.sequential(params)
            options = {"adapter": adapter.adapter, "switch": adapter.switch, "max_rounds": ROUNDS}
            out = pcm.sample_picard(
                self.model_fn, params, self.noise, self.solver, return_rounds=True, **self.given, **options
            )
            states = np.asarray(out.iterates)[:ROUNDS]
            found[f"{name}_error"] = [rms_error(state, exact) / float(exact.std()) for state in states]
        return found


def run(config: Config, console: Console) -> dict[str, Any]:
    """Measure and write."""
    sizes = tracked()
    files = {name: size for name, size in sizes.items() if name.endswith(".safetensors")}
    known = config.results / "storage.json"
    if config.float32 is not None:
        cost = measure(config.float32, config, console)
    else:
        cost = json.loads(known.read_text())["cost"] if known.exists() else {}
    tree = sum(sizes.values()) / MIB
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_wheel(Path(folder)).stat().st_size / 1e6
    payload = {
        "tree_mib": tree,
        "wheel_mb": wheel,
        "weights": {name: {"mib": size / MIB, "numbers": numbers(ROOT / name)} for name, size in files.items()},
        "cost": cost,
    }
    about = dataclasses.replace(config, float32=None, results=Path("."))
    write_result("storage", payload, config=about, seed=config.seed, command=COMMAND, results=config.results)
    record("tree.mib", tree, command=COMMAND, results=config.results)
    record("wheel.mb", wheel, command=COMMAND, results=config.results)
    weights = sum(files.values()) / MIB
    console.print(f"{tree:.1f} MiB are tracked, {weights:.1f} of them weights; the wheel has {wheel:.1f} MB")
    return payload


def measure(before: Path, config: Config, console: Console) -> dict[str, Any]:
    """{name: what rounding changed} of every model and adapter that both folders have."""
    found: dict[str, Any] = {}
    pairs: dict[str, Pair] = {}
    for name in _both(before / "weights", pretrained.WEIGHTS):
        old, new = pretrained.load(name, before / "weights"), pretrained.load(name)
        if old.config != new.config:
            continue  # another model has taken the name
        pairs[name] = _images(old, new, config)
        found[name] = pairs[name].difference() | _losses(old, new)
        console.print(name, found[name])
    for name in _both(before / "policies", pretrained.POLICIES):
        pairs[name] = _actions(name, before / "policies", config)
        found[name] = pairs[name].difference()
        console.print(name, found[name])
    for folder in sorted(path.parent.name for path in pretrained.FOLDERS.glob("*/model_index.json")):
        found[folder] = _folder(
            load_pipeline(before / "folders" / folder), load_pipeline(pretrained.FOLDERS / folder), config
        )
        console.print(folder, found[folder])
    for name in _both(before / "adapters", pretrained.ADAPTERS):
        base, steps = name.rsplit("-", 1)
        if base not in pairs:
            continue
        pair, old, new = pairs[base], *_bases(base, before)
        if steps.startswith("ddim"):
            pair = dataclasses.replace(pair, solver=study.solvers(new)[f"DDIM-{steps.removeprefix('ddim')}"])
        adapters = pretrained.load_adapter(name, old, before / "adapters"), pretrained.load_adapter(name, new)
        found[name] = pair.adapted(*adapters)
        console.print(name, found[name])
    return found


def _both(before: Path, now: Path) -> list[str]:
    return sorted(
        {path.stem for path in before.glob("*.safetensors")} & {path.stem for path in now.glob("*.safetensors")}
    )


def _bases(name: str, before: Path) -> tuple[Any, Any]:
    if name in pretrained.available():
        return pretrained.load(name, before / "weights"), pretrained.load(name)
    return pretrained.load_policy(name, before / "policies"), pretrained.load_policy(name)


def _images(old: pretrained.Pretrained, new: pretrained.Pretrained, config: Config) -> Pair:
    case = study.problem(new, study.solvers(new)["DDIM-50"], batch=config.noises, seed=config.seed)
    return Pair(new.model_fn, old.params, new.params, case.solver, case.noise, case.labels, case.key)


def _losses(old: pretrained.Pretrained, new: pretrained.Pretrained) -> dict[str, float]:
    """Held-out, of both; nothing without the data."""
    try:
        source = load_source({"fashion": "fashion_mnist"}.get(new.name, new.name), "test")
    except ValueError:
        return {}
    return {"float32_heldout_loss": _heldout(old, source), "stored_heldout_loss": _heldout(new, source)}


def _heldout(model: pretrained.Pretrained, source: ImageSource) -> float:
    def loss(params: Params, batch: Mapping[str, Any], key: jax.Array) -> Any:
        return denoising_loss(params, model.model_fn, model.schedule, batch, key, prediction=model.prediction)

    return float(jax.jit(lambda params: heldout_loss(loss, params, source))(model.params))


def _actions(name: str, before: Path, config: Config) -> Pair:
    """Histories of the range that the normaliser maps to."""
    old, new = pretrained.load_policy(name, before), pretrained.load_policy(name)
    noise_key, seen_key, key = jax.random.split(jax.random.key(config.seed), 3)
    size = new.observation.low.shape[0]
    seen = jax.random.uniform(seen_key, (config.noises, new.obs_horizon, size), minval=-1.0)
    noise = jax.random.normal(noise_key, (config.noises, new.horizon, new.action.low.shape[0]))
    return Pair(new.model_fn, old.params, new.params, new.solver, noise, seen, key)


def _folder(old: Pipeline, new: Pipeline, config: Config) -> dict[str, float]:
    """Of the latents, and of the pictures that each autoencoder makes of its own."""
    denoiser, shape = new.denoiser, new.denoiser.sample_shape
    assert shape is not None and old.autoencoder is not None and new.autoencoder is not None
    noise = jax.random.normal(jax.random.key(config.seed), (config.noises, *shape))
    labels = jnp.arange(config.noises) % (denoiser.config["num_class_embeds"] - 1)
    solver = new.scheduler.solver(50)
    pair = Pair(
        denoiser.model_fn, old.denoiser.params, denoiser.params, solver, noise, labels, jax.random.key(config.seed)
    )
    before, now = pair.sequential(pair.float32), pair.sequential(pair.stored)
    pictures = old.autoencoder.decode(jnp.asarray(before)), new.autoencoder.decode(jnp.asarray(now))
    return {
        "sample_difference": rms_error(now, before) / float(before.std()),
        "picture_difference": rms_error(*reversed(pictures)) / float(jnp.std(pictures[0])),
    }


if __name__ == "__main__":
    run(tyro.cli(Config), Console())
