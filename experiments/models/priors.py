"""The Gaussian priors that ship with the package: a first trajectory for the parallel sampler, before any network call.

    python -m experiments.models.priors fit --model digits     # draws samples of the shipped model and writes its prior
    python -m experiments.models.priors measure --model digits # the guess and the rounds it saves, on other noises

Models of images are fitted by class, policies with a ridge regression on the observations of the demonstrations that
they were trained on (for Meta-World after `python -m experiments.robots collect`). Expected: digits in a minute on 2
CPU cores, fashion and emoji32 in a few; files of 0.02 to 0.5 MB. A fit that was stopped goes on where it was.
"""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console

import pcm_jax as pcm
from experiments.common.figures import command_line, device, versions, write_result
from experiments.robots.train import observations
from pcm_jax import priors, schedules, solvers
from pcm_jax.pretrained import PRIORS, WEIGHTS, ModelConfig, load_arrays, load_policy, load_prior, save_prior
from pcm_jax.sampling.network import draw_step_noise
from pcm_jax.training import fit_prior_from_model
from pcm_jax.trees import unflatten
from pcm_jax.types import ModelFn, Params

Name = Literal["digits", "fashion", "emoji32", "pusht", "metaworld"]
LEVELS = (0.1, 0.01, 0.001)


class Size(NamedTuple):
    """Samples to draw, and what a file under half a megabyte has room for."""

    samples: int
    rank: int
    shared_basis: bool = False


SIZES = {
    "digits": Size(2000, 64),
    "fashion": Size(1000, 24),
    "emoji32": Size(512, 48, shared_basis=True),
    "pusht": Size(4000, 32),
    "metaworld": Size(4000, 64),
}


@dataclasses.dataclass(frozen=True)
class Fit:
    """Draw samples, fit a prior, write it.

    weights: folder with <model>.safetensors and .json, by default the shipped ones; bfloat16 is cast to float32. data:
    demonstrations of a policy. samples, rank, shared_basis: by default those that ship. out: the file, by default the
    package's. parts: keeps what was drawn.
    """

    model: Name = "digits"
    weights: Path = WEIGHTS
    data: Path | None = None
    samples: int | None = None
    rank: int | None = None
    shared_basis: bool | None = None
    steps: int = 25
    ridge: float = 1e-3
    batch_size: int = 100
    seed: int = 4242
    out: Path | None = None
    parts: Path = Path("experiments/out/priors")


@dataclasses.dataclass(frozen=True)
class Measure:
    """Compare the guess with the exact sample, and the rounds from it with the rounds from copies of the noise.

    weights, data: as for `fit`. prior: another file. steps: of DDIM; policies run DDPM-100. results: where to write,
    by default the package's results.
    """

    model: Name = "digits"
    weights: Path = WEIGHTS
    data: Path | None = None
    prior: Path | None = None
    steps: int = 50
    samples: int = 64
    rounds: int = 14
    seed: int = 77
    write: bool = True


class Subject(NamedTuple):
    """A model, its sampler, and the conditioning it is asked with: labels, or rows of observations."""

    model_fn: ModelFn
    params: Params
    shape: tuple[int, ...]
    solver: solvers.Solver
    how: dict[str, Any]
    num_classes: int
    observations: np.ndarray | None


def subject(model: Name, weights: Path, data: Path | None, steps: int, held_out: bool) -> Subject:
    """The model by name. held_out: observations of the episodes that it was not trained on, instead of the others."""
    if model in ("pusht", "metaworld"):
        policy = load_policy(model)
        seen = observations(policy, model, data, unseen=held_out)
        how: dict[str, Any] = {"schedule": schedules.cosine_vp(len(policy.solver)), "clip": policy.solver.clip}
        shape = (policy.horizon, policy.action.size)
        return Subject(policy.model_fn, policy.params, shape, policy.solver, how, 0, seen)
    config, model_fn, params = load_float32(model, weights)
    how = {"schedule": config.build_schedule(), "prediction": config.prediction, "clip": config.clip}
    solver = solvers.ddim(num_steps=steps, **how)
    return Subject(model_fn, params, config.sample_shape, solver, how, config.num_classes, None)


def load_float32(model: str, folder: Path) -> tuple[ModelConfig, ModelFn, Params]:
    """A model whose file may hold bfloat16."""
    config = ModelConfig(**json.loads((folder / f"{model}.json").read_text()))
    model_fn, like = config.build()
    arrays = load_arrays(folder / f"{model}.safetensors")
    return config, model_fn, unflatten({name: jnp.asarray(leaf, jnp.float32) for name, leaf in arrays.items()}, like)


