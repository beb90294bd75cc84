"""The samplers that are timed: shipped models and policies, and the paper's network, with what each is sampled with.

Nothing here needs more than JAX, Flax, NumPy and the package's own files: `experiments.bench.accelerator` runs
where there is nothing else.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pcm_jax as pcm
from experiments.common import study
from pcm_jax import lora
from pcm_jax.data.robots import Normalizer
from pcm_jax.networks import factored
from pcm_jax.policy import Policy
from pcm_jax.policy.decision import draw_noise
from pcm_jax.pretrained import (
    FOLDERS,
    PolicyConfig,
    PretrainedAdapter,
    available_adapters,
    build_policy,
    load_adapter,
    load_policy,
)
from pcm_jax.pretrained.diffusers import load_pipeline
from pcm_jax.priors import GaussianPrior
from pcm_jax.solvers import Solver
from pcm_jax.switching import after
from pcm_jax.types import ModelFn, Params

MODELS = ("digits", "fashion", "emoji32", "latent", "pusht", "metaworld")
"""That ship."""
PAPER = "paper"
PAPER_NETWORK: dict[str, Any] = {"name": "unet1d", "channels": (256, 512, 1024)}
"""Diffusion Policy's network (arXiv 2303.04137), here without training."""


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A model, a solver, a batch of noise and its conditions.

    step_noise: of a stochastic solver. prior: None where none ships. shipped: the PCM-LoRA, None where none ships.
    """

    name: str
    model_fn: ModelFn
    params: Params
    solver: Solver
    noise: jax.Array
    cond: Any
    step_noise: jax.Array | None
    prior: GaussianPrior | None
    shipped: PretrainedAdapter | None

    def sequential(self, **options: Any) -> pcm.SampleOutput:
        return pcm.sample_sequential(self.model_fn, self.params, self.noise, self.solver, **self._data, **options)

    def picard(self, **options: Any) -> pcm.SampleOutput:
        return pcm.sample_picard(self.model_fn, self.params, self.noise, self.solver, **self._data, **options)

    def tune(self, **options: Any) -> pcm.Plan:
        return pcm.tune(self.model_fn, self.params, self.noise, self.solver, **self._data, **options)

    def adapted(self) -> dict[str, Any]:
        """Adapter, switch and prior: the shipped PCM-LoRA's, or of one without training whose rounds cost as much.

        That one says in the first round what the base model says.
        """
        if self.shipped is not None:
            return study.tuned(self.shipped, self.prior)
        # One program: drawn leaf by leaf, on a GPU every shape would be compiled alone.
        fresh = jax.jit(lambda params, key: lora.init(params, 16, key))(self.params, jax.random.key(0))
        return {"adapter": factored(self.model_fn, fresh), "switch": after(1), "prior": None}

    @property
    def _data(self) -> dict[str, Any]:
        return {"cond": self.cond, "step_noise": self.step_noise}

    def compiled(self, sample: Callable[[Case], pcm.SampleOutput]) -> Any:
        """`sample(case)` as one program of (params, noise, step_noise), compiled."""

        def run(params: Params, noise: jax.Array, step_noise: jax.Array | None) -> pcm.SampleOutput:
            return sample(dataclasses.replace(self, params=params, noise=noise, step_noise=step_noise))

        return jax.jit(run).lower(self.params, self.noise, self.step_noise).compile()


def case(name: str, *, batch: int, seed: int = 0, solver: str = "", steps: int | None = None) -> Case:
    """The case called `name`.

    Args:
        name: one of MODELS, or PAPER.
        batch: samples, or robots that decide at once.
        seed: of noise and observations.
        solver: of a model of pixels: a name of `study.solvers`, default DDIM-50 for digits and DDIM-100 for the others.
        steps: of the latent model's DDIM, default 50, and of the policies' networks, default 100.

    Raises:
        ValueError: an unknown name.
    """
    if name not in (*MODELS, PAPER):
        raise ValueError(f"there is no case {name!r}; choose one of {', '.join((*MODELS, PAPER))}")
    if name == "latent":
        return _latent(batch, seed, 50 if steps is None else steps)
    if name in ("pusht", "metaworld", PAPER):
        return _policy(load_policy(name) if name != PAPER else paper_policy(seed), batch, seed)
    return _pixels(name, batch, seed, solver or ("DDIM-50" if name == "digits" else "DDIM-100"))


def _pixels(name: str, batch: int, seed: int, solver: str) -> Case:
    model = pcm.pretrained.load(name)
    problem = study.problem(model, study.solvers(model)[solver], batch=batch, seed=seed)
    z = _step_noise(problem.solver, batch, model.sample_shape, seed)
    data = (model.model_fn, model.params, problem.solver, problem.noise, problem.labels, z)
    return Case(name, *data, model.prior, study.adapter_for(model, solver))


def _latent(batch: int, seed: int, steps: int) -> Case:
    pipe = load_pipeline(FOLDERS / "emoji32-latent")
    model, solver = pipe.denoiser, pipe.scheduler.solver(steps)
    assert model.sample_shape is not None
    noise = jax.random.normal(jax.random.key(seed), (batch, *model.sample_shape))
    labels = jnp.arange(batch) % (model.config["num_class_embeds"] - 1)
    name = study.adapter_name("emoji32-latent", f"DDIM-{steps}")
    shipped = load_adapter(name, model) if name in available_adapters() else None
    return Case("latent", model.model_fn, model.params, solver, noise, labels, None, None, shipped)


def _policy(policy: Policy, batch: int, seed: int) -> Case:
    keys, seen_key = jax.random.split(jax.random.key(seed), batch), jax.random.key(seed + 1)
    noise, z = draw_noise(keys, policy.solver, (policy.horizon, policy.action.size))
    # In the middle of what the normaliser was fitted on.
    shape = (batch, policy.obs_horizon, policy.observation.size)
    seen = jax.random.uniform(seen_key, shape, minval=-0.5, maxval=0.5)
    name = f"{policy.name}-ddpm100"
    shipped = load_adapter(name, policy) if name in available_adapters() else None
    data = (policy.model_fn, policy.params, policy.solver, noise, seen, z)
    return Case(policy.name, *data, policy.prior, shipped)


@functools.lru_cache(maxsize=1)
def paper_policy(seed: int) -> Policy:
    """Diffusion Policy's UNet with random weights, and Push-T's sizes."""
    sizes: dict[str, Any] = {
        "observation_size": 20,
        "action_size": 2,
        "obs_horizon": 2,
        "horizon": 16,
        "action_horizon": 8,
    }
    config = PolicyConfig(name=PAPER, network=PAPER_NETWORK, num_steps=100, tasks=("pusht",), **sizes)
    model_fn, _ = config.build()
    params = jax.jit(model_fn.init)(jax.random.key(seed), jnp.zeros((1, 16, 2)), jnp.zeros(1), jnp.zeros((1, 2, 20)))
    bounds = np.array([[-1.0], [1.0]], np.float32)
    return build_policy(config, params, Normalizer.fit(bounds.repeat(20, 1)), Normalizer.fit(bounds.repeat(2, 1)))


def _step_noise(solver: Solver, batch: int, shape: tuple[int, ...], seed: int) -> jax.Array | None:
    if not solver.stochastic:
        return None
    return jax.random.normal(jax.random.key(seed + 2), (len(solver), batch, *shape))
