"""`pcm.scan` on random recurrences: pytree carries, expansive and stiff steps, bad guesses and adapters, in float64.

A case is random weights, noise, tolerance and first carry, of 8 recurrences. A group of cases shares a program: which
leaves the carry has and how they read each other, steps, window, slope, guess. Certified carries are compared with
`lax.scan`'s; the group's first case is run again on 1, 2, 4 or 8 devices by pmap or by shard_map, and under jit or
vmap: results and carries must be equal, up to the rounding of float64.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

import pcm_jax as pcm
from experiments.campaigns.common import SAMPLER, Case, Options, finish, record_over, run_cases

BATCH, DIM = 8, 4
GROUP = 64
"""Cases that share a compiled program."""
DEVICES = (1, 2, 4, 8)
EQUAL = 1e-7
"""Of the carry's size: what float64 makes of 80 expansive steps in another order."""
_HERE = "experiments/campaigns/recurrences.py"
SLOPES = {
    "secant": pcm.linearization.secant(),
    "identity": pcm.linearization.identity(),
    "half": pcm.linearization.constant(0.5),
}


@dataclasses.dataclass(frozen=True)
class Program:
    """leaves: x alone, x with a history of it, or x with a slow leaf that reads both. guess: none, ten times too large
    random states, or a cheaper step. adapter: a wrong step for the first rounds.
    """  # noqa: D205

    leaves: str
    steps: int
    window: int | None
    slope: str
    guess: str
    adapter: bool


def draw(seed: int) -> Program:
    """The group's program."""
    rng = np.random.default_rng((seed, 17))
    steps = int(rng.choice([8, 20, 80]))
    window = None if rng.random() < 0.5 else int(rng.integers(2, steps + 1))
    leaves = str(rng.choice(["one", "history", "slow"]))
    guess = str(rng.choice(["none", "random", "cheaper"], p=[0.5, 0.25, 0.25]))
    return Program(leaves, steps, window, str(rng.choice(sorted(SLOPES))), guess, bool(rng.random() < 0.3))


def inputs(program: Program, seed: int, index: int) -> dict[str, Any]:
    """Weights, first carry, noises and tolerance of one case; from contracting to expansive."""
    rng = np.random.default_rng((seed, index, 19))
    arrays = {
        "weights": 10 ** rng.uniform(-1, 0.7) * rng.normal(size=(3, DIM, DIM)) / np.sqrt(DIM),
        "keep": np.asarray(rng.uniform(0.3, 1.1)),
        "size": np.asarray(10 ** rng.uniform(-2, 0) / np.sqrt(program.steps / 8)),
        "x": 10 ** rng.uniform(-1, 1) * rng.normal(size=(BATCH, DIM)),
        "xs": rng.normal(size=(program.steps, BATCH, DIM)),
        "tol": np.asarray(10 ** rng.uniform(-4, -1)),
        "guess": 10 * rng.normal(size=(program.steps + 1, BATCH, DIM)),
    }
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), arrays)


def step_of(program: Program, arrays: dict[str, Any], *, network: bool = True) -> Callable[[Any, Any], Any]:
    """x' = keep x + size tanh(W x + ..) + noise, with the leaves that the program has."""
    first, second, third = arrays["weights"]

    def step(carry: Any, noise: Any) -> Any:
        x, *others = carry if isinstance(carry, tuple) else (carry,)
        pushed = x @ first + (others[0] @ second if others else 0.0)
        new = (
            arrays["keep"] * x + (arrays["size"] * jnp.tanh(pushed) if network else 0.0) + 0.1 * arrays["size"] * noise
        )
        if program.leaves == "one":
            return new
        if program.leaves == "history":
            return new, jnp.tanh(x @ third)
        return new, 0.9 * others[0] + 0.1 * jnp.tanh(x @ third)

    return step


def first_of(program: Program, x: Any) -> Any:
    """The first carry."""
    return x if program.leaves == "one" else (x, jnp.zeros_like(x))


def solve(program: Program, arrays: dict[str, Any], *, batch_axis: int | None = 0, **changes: Any) -> pcm.ScanOutput:
    """The call."""
    first = first_of(program, arrays["x"])
    options: dict[str, Any] = {"window": program.window, "linearization": SLOPES[program.slope], "tol": arrays["tol"]}
    if program.guess == "random":
        options["guess"] = jax.tree.map(lambda leaf: arrays["guess"], first)
    if program.guess == "cheaper":
        options["guess"] = step_of(program, arrays, network=False)
    if program.adapter:
        wrong = arrays | {"weights": -arrays["weights"]}
        options |= {"adapter_step": step_of(program, wrong), "switch": pcm.switching.after(2)}
    return pcm.scan(step_of(program, arrays), first, arrays["xs"], batch_axis=batch_axis, **(options | changes))


@functools.partial(jax.jit, static_argnums=0)
def both(program: Program, arrays: dict[str, Any]) -> tuple[pcm.ScanOutput, Any]:
    """What `pcm.scan` and `lax.scan` end with."""
    step, first = step_of(program, arrays), first_of(program, arrays["x"])
    exact = jax.lax.scan(lambda carry, noise: (step(carry, noise), None), first, arrays["xs"])[0]
    return solve(program, arrays), exact