def run_fit(config: Fit, console: Console) -> Path:
    """Draw, fit, write."""
    size, start = SIZES[config.model], time.perf_counter()
    about = subject(config.model, config.weights, config.data, config.steps, held_out=False)
    prior = fit_prior_from_model(
        about.model_fn,
        about.params,
        sample_shape=about.shape,
        **about.how,
        num_classes=about.num_classes,
        observations=about.observations,
        num_samples=size.samples if config.samples is None else config.samples,
        num_steps=config.steps,
        rank=size.rank if config.rank is None else config.rank,
        shared_basis=size.shared_basis if config.shared_basis is None else config.shared_basis,
        ridge=config.ridge,
        batch_size=config.batch_size,
        seed=config.seed,
        directory=config.parts / config.model,
    )
    never = ("weights", "data", "out", "parts")
    made = {
        "command": command_line("experiments.models.priors fit", config, always=("model",), never=never),
        "device": device(),
        "versions": versions(),
        "seconds": round(time.perf_counter() - start),
    }
    path = save_prior(config.out or PRIORS / f"{config.model}.safetensors", prior, about.params, made)
    console.print(f"wrote {path} ({path.stat().st_size / 1e6:.3f} MB) after {made['seconds']} s")
    return path


def run_measure(config: Measure, console: Console) -> dict[str, Any]:
    """Errors are RMS distances to the sequential sample."""
    about = subject(config.model, config.weights, config.data, config.steps, held_out=True)
    prior = load_prior(config.prior or config.model, about.params)
    noise_key, step_key, cond_key = jax.random.split(jax.random.key(config.seed), 3)
    noise = jax.random.normal(noise_key, (config.samples, *about.shape))
    cond: Any = jnp.arange(config.samples) % max(about.num_classes, 1)
    if about.observations is not None:
        cond = jnp.asarray(jax.random.choice(cond_key, about.observations, (config.samples,)))
    z = draw_step_noise(step_key, len(about.solver), noise.shape, noise.dtype) if about.solver.stochastic else None
    fixed: dict[str, Any] = {"cond": cond, "step_noise": z}
    exact = pcm.sample_sequential(about.model_fn, about.params, noise, about.solver, **fixed).sample
    starts = {
        "copies of the noise": None,
        "guess": priors.trajectory(prior, about.solver, noise, z, cond),
        "guess, one component": priors.trajectory(prior.pooled(), about.solver, noise, z),
        "guess, parallel": priors.parallel_trajectory(prior, about.solver, noise, z, cond),
    }
    outcome: dict[str, Any] = {"solver": about.solver.name, "levels": LEVELS}
    for name, init in starts.items():
        first = noise if init is None else init[-1]
        out = pcm.sample_picard(
            about.model_fn,
            about.params,
            noise,
            about.solver,
            tol=0.0,
            max_rounds=config.rounds,
            init=init,
            return_rounds=True,
            **fixed,
        )
        assert out.iterates is not None
        error = np.stack([_rms(each - exact) for each in (first, *out.iterates)])
        outcome[name] = {
            "error": np.sqrt(np.mean(error**2, axis=1)),
            "rounds": [float(np.mean(_reached(error, level))) for level in LEVELS],
        }
        console.print(f"{name:22s} rounds {np.round(outcome[name]['rounds'], 2)} error {outcome[name]['error'][:6]}")
    if config.write:
        command = command_line(
            "experiments.models.priors measure", config, always=("model",), never=("weights", "data")
        )
        plain = dataclasses.replace(config, weights=Path("shipped"), data=None)
        write_result(f"prior_{config.model}", outcome, config=plain, seed=config.seed, command=command)
    return outcome


def _rms(difference: jax.Array) -> np.ndarray:
    """Of every sample."""
    flat = np.asarray(difference).reshape(len(difference), -1)
    return np.asarray(np.sqrt(np.mean(flat**2, axis=1)))


def _reached(error: np.ndarray, level: float) -> np.ndarray:
    """The first round of each sample with an error within `level`; one more than the last where there is none."""
    within = error <= level
    return np.where(within.any(0), within.argmax(0), len(error))


Command = Annotated[Fit, tyro.conf.subcommand("fit")] | Annotated[Measure, tyro.conf.subcommand("measure")]


def main(config: Fit | Measure) -> None:
    """Run one of the two."""
    if isinstance(config, Fit):
        run_fit(config, Console())
    else:
        run_measure(config, Console())


if __name__ == "__main__":
    main(tyro.cli(Command))
