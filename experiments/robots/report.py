"""From episodes to tables: success with its interval, score, rounds; robots.md and the headline numbers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

from experiments.common.figures import RESULTS, command_line, record, write_result
from experiments.robots import environments, latency
from experiments.robots.environments import METAWORLD
from experiments.robots.evaluate import Evaluate, adapter_of, policy_of, roll_out, run_evaluate
from experiments.robots.methods import KINDS, METHODS
from pcm_jax.files import write_text
from pcm_jax.pretrained.policies import load_policy

Line = dict[str, Any]
TITLES = (
    "method", "success", "95 %", "score", "rounds", "p95", "evaluations", "time", "p95 time", "certified", "difference"
)  # fmt: skip
ORACLE, (PLAIN, SECANT, GUESS, TUNED) = "DDPM-100", KINDS


def run_and_report(config: Evaluate, console: Console) -> list[Line]:
    """Evaluate, print, and write JSON, figures and robots.md when every method ran on the full number of episodes."""
    episodes = run_evaluate(config, console)
    whole = summarise(episodes, config.methods)
    console.print(_table(f"{config.task}, {len(episodes) // len(config.methods)} episodes", whole))
    if config.video:
        for name in config.methods:
            video(config, name, console)
    if config.adapter is not None:
        if config.episodes is None:
            write_adapter(config, config.adapter, whole)
        return whole
    complete = config.episodes is None and set(config.methods) == set(METHODS)
    if complete and config.task in ("pusht", "metaworld"):
        command = command_line("experiments.robots eval", config, always=("task",), never=("out", "video", "batch"))
        parts = {task: summarise([e for e in episodes if e["task"] == task], config.methods) for task in config.tasks}
        payload = {"methods": whole, "tasks": parts}
        write_result(f"robots_eval_{config.task}", payload, config=config, seed=config.seed, command=command)
        for name, value in figures(config.task, whole).items():
            record(name, value, command=command)
        for name, value in headlines(_results()).items():
            record(name, value, command="python -m experiments.robots eval")
        write_markdown()
    return whole


def summarise(episodes: Sequence[dict[str, Any]], methods: Sequence[str]) -> list[Line]:
    """A line for each method; time is that of a decision over the sequential sampler's median, if it is among them."""
    lines: list[Line] = []
    unit = float(np.nanmedian(_all("seconds", episodes, ORACLE))) if ORACLE in methods else None
    for name in methods:
        mine = [episode for episode in episodes if episode["method"] == name]
        won = sum(episode["success"] for episode in mine)
        interval = binomtest(won, len(mine)).proportion_ci(method="wilson")
        rounds, seconds = _all("rounds", episodes, name), _all("seconds", episodes, name)
        differences = [d for episode in mine for d in episode.get("difference", ())]
        lines.append(
            {
                "method": name,
                "success": won / len(mine),
                "interval": [float(interval.low), float(interval.high)],
                "score": float(np.mean([episode["score"] for episode in mine])),
                "rounds": float(np.mean(rounds)),
                "rounds_p95": float(np.quantile(rounds, 0.95)),
                "evaluations": float(np.mean(_all("evaluations", episodes, name))),
                "certified": float(np.mean(_all("certified", episodes, name))),
                "time": None if unit is None else float(np.nanmedian(seconds)) / unit,
                "time_p95": None if unit is None else float(np.nanquantile(seconds, 0.95)) / unit,
                "difference": max(differences) if differences else None,
                "decisions": len(rounds),
            }
        )
    return lines


def _all(entry: str, episodes: Sequence[dict[str, Any]], method: str) -> np.ndarray:
    return np.concatenate([episode[entry] for episode in episodes if episode["method"] == method])


def figures(task: str, lines: Sequence[Line]) -> dict[str, float]:
    """Headline numbers of one evaluation; no parity is recorded where no number of rounds reached it."""
    by = {line["method"]: line for line in lines}
    out = {f"{task}.max_action_difference": max(line["difference"] for line in lines if line["difference"] is not None)}
    for kind, name in ((SECANT, ""), (GUESS, "_prior"), (TUNED, "_pcm")):
        out[f"{task}.warm_start_rounds_ratio{name}"] = by[f"{kind}, warm"]["rounds"] / by[kind]["rounds"]
    kept = "score" if task == "pusht" else "success"
    out[f"{task}.{kept}_sequential"] = by[ORACLE][kept]
    guessed = rounds_at_parity(lines, GUESS)
    if guessed is not None:
        out[f"{task}.prior_rounds_at_parity"] = guessed
    mine = rounds_at_parity(lines, TUNED)
    if mine is not None:
        out[f"{task}.pcm_rounds_at_parity"] = mine
        out[f"{task}.{kept}_pcm"] = by[_fixed(TUNED, mine)][kept]
        for kind, name in ((PLAIN, "pcm_over_picard_rounds"), (SECANT, "pcm_over_picard_secant_rounds")):
            theirs = rounds_at_parity(lines, kind)
            if theirs is not None:
                out[f"{task}.{name}"] = mine / theirs
    return out