def measure(seed: int, cases: int) -> dict[str, Any]:
    """One group: counts, and every certified sample further off than its tolerance."""
    program, failures, worst = draw(seed), [], 0.0
    counts = dict.fromkeys(("samples", "certified", "judged", "over", "over_3", "leaked"), 0)
    with jax.enable_x64(True):
        for index in range(cases):
            arrays = inputs(program, seed, index)
            out, exact = jax.tree.map(np.asarray, both(program, arrays))
            leaves = list(zip(jax.tree.leaves(out.carry), jax.tree.leaves(exact), strict=True))
            error = np.sqrt(np.sum([np.mean((a - b) ** 2, axis=1) for a, b in leaves], axis=0))
            certified, tol = out.result == 0, float(arrays["tol"])
            size = np.sqrt(np.mean(leaves[0][1] ** 2, axis=1))
            judged = certified & np.isfinite(error)
            with np.errstate(invalid="ignore"):
                ratio = np.where(judged, np.maximum(error - 1e-10 * size, 0.0) / tol, 0.0)
            # A carry that is not a number must not be certified, nor one whose bound is above tol.
            leaked = certified & ~(judged & (out.error_bound <= tol * (1 + 1e-6)))
            counts["samples"] += BATCH
            counts["certified"] += int(certified.sum())
            counts["judged"] += int(judged.sum())
            counts["over"] += int((ratio > 1).sum())
            counts["over_3"] += int((ratio > 3).sum())
            counts["leaked"] += int(leaked.sum())
            worst = max(worst, float(ratio.max()))
            failures += [
                {"seed": seed, "index": index, "sample": int(at), "ratio": float(ratio[at]), "tol": tol}
                | {"program": dataclasses.asdict(program)}
                for at in np.flatnonzero((ratio > 1) | leaked)
            ]
    return counts | {"worst_ratio": worst, "failures": failures}


def alone(program: Program, arrays: dict[str, Any]) -> pcm.ScanOutput:
    """Every sample in a call of its own, mapped."""
    axes = {"x": 0, "xs": 1, "guess": 1}

    def one(some: dict[str, Any]) -> pcm.ScanOutput:
        return solve(program, arrays | some, batch_axis=None)

    return jax.vmap(one, in_axes=(axes,))({name: arrays[name] for name in axes})


def unequal(seed: int) -> list[dict[str, Any]]:
    """Other ways to make the group's first call that gave something else, and how far off they were."""
    program, found = draw(seed), []
    count = min(DEVICES[seed % 4], len(jax.local_devices()))
    with jax.enable_x64(True):
        arrays = inputs(program, seed, 0)
        plain = solve(program, arrays)
        size = float(jnp.sqrt(jnp.mean(jax.tree.leaves(plain.carry)[0] ** 2)))
        executor = (pcm.parallel.pmap, pcm.parallel.shard_map)[seed // 4 % 2]
        ways: dict[str, Callable[[], pcm.ScanOutput]] = {
            f"{executor.__name__}({count})": lambda: solve(program, arrays, executor=executor(count))
        }
        # A narrow window of a batch stands where its slowest sample is, that of a sample alone does not.
        if program.window is None and seed % 2:
            ways["vmap"] = lambda: alone(program, arrays)
        else:
            ways["jit"] = lambda: jax.jit(functools.partial(solve, program))(arrays)
        for name, call in ways.items():
            out = call()
            pairs = zip(jax.tree.leaves(out.carry), jax.tree.leaves(plain.carry), strict=True)
            far = max(float(jnp.max(jnp.abs(a - b))) for a, b in pairs) / max(size, 1e-9)
            codes = np.array_equal(np.asarray(out.result), np.asarray(plain.result))
            if not (codes and far <= EQUAL):
                found.append({"way": name, "results": codes, "apart": far})
    return found


def run(options: Options, console: Console, *, progress: bool = True) -> dict[str, Any]:
    """As many groups as hold the cases."""
    size = min(GROUP, options.cases)
    groups = dataclasses.replace(options, cases=-(-options.cases // size))

    def group(index: int) -> Case:
        seed = options.seed + index
        return {"found": measure(seed, size), "unequal": unequal(seed)}

    cases = run_cases(f"recurrences-{size}", groups, group, console, progress=progress, code=(*SAMPLER, _HERE))
    found = [case["found"] for case in cases]
    names = ("samples", "certified", "judged", "over", "over_3", "leaked")
    totals = {name: sum(each[name] for each in found) for name in names}
    over = totals["over"] / max(1, totals["judged"])
    payload = {
        "counts": totals | {"cases": size * len(cases), "programs": len(cases)},
        "over": over,
        "worst_ratio": max(each["worst_ratio"] for each in found),
        "failures": sorted((one for each in found for one in each["failures"]), key=lambda one: -one["ratio"]),
        "unequal": [{"seed": options.seed + case["case"], **one} for case in cases for one in case["unequal"]],
        "devices": list(DEVICES),
    }
    command = finish("recurrences", options, payload, {"recurrences_over": over}, console)
    record_over(command, options.results)
    return payload
