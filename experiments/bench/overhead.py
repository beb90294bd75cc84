"""(time of one Picard round) / (time of the bare batched network call on the same rows), in one run, in pairs."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import pcm_jax as pcm
from experiments.common.figures import record, write_result
from pcm_jax.metrics import paired
from pcm_jax.networks import ResidualMLP, UNet2D, linen
from pcm_jax.types import ModelFn, Params

COMMAND = "make bench ARGS='--studies overhead'"
ROUNDS = 8
"""Rounds of one timed call: what a call costs once (start, first states, result) is spread over them, as in use."""

CASES: dict[str, dict[str, Any]] = {
    "mlp, 50 rows x 16": {"network": ResidualMLP(width=512, depth=4), "shape": (8, 8, 1), "steps": 50, "batch": 16},
    "mlp, 100 rows x 64": {"network": ResidualMLP(width=256, depth=4), "shape": (8, 8, 1), "steps": 100, "batch": 64},
    "unet, 50 rows x 1": {"network": UNet2D(channels=(32, 64)), "shape": (32, 32, 3), "steps": 50, "batch": 1},
    "unet, window 16 x 4": {
        "network": UNet2D(channels=(32, 64)),
        "shape": (32, 32, 3),
        "steps": 50,
        "batch": 4,
        "window": 16,
    },
}


def measure(case: dict[str, Any], slope: str, seed: int, repeats: int) -> dict[str, Any]:
    """Both times of one case."""
    shape, steps, batch = case["shape"], case["steps"], case["batch"]
    window = case.get("window", steps)
    model = linen(case["network"])
    key, noise_key = jax.random.split(jax.random.key(seed))
    noise = jax.random.normal(noise_key, (batch, *shape))
    params = model.init(key, noise, jnp.zeros(batch))
    # A new network's last layer is zero, and with it every prediction: random weights make it a real map.
    params = jax.tree.map(lambda leaf: leaf + 0.01 * jax.random.normal(key, leaf.shape), params)
    solver = pcm.solvers.ddpm(pcm.schedules.linear_vp(), steps)
    linearization = getattr(pcm.linearization, slope)()

    def rounds() -> pcm.SampleOutput:
        # tol=0 accepts what is proven alone, so that all rounds run.
        return pcm.sample_picard(
            model,
            params,
            noise,
            solver,
            key=key,
            window=window,
            tol=0.0,
            max_rounds=ROUNDS,
            linearization=linearization,
        )

    rows = jnp.broadcast_to(noise, (window, *noise.shape)).reshape(window * batch, *shape)
    time = jnp.linspace(0.0, 980.0, window * batch)
    call = _bare(model, moves=window < steps)

    def bare() -> jax.Array:
        return call(params, rows, time)

    assert int(rounds().stats.rounds.max()) == ROUNDS
    total, calls, ratio = paired(rounds, bare, repeats=repeats)
    return {
        "slope": slope,
        "window": window,
        "batch": batch,
        "call_ms": 1e3 * calls.median / ROUNDS,
        "round_ms": 1e3 * total.median / ROUNDS,
        "ratio": ratio,
        "seconds_rounds": total.seconds,
        "seconds_calls": calls.seconds,
    }


def _bare(model: ModelFn, moves: bool) -> Any:
    """ROUNDS bare calls in one program, each on what the one before returned, as rounds are.

    A window that moves brings other times in every round. With all rows in it the times stay, and XLA moves the time
    embedding, half of a small MLP, out of either loop.
    """

    def calls(params: Params, x: jax.Array, t: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, ROUNDS, lambda i, x: x + 1e-3 * model(params, x, t + i * moves, None), x)

    return jax.jit(calls)


def run(seed: int, quick: bool, console: Console) -> None:
    """All cases with plain Picard and with the secant."""
    cases = dict(list(CASES.items())[:1]) if quick else CASES
    rows = []
    table = Table("case", "slope", "call ms", "round ms", "ratio")
    with Progress(console=console) as bar:
        task = bar.add_task("rounds against bare calls", total=2 * len(cases))
        for name, case in cases.items():
            for slope in ("identity", "secant"):
                row = {"case": name} | measure(case, slope, seed, repeats=3 if quick else 4)
                rows.append(row)
                table.add_row(name, slope, f"{row['call_ms']:.1f}", f"{row['round_ms']:.1f}", f"{row['ratio']:.3f}")
                bar.advance(task)
    console.print(table)
    platform = jax.default_backend()
    if quick:
        return
    write_result(f"bench_overhead_{platform}", {"rows": rows}, config={"rounds": ROUNDS}, seed=seed, command=COMMAND)
    record(f"overhead.{platform}", max(row["ratio"] for row in rows), command=COMMAND)
