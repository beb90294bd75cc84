"""What a decision costs: sequential depth against batch, on the policies' networks.

    python -m experiments.robots latency
    python -m experiments.robots latency --networks paper     # on a GPU machine, where it takes two minutes

Every time is divided by the sequential sampler's in the same run, and rows by one row's; milliseconds are written on
accelerators alone, with the device's name.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from experiments.common import plots, study
from experiments.common.figures import RESULTS, command_line, record, write_result
from experiments.models.cases import PAPER, paper_policy
from experiments.robots.evaluate import adapter_of
from pcm_jax import lora
from pcm_jax.metrics import paired, time_call
from pcm_jax.networks import factored
from pcm_jax.policy import Policy
from pcm_jax.pretrained.policies import available_policies, load_policy
from pcm_jax.switching import after


@dataclasses.dataclass(frozen=True)
class Latency:
    """Time decisions.

    networks: shipped policies, and "paper" for Diffusion Policy's UNet with random weights. rows: of the bare call.
    rounds: fixed ones of Picard and PCM. windows: besides the full one. batches: robots that decide at once.
    """

    networks: tuple[str, ...] = ("pusht", "metaworld")
    rows: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 100, 128, 256)
    rounds: tuple[int, ...] = (2, 4, 8, 16, 24)
    windows: tuple[int, ...] = (16, 32)
    batches: tuple[int, ...] = (1, 8)
    repeats: int = 9
    seed: int = 0


def policy(name: str, seed: int) -> Policy:
    """A shipped one, or the paper's network without training."""
    return paper_policy(seed) if name == PAPER else load_policy(name)


