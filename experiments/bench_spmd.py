"""What each device computes and sends when the window is spread: read off the compiled programs, and run."""

from __future__ import annotations

import re
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

import pcm_jax as pcm
from experiments import study
from experiments.figures import record, write_result
from pcm_jax.parallel import Executor

COMMAND = "make bench ARGS='--studies spmd'"
WINDOW, BATCH = 64, 8
_BYTES = {"f64": 8, "f32": 4, "bf16": 2, "f16": 2, "s64": 8, "s32": 4, "u32": 4, "s8": 1, "u8": 1, "pred": 1}
_COLLECTIVE = re.compile(
    r"= (?P<shape>\S+) (?P<kind>all-gather|all-reduce|reduce-scatter|collective-permute|all-to-all)\("
)
_SHAPE = re.compile(r"(?P<dtype>[a-z]+\d*)\[(?P<dims>[\d,]*)\]")


def collective_bytes(hlo: str) -> dict[str, int]:
    """Bytes that the collectives of a compiled program write on each device, by kind; a loop's body counts once."""
    total: dict[str, int] = {}
    for match in _COLLECTIVE.finditer(hlo):
        for shape in _SHAPE.finditer(match["shape"]):
            size = int(np.prod([int(dim) for dim in shape["dims"].split(",") if dim]))
            total[match["kind"]] = total.get(match["kind"], 0) + size * _BYTES[shape["dtype"]]
    return total


def compiled(case: study.Problem, executor: Executor) -> Any:
    """The program of one sampler call."""
    model = case.model

    def sample(params: Any, noise: jax.Array) -> pcm.SampleOutput:
        return pcm.sample_picard(
            model.model_fn, params, noise, **case.arguments, window=WINDOW, tol=1e-3, executor=executor
        )

    return jax.jit(sample).lower(model.params, case.noise).compile()


def run(seed: int, quick: bool, console: Console) -> None:
    """One device against all of them, with pmap and with shard_map."""
    count = len(jax.devices())
    model = pcm.pretrained.load("digits")
    solver = study.solvers(model)["DDIM-100"]
    case = study.problem(model, solver, batch=BATCH, seed=seed)
    alone = compiled(case, pcm.parallel.single())
    reference = alone(model.params, case.noise)
    base = alone.cost_analysis()["flops"]
    rows = []
    table = Table(
        "executor", "devices", "flops / device", "x devices / single", "collective bytes / round", "max difference"
    )
    executors: dict[str, Executor] = {"pmap": pcm.parallel.pmap(count), "shard_map": pcm.parallel.shard_map(count)}
    for name, executor in executors.items():
        program = compiled(case, executor)
        out = program(model.params, case.noise)
        flops = program.cost_analysis()["flops"]
        row = {
            "executor": name,
            "devices": count,
            "flops_per_device": flops,
            "flops_single": base,
            "cost_ratio": flops * count / base,
            "collective_bytes_per_round": collective_bytes(program.as_text()),
            "state_bytes": int(np.prod((WINDOW, *case.noise.shape))) * 4,
            "max_difference": float(np.max(np.abs(np.asarray(out.sample) - np.asarray(reference.sample)))),
            "rounds_equal": bool(np.array_equal(out.stats.rounds, reference.stats.rounds)),
        }
        rows.append(row)
        table.add_row(
            name,
            str(count),
            f"{flops:.3g}",
            f"{row['cost_ratio']:.3f}",
            ", ".join(f"{kind} {size:,}" for kind, size in row["collective_bytes_per_round"].items()),
            f"{row['max_difference']:.1e}",
        )
    console.print(table)
    if quick or count < 2:
        console.print("" if count > 1 else "One device: nothing to compare; use eight CPU devices or a pod.")
        return
    config = {"window": WINDOW, "batch": BATCH, "solver": solver.name}
    write_result("bench_spmd", {"rows": rows}, config=config, seed=seed, command=COMMAND)
    record(f"spmd{count}.cost_ratio", max(row["cost_ratio"] for row in rows), command=COMMAND)
    record(f"spmd{count}.max_difference", max(row["max_difference"] for row in rows), command=COMMAND)
