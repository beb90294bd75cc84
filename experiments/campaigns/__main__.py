"""Campaigns of random cases; each counts what must be nought, and keeps every failure with its seed.

    python -m experiments.campaigns exactness --cases 10000   # certified samples over their tolerance, all executors
    python -m experiments.campaigns files --cases 1000        # damaged files that no reader names
    python -m experiments.campaigns kills --cases 100         # killed runs that do not end like others
    python -m experiments.campaigns recurrences --cases 10000 # the same of pcm.scan, on random recurrences
    python -m experiments.campaigns soak --cases 10000        # recompilations and memory of one long process

All go on where they were stopped (experiments/out/campaigns) and write experiments/results/campaign_NAME.json.
"""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Annotated, Literal

import jax
import tyro
from rich.console import Console

from experiments.campaigns.common import Options
from experiments.common.figures import RESULTS

CASES = {"exactness": 10_000, "files": 1000, "kills": 100, "recurrences": 10_000, "soak": 10_000}


@dataclasses.dataclass(frozen=True)
class Config:
    """name: of the campaign. cases: by default those of its goal."""

    name: Annotated[Literal["exactness", "files", "kills", "recurrences", "soak"], tyro.conf.Positional]
    cases: int | None = None
    seed: int = 0
    out: Path = Path("experiments/out/campaigns")
    results: Path = RESULTS


def main(config: Config) -> None:
    """Run one."""
    # Before the first array: the executors spread the window over eight CPU devices.
    if config.name in ("exactness", "recurrences"):
        jax.config.update("jax_num_cpu_devices", 8)
    cases = CASES[config.name] if config.cases is None else config.cases
    if cases < 1:
        raise SystemExit("a campaign has at least one case; --cases 100")
    campaign = importlib.import_module(f"experiments.campaigns.{config.name}")
    campaign.run(Options(cases, config.seed, config.out, config.results), Console())


if __name__ == "__main__":
    main(tyro.cli(Config))
