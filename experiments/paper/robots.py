"""The robot table: a decision of each sampler in the simulators, beside what the paper claims."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from experiments.common.figures import command_line, write_result
from experiments.paper.report import published


@dataclasses.dataclass(frozen=True)
class Robots:
    """Run the shipped policies in their simulators, or read what `experiments.robots eval` has kept.

    task: as for that command. episodes: None for its default. rounds: fixed ones of Picard and PCM. kept: finished
    episodes, shared with that command. results: where the JSON goes, by default `out`.
    """

    task: Literal["pusht", "metaworld"] = "pusht"
    episodes: int | None = None
    rounds: tuple[int, ...] = (2, 3, 4, 6, 8, 16, 20, 24)
    kept: Path = Path("experiments/out/robots/eval")
    out: Path = Path("experiments/out/paper/robots")
    results: Path | None = None
    seed: int = 0


def run_robots(config: Robots, console: Console) -> list[dict[str, Any]]:
    """Both tables and the JSON; one line for each method."""
    # Simulators are only needed here.
    from experiments.robots.evaluate import Evaluate, run_evaluate
    from experiments.robots.methods import METHODS
    from experiments.robots.report import ORACLE, summarise

    wanted = [
        name
        for name, method in METHODS.items()
        if not method.warm and method.kind != "DDIM" and (method.rounds is None or method.rounds in config.rounds)
    ]
    episodes = run_evaluate(
        Evaluate(config.task, tuple(wanted), config.episodes, seed=config.seed, out=config.kept), console
    )
    lines = summarise(episodes, wanted)
    depth = next(line["rounds"] for line in lines if line["method"] == ORACLE)
    table = Table(title=f"measured: {config.task}, {len(episodes) // len(wanted)} episodes")
    for title in (
        "method",
        "rounds",
        "success",
        "score",
        "latency / sequential",
        "speed-up in rounds",
    ):
        table.add_column(title, justify="left" if title == "method" else "right")
    for line in lines:
        line["depth_speedup"] = depth / line["rounds"]
        low, high = line["interval"]
        table.add_row(
            line["method"],
            f"{line['rounds']:.1f}",
            f"{line['success']:.2f} ({low:.2f}-{high:.2f})",
            f"{line['score']:.3f}",
            "" if line["time"] is None else f"{line['time']:.2f}",
            f"{line['depth_speedup']:.1f}x",
        )
    console.width = max(console.width, 120)
    console.print(published("robots"))
    console.print(table)
    command = command_line("experiments.paper robots", config, always=("task",), never=("out", "results", "kept"))
    about = dataclasses.replace(config, out=Path("."), results=None, kept=Path("."))
    results = config.results or config.out
    study = f"paper_robots_{config.task}"
    path = write_result(study, {"methods": lines}, config=about, seed=config.seed, command=command, results=results)
    console.print(f"wrote {path}")
    return lines