def headlines(results: Mapping[str, dict[str, Any]]) -> dict[str, float]:
    """Of all evaluations; none as long as one of them, written before, lacks a method."""
    if any(set(METHODS) - {line["method"] for line in result["methods"]} for result in results.values()):
        return {}
    return overall([figures(task, result["methods"]) for task, result in results.items()])


def overall(evaluations: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The worst of all evaluations, of every number that all of them have."""
    names = {
        "max_action_difference": "certified_max_action_difference",
        "prior_rounds_at_parity": "prior_rounds_at_parity",
        "pcm_rounds_at_parity": "pcm_rounds_at_parity",
        "pcm_over_picard_rounds": "pcm_over_picard_rounds",
        "pcm_over_picard_secant_rounds": "pcm_over_picard_secant_rounds",
    }
    out = {}
    for name, title in names.items():
        values = [value for each in evaluations for key, value in each.items() if key.endswith(f".{name}")]
        if len(values) == len(evaluations):
            out[f"robots.{title}"] = max(values)
    return out


def rounds_at_parity(lines: Sequence[Line], kind: str) -> int | None:
    """Fewest fixed rounds whose success lies in the sequential sampler's interval, or above it."""
    by = {line["method"]: line for line in lines}
    low = by[ORACLE]["interval"][0]
    for rounds in KINDS[kind].rounds:
        if by[_fixed(kind, rounds)]["success"] >= low:
            return rounds
    return None


def _fixed(kind: str, rounds: int) -> str:
    return f"{kind}, {rounds} rounds"


def _cells(line: Line) -> list[str]:
    low, high = line["interval"]
    difference = "" if line["difference"] is None else f"{line['difference']:.1e}"
    return [
        line["method"],
        f"{line['success']:.2f}",
        f"{low:.2f}-{high:.2f}",
        f"{line['score']:.3f}",
        f"{line['rounds']:.1f}",
        f"{line['rounds_p95']:.0f}",
        f"{line['evaluations']:.0f}",
        *("" if line[name] is None else f"{line[name]:.2f}" for name in ("time", "time_p95")),
        f"{line['certified']:.0%}",
        difference,
    ]


def _results() -> dict[str, dict[str, Any]]:
    """What was evaluated so far."""
    paths = {task: RESULTS / f"robots_eval_{task}.json" for task in ("pusht", "metaworld")}
    return {task: json.loads(path.read_text()) for task, path in paths.items() if path.exists()}


def _table(title: str, lines: Sequence[Line]) -> Table:
    table = Table(title=title)
    for name in TITLES:
        table.add_column(name, justify="left" if name == "method" else "right")
    for line in lines:
        table.add_row(*_cells(line))
    return table


def write_markdown() -> None:
    """robots.md, from every evaluation's JSON."""
    parts = ["# Robot control\n", _ABOUT, _parity()]
    for task, result in _results().items():
        rows = ["| " + " | ".join(_cells(line)) + " |" for line in result["methods"]]
        head = "| " + " | ".join(TITLES) + " |\n|---|" + "---:|" * (len(TITLES) - 1)
        parts.append(f"## {task}\n\n`{result['command']}`, {result['device']}\n\n{head}\n" + "\n".join(rows) + "\n")
        if task == "metaworld":
            parts.append(_per_task(result["tasks"]))
    parts += [_adapters(), _latency()]
    write_text(RESULTS / "robots.md", "\n".join(part for part in parts if part))


_ABOUT = """A decision is one action chunk; `rounds` are its batched network calls one after the other, `p95` their 95 %
quantile; `time` is that of a decision for a batch of robots, over the sequential sampler's median. `certified`:
decisions whose sample was accepted under the base policy. `difference`: the largest distance from the sequential
sampler's actions on the same history and noise, of the action range. Every method runs the same episodes with the same
noise. A decision that ends after a fixed number of rounds from the prior, or of PCM, shows the data prediction of a row
that was measured for it (`preview`); it is not certified. Written by the evaluation itself.
"""


def _parity() -> str:
    """When a robot does as well as with all steps."""
    found = {task: result["methods"] for task, result in _results().items()}
    found = {task: lines for task, lines in found.items() if set(METHODS) <= {line["method"] for line in lines}}
    if not found:
        return ""
    rows = [
        f"| {task} | 100 | " + " | ".join(str(rounds_at_parity(lines, kind) or "more") for kind in KINDS) + " |"
        for task, lines in found.items()
    ]
    head = "| | sequential steps | " + " | ".join(KINDS) + " |\n|---|" + "---:|" * (1 + len(KINDS))
    text = "Fewest fixed rounds whose success lies in the sequential sampler's 95 % interval, or above it:"
    return f"{text}\n\n{head}\n" + "\n".join(rows) + "\n"


def _per_task(tasks: dict[str, list[Line]]) -> str:
    methods = [line["method"] for line in next(iter(tasks.values()))]
    head = "| success | " + " | ".join(METAWORLD) + " |\n|---|" + "---:|" * len(METAWORLD)
    rows = [
        f"| {name} | " + " | ".join(f"{tasks[task][index]['success']:.2f}" for task in METAWORLD) + " |"
        for index, name in enumerate(methods)
    ]
    return head + "\n" + "\n".join(rows) + "\n"


def write_adapter(config: Evaluate, file: Path, lines: Sequence[Line]) -> None:
    """What an adapter other than the shipped one does, into its own JSON."""
    command = command_line("experiments.robots eval", config, always=("task",), never=("out", "video", "batch"))
    shown = dataclasses.replace(config, adapter=Path(file.name), out=Path("."))
    command = command.replace(str(file), file.name)
    name = f"robots_adapter_{file.stem}".replace("-", "_")
    write_result(name, {"methods": lines, "task": config.task}, config=shown, seed=config.seed, command=command)
    write_markdown()


def _adapters() -> str:
    """A LoRA for one task beside the one for all."""
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("robots_adapter_*.json"))]
    shared = _results().get("metaworld")
    if not found or shared is None:
        return ""
    rows = []
    for one in found:
        known = {line["method"]: line for line in shared["tasks"][one["task"]]}
        for line in one["methods"]:
            if line["method"] in known:
                both = (known[line["method"]], line)
                cells = [f"{each['success']:.2f}" for each in both] + [f"{each['rounds']:.1f}" for each in both]
                rows.append(f"| {one['task']} | {line['method']} | {' | '.join(cells)} |")
    head = "| task | method | success, one for all | its own | rounds, one for all | its own |\n|---|---|" + "---:|" * 4
    commands = "\n".join(f"`{one['command']}`\n" for one in found)
    return f"## A LoRA for each task, or one for all\n\n{commands}\n{head}\n" + "\n".join(rows) + "\n"


