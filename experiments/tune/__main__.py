"""Which window is fastest on this machine, or that the sequential sampler is: `pcm_jax.tune` on a shipped model.

    python -m experiments.tune --model fashion
    python -m experiments.tune --model digits --batch 16 --solver DDIM-100

Prints what was measured and what follows, and writes the plan and its picture to experiments/out/tune. Under 30 seconds
and the model's loading.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

import pcm_jax as pcm
from experiments.models.cases import case
from pcm_jax.tuning.advice import seconds


@dataclasses.dataclass(frozen=True)
class Config:
    """model: digits, fashion, emoji32, latent, pusht, metaworld, or paper (Diffusion Policy's network, untrained).

    batch: samples at once. solver: of a model of pixels, such as DDIM-100. seconds: of measuring. out: where to write.
    """

    model: str = "fashion"
    batch: int = 1
    solver: str = ""
    tol: float = 1e-2
    seconds: float = 30.0
    seed: int = 0
    out: Path = Path("experiments/out/tune")


def main(config: Config) -> pcm.Plan:
    """Tune, show, write."""
    console = Console()
    subject = case(config.model, batch=config.batch, seed=config.seed, solver=config.solver)
    plan = subject.tune(prior=subject.prior, tol=config.tol, seconds=config.seconds)
    console.print(show(plan, f"{config.model}, {subject.solver.name}, batch {config.batch}, {plan.device}"))
    console.print(plan.advice)
    config.out.mkdir(parents=True, exist_ok=True)
    name = f"{config.model}_{config.batch}"
    plan.save(config.out / f"{name}.json")
    plan.plot(config.out / f"{name}.png")
    console.print(f"Plan and picture: {config.out / name}.json, .png")
    return plan


def show(plan: pcm.Plan, title: str) -> Table:
    """What was measured, and the window that was chosen."""
    table = Table(title=title)
    for column in ("what", "rounds", "bound", "seconds", "over sequential"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for rows, taken in plan.rows:
        table.add_row(f"network, {rows} rows", "", "", seconds(taken), "")
    table.add_section()
    table.add_row(f"sequential, {plan.steps} steps", str(plan.steps), "0", seconds(plan.sequential_seconds), "1.00")
    for run in plan.runs:
        rounds = f"{run.rounds:.1f}" if run.converged else f"more than {run.rounds:.0f}"
        bound = "" if run.bound is None else f"{run.bound:.1e}"
        ratio = f"{run.seconds / plan.sequential_seconds:.2f}"
        table.add_row(f"window {run.window}", rounds, bound, seconds(run.seconds), ratio)
    if plan.seconds is not None:
        ratio = f"{plan.seconds / plan.sequential_seconds:.2f}"
        table.add_row(f"fastest: window {plan.window}", "", "", seconds(plan.seconds), ratio)
    return table


if __name__ == "__main__":
    main(tyro.cli(Config))
