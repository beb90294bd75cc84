"""A guided UNet of Stable Diffusion 1.5's size in bfloat16, windows of 4 to 50 steps. Its weights are random."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pcm_jax as pcm
from experiments.bench.accelerator.budget import Budget
from experiments.bench.accelerator.parts import Keep, outcome
from experiments.bench.accelerator.programs import Job, compile_all, in_turn
from experiments.models.sd15 import STABLE_DIFFUSION, TOKENS, random_unet
from pcm_jax.guidance import prompt_guided, prompts
from pcm_jax.networks import linen
from pcm_jax.types import Array, Params

GUIDANCE = 7.5


@dataclasses.dataclass(frozen=True)
class Large:
    """unet: its config.json. windows: of `steps` DDIM steps. rounds: at most so many are run in every window.

    With random weights rounds say nothing of a trained model: seconds of a round do.
    """

    unet: dict[str, Any] = dataclasses.field(default_factory=lambda: STABLE_DIFFUSION)
    steps: int = 50
    windows: tuple[int, ...] = (4, 10, 25, 50)
    rounds: int = 5
    repeats: int = 3
    patience: float = 10.0
    seed: int = 0


SMALL_UNET = STABLE_DIFFUSION | {
    "block_out_channels": [8, 16],
    "cross_attention_dim": 8,
    "attention_head_dim": 2,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 8,
}
SMALL = Large(SMALL_UNET, 4, (2, 4), 2, 1, 0.1)


def run(large: Large, budget: Budget, keep: Keep) -> None:
    """The sequential sampler, and a fixed number of rounds of every window, of one guided sample."""
    with budget.item("Stable Diffusion 1.5's size") as time_left:
        if time_left:
            _measure(large, keep)


def _measure(large: Large, keep: Keep) -> None:
    module, params = random_unet(large.unet, jnp.bfloat16, large.seed)
    size, width = large.unet["sample_size"], large.unet["cross_attention_dim"]
    first, second, third = jax.random.split(jax.random.key(large.seed), 3)
    noise = jax.random.normal(first, (1, size, size, large.unet["in_channels"]))
    text = jax.random.normal(second, (1, TOKENS, width))
    cond = prompts(text, jax.random.normal(third, text.shape))
    solver = pcm.solvers.ddim(pcm.schedules.scaled_linear_vp(), large.steps)
    model_fn = prompt_guided(linen(module), GUIDANCE)

    def sequential(params: Params, noise: Array, cond: Any) -> pcm.SampleOutput:
        return pcm.sample_sequential(model_fn, params, noise, solver, cond=cond)

    def rounds(window: int) -> Job:
        def sample(params: Params, noise: Array, cond: Any) -> pcm.SampleOutput:
            # tol=0 accepts what is proven alone, so that all rounds run.
            how: dict[str, Any] = {"window": window, "tol": 0.0, "max_rounds": large.rounds}
            return pcm.sample_picard(model_fn, params, noise, solver, cond=cond, **how)

        return sample, (params, noise, cond), None

    jobs: dict[str, Job] = {"sequential": (sequential, (params, noise, cond), None)}
    programs = compile_all(jobs | {str(window): rounds(window) for window in large.windows})
    times = in_turn(programs, large.repeats, large.patience)
    reference = np.asarray(times["sequential"].out.sample)
    step = times["sequential"].seconds / large.steps
    for name, each in times.items():
        line: dict[str, Any] = {"window": None if name == "sequential" else int(name), "steps": large.steps}
        line |= {"guidance": GUIDANCE, "parameters": sum(leaf.size for leaf in jax.tree.leaves(params))}
        line |= outcome(each.out, reference) | {"seconds": each.seconds, "repeats": each.repeats}
        line |= {"compile_seconds": programs[name].compile_seconds, "memory": programs[name].memory}
        a_round = step if name == "sequential" else each.seconds / line["rounds"]
        keep([line | {"round_seconds": a_round, "round_over_step": a_round / step}])
