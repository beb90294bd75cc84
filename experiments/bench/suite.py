"""Minutes that the tests take with nothing cached, on this machine and its cores.

    python -m experiments.bench.suite                     # make test: the figure tests.minutes
    python -m experiments.bench.suite --targets test-all fast

Runs the make targets one after the other, each with an empty compilation cache, and records those that pass. Times hold
for a machine that does nothing else.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

import tyro

from experiments.common.figures import RESULTS, ROOT, record

Target = Literal["test", "test-all", "fast"]
FIGURES: dict[Target, str] = {"test": "tests.minutes", "test-all": "tests.all_minutes", "fast": "tests.fast_minutes"}


@dataclasses.dataclass(frozen=True)
class Config:
    """targets: of the Makefile. workers: test processes."""

    targets: tuple[Target, ...] = ("test",)
    workers: int = 2


def minutes(target: Target, workers: int) -> float:
    """Of one run of `make TARGET` with this interpreter.

    Raises:
        RuntimeError: a test failed.
    """
    with tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        command = ["make", target, f"PYTHON={sys.executable}", "VENV=", f"WORKERS={workers}"]
        done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PCM_JAX_TEST_CACHE": cache}, check=False)
        took = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"make {target} failed; a run that stops early says nothing about its time")
    return took / 60


def main(config: Config, results: Path = RESULTS) -> None:
    """Measure and record each target."""
    for target in config.targets:
        flags = "" if target == "test" else f" --targets {target}"
        record(
            FIGURES[target],
            round(minutes(target, config.workers), 2),
            command=f"python -m experiments.bench.suite{flags}",
            results=results,
        )


if __name__ == "__main__":
    main(tyro.cli(Config))