def run_latency(config: Latency, console: Console) -> dict[str, Any]:
    """Tables, plot, JSON."""
    known = (*available_policies(), PAPER)
    if unknown := [name for name in config.networks if name not in known]:
        raise ValueError(f"unknown network {unknown[0]!r}; choose among {', '.join(known)}")
    found: dict[str, Any] = {}
    absolute = jax.default_backend() != "cpu"
    bar = Progress(
        TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
    with bar:
        cases = len(config.rounds) * (2 + len(config.windows)) * len(config.batches)
        line = bar.add_task("", total=len(config.networks) * (len(config.rows) + cases))
        for name in config.networks:
            chosen = policy(name, config.seed)
            bar.update(line, description=f"{name}: rows of one call")
            found[name] = {"rows": _rows(chosen, config, functools.partial(bar.advance, line), absolute)}
            bar.update(line, description=f"{name}: decisions")
            found[name]["decisions"] = _decisions(chosen, config, functools.partial(bar.advance, line), absolute)
    command = command_line("experiments.robots latency", config)
    write_result("robots_latency", {"networks": found}, config=config, seed=config.seed, command=command)
    if absolute and "paper" in found:
        for name, value in figures(found["paper"], json.loads((RESULTS / "figures.json").read_text())).items():
            record(name, value, command=command)
    plots.latency(found, RESULTS / "robots_latency.png")
    _show(found, console)
    return found


def _rows(chosen: Policy, config: Latency, advance: Any, absolute: bool) -> list[dict[str, Any]]:
    """Time of the bare network call on R rows / on one."""
    call = jax.jit(chosen.model_fn)
    out: list[dict[str, Any]] = []
    for rows in config.rows:
        x = jnp.zeros((rows, chosen.horizon, chosen.action.size))
        seen = jnp.zeros((rows, chosen.obs_horizon, chosen.observation.size))
        seconds = time_call(call, chosen.params, x, jnp.zeros(rows), seen, repeats=4 * config.repeats, warmup=3).median
        out.append({"rows": rows, "seconds": seconds})
        advance()
    one = out[0]["seconds"]
    for entry in out:
        seconds = entry.pop("seconds")
        entry["over_one_row"] = seconds / one
        if absolute:
            entry["milliseconds"] = 1e3 * seconds
    return out


def _decisions(chosen: Policy, config: Latency, advance: Any, absolute: bool) -> list[dict[str, Any]]:
    """Time of a decision with a fixed number of rounds / of the sequential sampler's, in pairs."""
    tuned = _tuned(chosen, config.seed)
    methods: list[tuple[str, int | None]] = [("Picard", None), ("PCM", None)]
    methods += [("Picard", window) for window in config.windows]
    out = []
    for batch, (method, window), rounds in itertools.product(config.batches, methods, config.rounds):
        advance()
        # tol=0 accepts what is proven alone, so that all rounds run.
        options: dict[str, Any] = {"max_rounds": rounds, "tol": 0.0, "window": window}
        if method == "PCM":
            options |= tuned
        middle = chosen.observation.unnormalize(jnp.zeros(chosen.observation.size))
        seen = jnp.broadcast_to(middle, (batch, chosen.obs_horizon, *middle.shape))
        keys = jax.random.split(jax.random.key(config.seed), batch)
        fast = functools.partial(chosen.picard(**options).act, seen, keys)
        base = functools.partial(chosen.sequential().act, seen, keys)
        mine, whole, ratio = paired(fast, base, repeats=config.repeats)
        entry = {"method": method, "window": window, "rounds": rounds, "batch": batch, "over_sequential": ratio}
        if absolute:
            entry |= {"milliseconds": 1e3 * mine.median, "sequential_milliseconds": 1e3 * whole.median}
        out.append(entry)
    return out


def _tuned(chosen: Policy, seed: int) -> dict[str, Any]:
    """The shipped PCM-LoRA; for a network without one a LoRA without training, whose rounds cost as much."""
    adapter = adapter_of(chosen)
    if adapter is not None:
        return study.tuned(adapter, chosen.prior)
    fresh = lora.init(chosen.params, 16, jax.random.key(seed))
    return {"adapter": factored(chosen.model_fn, fresh), "switch": after(1)}


def figures(found: dict[str, Any], parity: Mapping[str, Any]) -> dict[str, float]:
    """Latency of PCM with as many rounds as success takes, over that of sequential and of Picard; one robot.

    parity: of the evaluations' figures, rounds at which each is as successful as the sequential sampler.
    """
    mine = parity["robots.pcm_rounds_at_parity"]["value"]
    theirs = mine / parity["robots.pcm_over_picard_rounds"]["value"]

    def cost(method: str, rounds: float) -> float:
        alone = [d for d in found["decisions"] if (d["method"], d["window"], d["batch"]) == (method, None, 1)]
        return float(np.interp(rounds, [d["rounds"] for d in alone], [d["over_sequential"] for d in alone]))

    tuned = cost("PCM", mine)
    return {
        "robots.gpu.latency_over_sequential": tuned,
        "robots.gpu.latency_over_picard": tuned / cost("Picard", theirs),
    }


FREE = 1.25
"""Times one row's: as good as free."""


def summary(found: dict[str, Any]) -> dict[str, float]:
    """free_rows: most rows of one call that are nearly free. round: of the full window for one robot, over a step.

    crossover: rounds that take as long as all steps.
    """
    free = max(entry["rows"] for entry in found["rows"] if entry["over_one_row"] <= FREE)
    alone = [d for d in found["decisions"] if (d["method"], d["window"], d["batch"]) == ("Picard", None, 1)]
    # From the longest run, in which what happens once weighs least.
    longest = max(alone, key=lambda entry: entry["rounds"])
    share = longest["over_sequential"] / longest["rounds"]
    return {"free_rows": free, "round": 100 * share, "crossover": 1 / share}


def _show(found: dict[str, Any], console: Console) -> None:
    for name, outcome in found.items():
        table = Table(title=f"{name}: time of a decision / sequential DDPM-{100}")
        for title in ("method", "window", "batch", *sorted({f"{d['rounds']:2d} rounds" for d in outcome["decisions"]})):
            table.add_column(title, justify="left" if title == "method" else "right")
        groups: dict[tuple[str, int | None, int], list[str]] = {}
        for entry in outcome["decisions"]:
            key = (entry["method"], entry["window"], entry["batch"])
            groups.setdefault(key, []).append(f"{entry['over_sequential']:.3f}")
        for (method, window, batch), ratios in groups.items():
            table.add_row(method, str(window or "full"), str(batch), *ratios)
        console.print(table)
