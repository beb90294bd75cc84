"""What everything takes on one GPU or TPU, in under eight minutes.

    make accelerator PYTHON=python3 VENV=       # on a machine with an accelerator
    python -m experiments.bench.accelerator --small --results DIR     # tiny, on a CPU, to see that it runs

It needs JAX, Flax, Optax, Orbax, safetensors, NumPy, rich and matplotlib, and nothing else: no network either. Parts,
in this order: the bare network on 1 to 1,600 rows; sequential, Picard, secant, prior and PCM of the shipped models, the
policies and the paper's 256/512/1024 UNet1D (random weights) at batch 1 and 16, with seconds, rounds, true error, bound
and compile time; what `pcm_jax.tune` chooses; default and highest precision and bfloat16; a guided UNet of Stable
Diffusion 1.5's size (only where there is an accelerator, or with --large); command buffers without and with loops,
and two rounds in an iteration of the loop.

experiments/results/accelerator.json is written anew after every measurement, so a run that is cut off keeps what it
has, and what there was no time for is named in it; accelerator.png at the end. On a GPU also the figures gpu.*. Then
`python -m experiments.site.readme`.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from experiments import STARTED
from experiments.bench.accelerator import large, parts, report
from experiments.bench.accelerator.budget import Budget
from experiments.common.figures import RESULTS, record, write_result
from pcm_jax.tuning.advice import seconds as shown

COMMAND = "make accelerator PYTHON=python3 VENV="
SHARES = {"rows": 45.0, "samplers": 150.0, "tuned": 80.0, "precisions": 40.0, "large": 110.0, "command buffers": 30.0}
"""Seconds of every part: seven and a half minutes."""
GUESSES = {"rows": 5.0, "samplers": 10.0, "tuned": 10.0, "precisions": 8.0, "large": 45.0, "command buffers": 4.0}
"""Seconds that the first item of a part is thought to take."""


@dataclasses.dataclass(frozen=True)
class Config:
    """small: a tiny run. large: the part of Stable Diffusion's size too; None: where there is an accelerator."""

    small: bool = False
    large: bool | None = None
    scale: float = 1.0
    seed: int = 0
    results: Path = RESULTS


class Report:
    """The JSON, written anew whenever something is added."""

    def __init__(self, config: Config, budget: Budget) -> None:
        self._config, self._budget = config, budget
        self.content: dict[str, Any] = {
            "device_kind": jax.devices()[0].device_kind,
            "platform": jax.default_backend(),
            "complete": False,
            "parts": {},
            "failed": [],
        }

    def keep(self, part: str) -> parts.Keep:
        """Adds rows to that part."""

        def add(rows: list[dict[str, Any]] | dict[str, Any]) -> None:
            self.content["parts"].setdefault(part, []).extend(rows if isinstance(rows, list) else [rows])
            self.write()

        return add

    def write(self) -> None:
        """The file, in one step."""
        config = {"small": self._config.small, "scale": self._config.scale, "shares": SHARES}
        payload = self.content | {"skipped": self._budget.skipped, "took": self._budget.spent}
        where: dict[str, Any] = {"seed": self._config.seed, "command": COMMAND, "results": self._config.results}
        write_result("accelerator", payload, config=config, **where)


def run(config: Config, console: Console, start: float | None = None) -> dict[str, Any]:
    """All parts that there is time for; one that fails is named, and the next one begins."""
    sizes = parts.SMALL if config.small else parts.Sizes()
    sizes = dataclasses.replace(sizes, seed=config.seed)
    size = large.SMALL if config.small else large.Large()
    budget = Budget({part: config.scale * share for part, share in SHARES.items()}, start)
    found = Report(config, budget)
    found.write()
    work: dict[str, Callable[[parts.Keep], None]] = {
        "rows": lambda keep: parts.rows(sizes, budget, keep),
        "samplers": lambda keep: parts.samplers(sizes, budget, keep),
        "tuned": lambda keep: parts.tuned(sizes, budget, keep),
        "precisions": lambda keep: parts.precisions(sizes, budget, keep),
        "large": lambda keep: large.run(dataclasses.replace(size, seed=config.seed), budget, keep),
        "command buffers": lambda keep: parts.command_buffers(sizes, budget, keep),
    }
    for part, measure in work.items():
        budget.begin(part, 0.0 if config.small else GUESSES[part])
        console.print(f"{part}: up to {shown(max(budget.left(), 1e-6))}, {shown(budget.spent)} have passed")
        if part == "large" and not _wants_large(config):
            budget.skip("Stable Diffusion 1.5's size", "no accelerator; --large measures it all the same")
            continue
        if part == "command buffers":
            _conclude(found.content, config.results)  # some builds of XLA abort the process in this part
            if jax.default_backend() == "tpu":
                budget.skip(part, "a TPU has none")
                continue
        try:
            measure(found.keep(part))
        except Exception as error:
            # Hours of somebody's queue may lie behind this run: what one part does must not cost the others.
            traceback.print_exc()
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"
            found.content["failed"].append({"part": part, "reason": reason})
        found.write()
        show(part, found.content, console)
    found.content["complete"] = True
    found.write()
    for skipped in budget.skipped:
        console.print(f"skipped: {skipped['part']}, {skipped['what']} ({skipped['reason']})")
    console.print(f"{config.results.name}/accelerator.json, accelerator.png; {budget.spent:.0f} s")
    return found.content


def _conclude(content: dict[str, Any], results: Path) -> None:
    report.plot(content, results / "accelerator.png")
    for name, value in report.figures(content).items():
        record(name, value, command=COMMAND, results=results)


def show(part: str, content: dict[str, Any], console: Console) -> None:
    """A part's numbers."""
    rows = content["parts"].get(part, [])
    if part in ("samplers", "tuned", "precisions", "command buffers"):
        console.print(report.table(rows, f"{part}, {content['device_kind']}"))
    for row in rows if part in ("rows", "large") else ():
        what = f"{row['model']}, {row['rows']} rows" if part == "rows" else f"window {row['window'] or 'none'}, a round"
        console.print(f"{what}: {shown(row['seconds' if part == 'rows' else 'round_seconds'])}")


def _wants_large(config: Config) -> bool:
    return jax.default_backend() != "cpu" if config.large is None else config.large


def parse(arguments: Sequence[str] | None = None) -> Config:
    """The command line. argparse, because nothing else is sure to be there."""
    summary = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m experiments.bench.accelerator", description=summary)
    parser.add_argument("--small", action="store_true", help="one tiny model of each kind; needs --results")
    parser.add_argument("--large", action=argparse.BooleanOptionalAction, help="Stable Diffusion's size on any device")
    parser.add_argument("--scale", type=float, default=1.0, help="times all shares of the seven and a half minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=None, help=f"folder to write to, by default {RESULTS.name}")
    given = parser.parse_args(arguments)
    if given.scale <= 0:
        parser.error("--scale must be above 0")
    if given.small and given.results is None:
        parser.error("--small measures next to nothing: say with --results DIR where it may write")
    return Config(given.small, given.large, given.scale, given.seed, given.results or RESULTS)


def main() -> None:
    """Run; the exit status is 1 where a part failed."""
    console = Console()
    console.width = max(console.width, 130)
    content = run(parse(), console, STARTED)
    sys.exit(1 if content["failed"] else 0)


if __name__ == "__main__":
    main()
