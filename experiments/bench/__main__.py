"""What a round costs, how many rounds every setting and every solver takes, and what each of eight devices computes.

    make bench                                 # all five, about twenty minutes on 2 CPU cores
    make bench ARGS="--studies overhead spmd"  # some
    make bench PYTHON=python3 VENV=            # on a GPU image that brings its own JAX; then also seconds

Writes experiments/results/bench_{overhead,round,solvers,spmd,sweep}.json, bench_sweep.png, and the headline figures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal

import jax
import tyro
from rich.console import Console

from experiments.bench import overhead, rounds, solvers, spmd, sweep

Study = Literal["overhead", "round", "solvers", "spmd", "sweep"]
STUDIES: dict[Study, Callable[[int, bool, Console], None]] = {
    "overhead": overhead.run,
    "round": rounds.run,
    "solvers": solvers.run,
    "spmd": spmd.run,
    "sweep": sweep.run,
}


@dataclasses.dataclass(frozen=True)
class Config:
    """studies: which. seed: noise. quick: the smallest grid of each, to see that it runs."""

    studies: tuple[Study, ...] = tuple(STUDIES)
    seed: int = 0
    quick: bool = False


def main(config: Config) -> None:
    """Run the studies one after the other."""
    # Before the first array: eight CPU devices for the study of what each computes. A GPU is not affected.
    jax.config.update("jax_num_cpu_devices", 8)
    console = Console()
    for name in config.studies:
        console.rule(name)
        STUDIES[name](config.seed, config.quick, console)


if __name__ == "__main__":
    main(tyro.cli(Config))