def _latency() -> str:
    """Rows that are free, and the crossover with the sequential sampler, for each network."""
    path = RESULTS / "robots_latency.json"
    if not path.exists():
        return ""
    result = json.loads(path.read_text())
    rows = []
    for name, found in result["networks"].items():
        line = latency.summary(found)
        rows.append(f"| {name} | {line['free_rows']} | {line['round']:.2f} | {line['crossover']:.1f} |")
    return f"""## Latency of a decision

`{result["command"]}`, {result["device"]}

Rows are free while one network call on them takes at most {latency.FREE:.2f} times as long as on one. A round of the
full window, batch 1, takes `round` times as long as a sequential step; Picard is faster than the sequential sampler's
100 steps while it needs fewer rounds than the crossover.

| network | free rows | round | crossover |
|---|---:|---:|---:|
{chr(10).join(rows)}

![Latency against rows and rounds](robots_latency.png)
"""


def video(config: Evaluate, name: str, console: Console) -> None:
    """The first episode of the first task, as a GIF."""
    task = config.tasks[0]
    policy = load_policy(policy_of(task))
    frames: list[np.ndarray] = []
    method = METHODS[name]
    worlds = [environments.make(task, pictures=True)]
    roll_out(
        task, method, method.apply(policy, adapter_of(policy, config.adapter)), range(1), config.seed, worlds, frames
    )
    path = config.out / f"{config.slug(task, name)}.gif"
    step = max(1, frames[0].shape[0] // 240)
    path.parent.mkdir(parents=True, exist_ok=True)
    imageio.imwrite(path, np.stack(frames)[:, ::step, ::step], duration=50, loop=0)
    console.print(f"wrote {path}")
