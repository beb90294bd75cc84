"""What each device computes, holds and sends when a sampler is spread: read off the compiled programs, and run.

One solver of 64 steps, all of them in the window and a window of 16, on 1, 2, 4 and 8 devices and on meshes that carry
samples too. Flops are XLA's count of one round and what is around the loop; state bytes are those of the arrays that
the loop of one device's program carries and whose last axes are a sample's (states, history, step noise);
collective bytes are what the loop's body writes on a device in one round.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import pcm_jax as pcm
from experiments.bench import programs
from experiments.common import study
from experiments.common.figures import record, write_result
from pcm_jax.parallel import Executor

COMMAND = "make bench ARGS='--studies spmd'"
STEPS, NARROW, BATCH, TOL = 64, 16, 8, 1e-3


@dataclasses.dataclass(frozen=True)
class Case:
    """An executor, and how many parts it makes of the window's rows and of the batch."""

    name: str
    executor: Executor
    rows: int = 1
    samples: int = 1

    @property
    def devices(self) -> int:
        return self.rows * self.samples


def cases(count: int, quick: bool = False) -> list[Case]:
    """What is compared; the first is one device."""
    found = [Case("single", pcm.parallel.single())]
    sizes = [size for size in (2, 4, 8) if size <= count]
    found += [Case("shard_map", pcm.parallel.shard_map(size), size) for size in (sizes[-1:] if quick else sizes)]
    if count < 8 or quick:
        return found
    found.append(Case("pmap", pcm.parallel.pmap(8), 8))
    for shape in ((2, 4), (4, 2)):
        mesh = Mesh(np.asarray(jax.devices()[:8]).reshape(shape), ("data", "window"), axis_types=(AxisType.Auto,) * 2)
        found.append(Case("shard_map, data x window", pcm.parallel.shard_map(mesh), shape[1], shape[0]))
    found.append(Case("constrained, data x window", pcm.parallel.constrained(mesh), shape[1], shape[0]))
    return found


def problem(seed: int) -> study.Problem:
    """Digits with step noise."""
    model = pcm.pretrained.load("digits")
    solver = pcm.solvers.ddpm(model.schedule, STEPS, prediction=model.prediction, clip=model.clip)
    return study.problem(model, solver, batch=BATCH, seed=seed)


def compiled(case: study.Problem, executor: Executor, window: int) -> Any:
    """The program of one sampler call."""
    model = case.model

    def sample(params: Any, noise: jax.Array) -> pcm.SampleOutput:
        return pcm.sample_picard(
            model.model_fn, params, noise, **case.arguments, window=window, tol=TOL, executor=executor
        )

    return jax.jit(sample).lower(model.params, case.noise).compile()


def measure(case: study.Problem, how: Case, window: int, one: dict[str, Any] | None) -> tuple[dict[str, Any], Any]:
    """The row of one executor beside that of one device, and its output."""
    program = compiled(case, how.executor, window)
    out = program(case.model.params, case.noise)
    text = program.as_text()
    sent = programs.in_loop(text)
    row: dict[str, Any] = {
        "executor": how.name,
        "devices": how.devices,
        "window": window,
        "network_rows": -(-window // how.rows) * BATCH // how.samples,
        "flops": program.cost_analysis()["flops"],
        "state_bytes": programs.state_bytes(text, case.noise.shape[1:]),
        "temporary_bytes": program.memory_analysis().temp_size_in_bytes,
        "collectives": len(sent),
        "collective_bytes": programs.by_kind(sent),
    }
    base = one or row
    row["cost_ratio"] = row["flops"] * how.devices / base["flops"]
    row["state_ratio"] = row["state_bytes"] / base["state_bytes"]
    return row, out


def run(seed: int, quick: bool, console: Console) -> None:
    """One device against two, four and eight."""
    count, case = len(jax.devices()), problem(seed)
    table = Table("executor", "devices", "window", "rows", "cost x devices", "state bytes", "sent in a round", "off by")
    rows: list[dict[str, Any]] = []
    windows = (STEPS,) if quick else (STEPS, NARROW)
    compared = cases(count, quick)
    narrow = [each for each in compared if each.devices in (1, 8)]
    with Progress(console=console) as bar:
        task = bar.add_task("programs", total=len(compared) + (0 if quick else len(narrow)))
        for window in windows:
            one = reference = None
            for how in compared if window == STEPS else narrow:
                row, out = measure(case, how, window, one)
                one, reference = one or row, reference or out
                row["max_difference"] = float(np.max(np.abs(np.asarray(out.sample) - np.asarray(reference.sample))))
                row["rounds_equal"] = bool(np.array_equal(out.stats.rounds, reference.stats.rounds))
                rows.append(row)
                sent = ", ".join(f"{kind} {size:,}" for kind, size in row["collective_bytes"].items())
                held = f"{row['state_bytes']:,} ({row['state_ratio']:.3f})"
                cells = (how.name, how.devices, window, row["network_rows"], f"{row['cost_ratio']:.3f}", held, sent)
                table.add_row(*map(str, cells), f"{row['max_difference']:.1e}")
                bar.advance(task)
    console.print(table)
    if quick or count < 8:
        console.print("" if count > 1 else "One device: nothing to compare; use eight CPU devices or a pod.")
        return
    config: dict[str, Any] = {
        "steps": STEPS,
        "windows": windows,
        "batch": BATCH,
        "tol": TOL,
        "solver": case.solver.name,
    }
    config["sample_shape"] = case.noise.shape[1:]
    write_result("bench_spmd", {"rows": rows}, config=config, seed=seed, command=COMMAND)
    eight = [row for row in rows if row["devices"] == 8]
    lines = [row for row in eight if "data" not in row["executor"]]
    for name, window in (("cost_ratio", STEPS), ("sliding_cost_ratio", NARROW)):
        worst = max(row["cost_ratio"] for row in lines if row["window"] == window)
        record(f"spmd8.{name}", worst, command=COMMAND)
    record("spmd8.max_difference", max(row["max_difference"] for row in eight), command=COMMAND)
    for name, window in (("state_bytes_ratio", STEPS), ("sliding_state_bytes_ratio", NARROW)):
        worst = max(row["state_ratio"] for row in lines if row["window"] == window)
        record(f"spmd8.{name}", worst, command=COMMAND)
    meshes = [row for row in eight if "data" in row["executor"]]
    record("mesh.data_window_cost_ratio", max(row["cost_ratio"] for row in meshes), command=COMMAND)
