"""Run every recipe and keep what it measured.

    python -m experiments.recipes                # two minutes on 2 CPU cores
    python -m experiments.recipes --small        # the size that the tests run

Writes experiments/results/recipes.json and the figures scan.af3_rounds, scan.max_error_over_tol and scan.grad_error.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

import pcm_jax as pcm
from experiments.common.figures import RESULTS, record, write_result
from experiments.recipes import action_expert, alphafold3, diffusionlab, flax_pipeline, frameworks
from experiments.recipes.common import Report

COMMAND = "python -m experiments.recipes"


@dataclasses.dataclass(frozen=True)
class Config:
    """small: fewer steps and samples, and no figures. results: the folder to write into."""

    small: bool = False
    results: Path = RESULTS


def reports(small: bool, console: Console) -> list[Report]:
    """Every recipe that can run here."""
    few: dict[str, int] = {"batch": 2, "steps": 20} if small else {}
    runs: list[Callable[[], Report]] = [
        functools.partial(alphafold3.digits, **({"batch": 4, "steps": 60} if small else {})),
        functools.partial(alphafold3.points, **({"batch": 2, "steps": 40} if small else {})),
        functools.partial(action_expert.run, **few),
        functools.partial(flax_pipeline.run, **few),
    ]
    runs += [functools.partial(frameworks.run, name, **few) for name in frameworks.FRAMEWORKS]
    if importlib.util.find_spec("diffusionlab"):
        runs.append(functools.partial(diffusionlab.run, **few))
    return [run() for run in track(runs, "recipes", console=console)]


def gradient_error(dtype: str, batch: int = 4, steps: int = 50) -> float:
    """Of the digits pipeline's gradient with respect to the latents, relative to the largest entry of lax.scan's.

    In float32 two programs of the same loop round differently, and 50 calls of a network make that visible.
    """
    with jax.enable_x64(dtype == "float64"):
        model = pcm.pretrained.load("digits")
        params, (latents, xs) = jax.tree.map(
            lambda leaf: leaf.astype(dtype), (model.params, flax_pipeline.inputs(model, batch, steps))
        )
        step = flax_pipeline.step_of(model, params, jnp.arange(batch) % 10, 1.5)

        def ours(x: jax.Array) -> jax.Array:
            return jnp.sum(jnp.sin(pcm.scan(step, x, xs, batch_axis=0, tol=1e-5).carry))

        def theirs(x: jax.Array) -> jax.Array:
            return jnp.sum(jnp.sin(jax.lax.scan(lambda carry, at: (step(carry, at), None), x, xs)[0]))

        found, true = jax.grad(ours)(latents), jax.grad(theirs)(latents)
        return float(jnp.max(jnp.abs(found - true)) / jnp.max(jnp.abs(true)))


def main(config: Config) -> None:
    """Run, print, write."""
    console = Console()
    found = reports(config.small, console)
    table = Table("recipe", "steps", "rounds", "most", "bound", "error", "certified")
    for each in found:
        cells = (f"{each.rounds:.1f}", f"{each.most_rounds}", f"{each.bound:.4f}", f"{each.error:.4f}")
        table.add_row(each.name, f"{each.steps}", *cells, f"{each.converged:.0%}")
    console.print(table)
    console.print(f"In each of them one line changes:\n  - {found[0].was}\n  + {found[1].now}")
    if config.small:
        return
    errors = {dtype: gradient_error(dtype) for dtype in ("float32", "float64")}
    payload = {"recipes": [dataclasses.asdict(each) for each in found], "gradient_error": errors}
    write_result("recipes", payload, config={}, seed=0, command=COMMAND, results=config.results)
    record("scan.af3_rounds", found[0].rounds, command=COMMAND, results=config.results)
    worst = max(each.error / each.tol for each in found)
    record("scan.max_error_over_tol", worst, command=COMMAND, results=config.results)
    record("scan.grad_error", errors["float64"], command=COMMAND, results=config.results)


if __name__ == "__main__":
    main(tyro.cli(Config))
