"""Every published parallel sampler beside this library's, on the same networks and noises.

    python -m experiments.peers
    python -m experiments.peers --models digits --methods SRDS "ours: secant"

Counted are network calls that wait for each other, each of them a batch of rows, until the sample's RMS error against
the sequential sampler stays under .1, .01 and .001; and the rows. A method with settings of its own is shown at its
best. Push-T's observations come from its demonstrations (--data). Each finished cell is kept in
peers.json, so that a study that was stopped goes on where it was; cells of another model, seed or number of samples are
measured anew. On two CPU cores a cell takes seconds for digits and Push-T, and minutes for fashion.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.common.figures import RESULTS, command_line, write_result
from experiments.peers import report
from experiments.peers.measure import best
from experiments.peers.methods import METHODS
from experiments.peers.ours import OPTIONS
from experiments.peers.problem import SAMPLES, SETTINGS, Case, image_case, pusht_case
from pcm_jax.trees import fingerprint


@dataclasses.dataclass(frozen=True)
class Peers:
    """Measure the leaderboard.

    methods: all of them by default. samples: of each setting, by default 64, and 8 for fashion. data: demonstrations
    of Push-T. out: where peers.json and peers.png are.
    """

    models: tuple[str, ...] = tuple(SETTINGS)
    methods: tuple[str, ...] = tuple(METHODS)
    samples: int | None = None
    seed: int = 0
    data: Path | None = None
    out: Path = RESULTS


def run_peers(config: Peers, console: Console) -> list[dict[str, Any]]:
    """All cells, the tables, the JSON and the picture."""
    for names, known in ((config.models, SETTINGS), (config.methods, METHODS)):
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"there is no {unknown[0]!r}; choose among {', '.join(known)}")
    console.width = max(console.width, 110)
    path = config.out / "peers.json"
    cells: list[dict[str, Any]] = json.loads(path.read_text())["cells"] if path.exists() else []
    todo = [(model, solver) for model in config.models for solver in SETTINGS[model]]
    bar = Progress(
        TextColumn("{task.description:44}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
    with bar:
        task = bar.add_task("", total=len(todo) * len(config.methods))
        for model, solver in todo:
            case = _case(config, model, solver)
            for name in config.methods:
                bar.update(task, description=f"{model} {solver}, {name}")
                if METHODS[name].applies(name, case):
                    cells = _measured(config, case, name, cells)
                    _write(config, cells)
                bar.advance(task)
    for model, solver in report.settings(cells):
        console.print(report.table(cells, model, solver))
    report.draw(cells, config.out / "peers.png")
    return cells


def _case(config: Peers, model: str, solver: str) -> Case:
    samples = SAMPLES[model] if config.samples is None else config.samples
    if model == "pusht":
        return pusht_case(solver, samples, config.seed, config.data)
    return image_case(model, solver, samples, config.seed)


def _measured(config: Peers, case: Case, name: str, cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cells with this one; measured unless it is there already."""
    method = METHODS[name]
    samples = min(method.samples or len(case.recurrence.noise), len(case.recurrence.noise))
    tuned = method.family == "ours" and "adapter" in OPTIONS[name.removeprefix("ours: ")](case)
    about = {
        "model": case.model,
        "solver": case.solver,
        "method": name,
        "samples": samples,
        "seed": config.seed,
        "base": case.base,
        "adapter": fingerprint((case.adapter.lora, case.adapter.tables)) if tuned and case.adapter else None,
    }
    if any(about == {key: cell.get(key) for key in about} for cell in cells):
        return cells
    here = case if samples == len(case.recurrence.noise) else case.first(samples)
    cell = about | {"family": method.family} | best(here, method.variants)
    names = (case.model, case.solver)
    others = [cell for cell in cells if (cell["model"], cell["solver"], cell["method"]) != (*names, name)]
    return sorted([*others, cell], key=_order)


def _order(cell: dict[str, Any]) -> tuple[int, int, int]:
    """Models, solvers and methods in the order in which they are listed; what is listed no more comes last."""
    lists = (list(SETTINGS), list(SETTINGS.get(cell["model"], ())), list(METHODS))
    keys = (cell["model"], cell["solver"], cell["method"])
    places = [known.index(key) if key in known else len(known) for known, key in zip(lists, keys, strict=True)]
    return places[0], places[1], places[2]


def _write(config: Peers, cells: list[dict[str, Any]]) -> None:
    plain = dataclasses.replace(config, data=None, out=Path("."))
    command = command_line("experiments.peers", config, never=("data", "out"))
    write_result("peers", {"cells": cells}, config=plain, seed=config.seed, command=command, results=config.out)


def main(config: Peers) -> None:
    """Measure what is missing."""
    run_peers(config, Console())


if __name__ == "__main__":
    main(tyro.cli(Peers))
