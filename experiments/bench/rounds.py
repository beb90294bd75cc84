"""What a round launches beside the network, what it costs once the fine-tuned model has let go, and what PCM compiles.

Kernels are counted in the program that XLA's CPU compiler makes of the accelerators' form of the round
(`pcm_jax.recurrence.kernels`): one iteration of the loop, its condition included, less the network compiled alone.
"""

from __future__ import annotations

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

import pcm_jax as pcm
from experiments.bench import hlo
from experiments.bench.twice import two_rounds
from experiments.common import study
from experiments.common.figures import record, write_result
from pcm_jax.metrics import time_call
from pcm_jax.recurrence import kernels

COMMAND = "make bench ARGS='--studies round'"
STEPS, BATCH = 50, 4
FEW, MORE = 8, 40


def count(window: int, form: str = "gpu") -> int:
    """Kernels of one round of DDIM-50 with the secant, beside a network of one matrix product and a tanh."""
    weights, noise = jnp.full((64, 64), 0.01), jnp.ones((BATCH, 64))
    solver = pcm.solvers.ddim(pcm.schedules.linear_vp(), STEPS)

    def network(params: Any, x: Any, t: Any, cond: Any) -> Any:
        return jnp.tanh(x @ params)

    def sample(params: Any, noise: Any) -> pcm.SampleOutput:
        return pcm.sample_picard(network, params, noise, solver, window=window)

    with kernels.compiled_as(form):
        loop = jax.jit(sample).lower(weights, noise).compile().as_text()
    rows = jnp.ones((window * BATCH, 64))
    alone = jax.jit(lambda params, x: network(params, x, None, None)).lower(weights, rows).compile().as_text()
    return hlo.loop_kernels(str(loop)) - hlo.program_kernels(str(alone))


def idle_cost(case: study.Problem, options: dict[str, Any], repeats: int) -> float:
    """Time of a round with an adapter whose share is nought, over the base sampler's: what MORE rounds add to FEW."""
    base: dict[str, Any] = {}
    idle = {"adapter": options["adapter"], "switch": pcm.switching.never()}

    def program(rounds: int, more: dict[str, Any]) -> Any:
        def sample(params: Any, noise: Any) -> jax.Array:
            arguments = case.arguments | {"tol": 0.0, "max_rounds": rounds} | more
            return pcm.sample_picard(case.model.model_fn, params, noise, **arguments).sample

        compiled = jax.jit(sample).lower(case.model.params, case.noise).compile()
        return lambda: compiled(case.model.params, case.noise)

    calls = {
        (rounds, name): program(rounds, more)
        for rounds in (FEW, MORE)
        for name, more in (("base", base), ("idle", idle))
    }
    seconds: dict[Any, list[float]] = {which: [] for which in calls}
    for _ in range(repeats + 1):
        for which, call in calls.items():
            seconds[which].append(time_call(call, repeats=1, warmup=0).median)
    # The first call of each is warm-up. The least of many is the machine's own: what others do only adds.
    least = {which: min(values[1:]) for which, values in seconds.items()}
    return (least[MORE, "idle"] - least[FEW, "idle"]) / (least[MORE, "base"] - least[FEW, "base"])


def two_an_iteration(case: study.Problem, prior: Any, repeats: int) -> float:
    """Time of a sampler with two rounds in an iteration of its loop (twice.py), over that of the sampler as it is."""

    def program() -> Any:
        def sample(params: Any, noise: Any) -> jax.Array:
            return pcm.sample_picard(case.model.model_fn, params, noise, prior=prior, **case.arguments).sample

        compiled = jax.jit(sample).lower(case.model.params, case.noise).compile()
        return lambda: compiled(case.model.params, case.noise)

    calls = {"one": program()}
    with two_rounds():
        calls["two"] = program()
    seconds: dict[str, list[float]] = {which: [] for which in calls}
    for _ in range(repeats + 1):
        for which, call in calls.items():
            seconds[which].append(time_call(call, repeats=1, warmup=0).median)
    return min(seconds["two"][1:]) / min(seconds["one"][1:])


def compile_seconds(case: study.Problem, options: dict[str, Any]) -> float:
    """Of tracing and compiling a sampler, nothing cached."""
    jax.clear_caches()
    begin = time.perf_counter()

    def sample(params: Any, noise: Any) -> jax.Array:
        return pcm.sample_picard(case.model.model_fn, params, noise, **case.arguments, **options).sample

    jax.jit(sample).lower(case.model.params, case.noise).compile()
    return time.perf_counter() - begin


def run(seed: int, quick: bool, console: Console) -> None:
    """All of it, on the digits model."""
    counted = {"W = T": count(STEPS), "W = 16": count(16)}
    model = pcm.pretrained.load("digits")
    solver = study.solvers(model)["DDIM-50"]
    case = study.problem(model, solver, batch=BATCH, seed=seed)
    adapter = study.adapter_for(model, "DDIM-50")
    assert adapter is not None
    options = study.tuned(adapter, model.prior)
    idle = idle_cost(case, options, repeats=3 if quick else 15)
    single = study.problem(model, solver, batch=1, seed=seed)
    twice = two_an_iteration(single, model.prior, repeats=3 if quick else 100)
    seconds: dict[str, list[float]] = {"base": [], "pcm": []}
    for _ in range(1 if quick else 5):
        # In turn: a machine that drifts drifts for both. The base sampler starts from what the tuned one starts from.
        seconds["base"].append(compile_seconds(case, {"prior": options["prior"]}))
        seconds["pcm"].append(compile_seconds(case, options))
    ratio = float(np.median(np.asarray(seconds["pcm"]) / np.asarray(seconds["base"])))
    table = Table("what", "value")
    for window, kernels_of in counted.items():
        table.add_row(f"kernels of a round beside the network, {window}", str(kernels_of))
    table.add_row("a round with an adapter that is idle / base round", f"{idle:.3f}")
    table.add_row("a sampler with two rounds in an iteration / as it is, batch 1", f"{twice:.3f}")
    table.add_row("compilation of PCM / base", f"{ratio:.2f}")
    console.print(table)
    if quick:
        return
    config = {"steps": STEPS, "batch": BATCH, "rounds": (FEW, MORE)}
    payload = {"kernels": counted, "idle_round_cost": idle, "two_an_iteration": twice, "compile_seconds": seconds}
    write_result("bench_round", payload, config=config, seed=seed, command=COMMAND)
    record("round.kernels", counted["W = T"], command=COMMAND)
    record("round.kernels_window", counted["W = 16"], command=COMMAND)
    record("adapter.idle_round_cost", idle, command=COMMAND)
    record("round.two_an_iteration", twice, command=COMMAND)
    record("compile.pcm_over_base", ratio, command=COMMAND)
