"""What an adapter is trained for: a shipped model, in pixels or in a folder of diffusers, and its sampler."""

from __future__ import annotations

import dataclasses
import json

from experiments.common import study
from experiments.common.figures import RESULTS
from pcm_jax.networks import LinenModel
from pcm_jax.pretrained import FOLDERS, available, load
from pcm_jax.pretrained.diffusers import load_pipeline
from pcm_jax.priors import GaussianPrior
from pcm_jax.solvers import Solver
from pcm_jax.types import Params

TRAINED = {"emoji32-latent": "latent_denoiser"}
"""The result of the command that trained a folder's network; of another model it is <name>_train."""


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """Fields as of `pretrained.Pretrained`, and the solver."""

    name: str
    model_fn: LinenModel
    params: Params
    solver: Solver
    sample_shape: tuple[int, ...]
    num_classes: int
    prior: GaussianPrior | None


def subject(model: str, solver: str) -> Subject:
    """A model that `pretrained.load` knows with a solver of `study.solvers`, or a folder's with its own DDIM-N.

    Raises:
        ValueError: an unknown model or solver.
    """
    if model not in TRAINED:
        if model not in available():
            raise ValueError(f"there is no model {model!r}; choose one of {', '.join((*available(), *TRAINED))}")
        one = load(model)
        known = study.solvers(one)
        if solver not in known:
            raise ValueError(f"there is no solver {solver!r} for {model}; choose one of {', '.join(known)}")
        assert isinstance(one.model_fn, LinenModel)
        return Subject(model, one.model_fn, one.params, known[solver], one.sample_shape, one.num_classes, one.prior)
    pipe = load_pipeline(FOLDERS / model)
    family, _, steps = solver.partition("-")
    if family != "DDIM" or not steps.isdecimal() or int(steps) < 1:
        raise ValueError(f"{model} has the sampler of its folder, DDIM-N such as DDIM-18; got {solver!r}")
    network = pipe.denoiser
    assert network.sample_shape is not None
    # One class more than there are: the null label.
    classes = network.config["num_class_embeds"] - 1
    return Subject(
        model, network.model_fn, network.params, pipe.scheduler.solver(int(steps)), network.sample_shape, classes, None
    )


def base_evaluations(model: str) -> float:
    """Forward evaluations that training the base model took, three for every image of a batch; from its results."""
    result = json.loads((RESULTS / f"{TRAINED.get(model, f'{model}_train')}.json").read_text())
    return 3.0 * result.get("steps_done", result["config"]["steps"]) * result["config"]["batch_size"]
