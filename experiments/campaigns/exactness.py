"""Random analytic cases, as in `experiments.coverage random`, and every other way to make the same call.

A case is a random network, tolerance, noise and first guess, of 8 samples. A group of cases shares a compiled program.
Its certified samples are compared with the sequential ones; its first case is then sampled again under jit, on 1, 2, 4
or 8 devices by pmap or by shard_map, and under vmap or with the window that None stands for, in float64: results,
rounds and samples must be equal, up to the rounding of float64.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

import pcm_jax as pcm
from experiments.campaigns.common import SAMPLER, Case, Options, finish, record_over, run_cases
from experiments.coverage import analytic
from experiments.coverage.random import measure, summarise

GROUP = 64
"""Cases that share a compiled program; most of a group's time is compilation, of the other ways above all."""
DEVICES = (1, 2, 4, 8)
EQUAL = 1e-7
"""Of the sample's size: what float64 makes of 50 expansive steps in another order."""
_HERE = "experiments/campaigns/exactness.py"


def prepared(seed: int) -> tuple[Any, dict[str, Any]]:
    """(arrays, static arguments) of one call of the group's program, float64."""
    program, rng = analytic.draw_program(seed), np.random.default_rng((seed, 3))
    solver = analytic.SOLVERS[program.solver]
    params, noise = analytic.draw_params(rng), rng.normal(size=(analytic.BATCH, analytic.DIM))
    arrays: dict[str, Any] = {"params": params, "noise": noise}
    if solver.stochastic:
        arrays["step_noise"] = rng.normal(size=(len(solver), *noise.shape))
    switch = analytic.SWITCHES[program.switch]
    if switch is not None:
        other = analytic.draw_params(rng)
        arrays["other"] = {name: params[name] + 0.1 * other[name] for name in params}
    static = {"window": program.window, "linearization": analytic.SLOPES[program.slope], "switch": switch}
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), arrays), {"solver": solver, **static}


def sample(arrays: Any, static: dict[str, Any], **changes: Any) -> pcm.SampleOutput:
    """The call itself."""
    given = dict(static)
    solver, switch = given.pop("solver"), given.pop("switch")
    if switch is not None:
        given |= {"adapter": pcm.switching.FeatureSpace(arrays["other"]), "switch": switch}
    return pcm.sample_picard(
        analytic.network,
        arrays["params"],
        arrays["noise"],
        solver,
        step_noise=arrays.get("step_noise"),
        tol=1e-3,
        **(given | changes),
    )


def drawn_ways(seed: int) -> tuple[str, ...]:
    """Those of a group; each is a program of its own to compile."""
    rng = np.random.default_rng((seed, 5))
    return ("jit", str(rng.choice(["pmap", "shard_map"])), str(rng.choice(["vmap", "window"])))


def ways(seed: int, static: dict[str, Any]) -> dict[str, Any]:
    """name -> function of the arrays; the number of devices follows from the seed."""
    count = min(DEVICES[seed % 4], len(jax.local_devices()))
    full = len(static["solver"]) if static["window"] is None else static["window"]

    def mapped(arrays: Any) -> pcm.SampleOutput:
        """Every sample in a call of its own."""

        def one(noise: Any, step_noise: Any) -> pcm.SampleOutput:
            alone = arrays | {"noise": noise[None]}
            if step_noise is not None:
                alone |= {"step_noise": step_noise[:, None]}
            return sample(alone, static)

        z = arrays.get("step_noise")
        out = jax.vmap(one, in_axes=(0, None if z is None else 1))(arrays["noise"], z)
        return dataclasses.replace(
            out,
            sample=out.sample[:, 0],
            result=out.result[:, 0],
            stats=dataclasses.replace(out.stats, rounds=out.stats.rounds[:, 0]),
        )

    return {
        "jit": jax.jit(lambda arrays: sample(arrays, static)),
        "vmap": mapped,
        "window": lambda arrays: sample(arrays, static, window=full),
        f"pmap({count})": lambda arrays: sample(arrays, static, executor=pcm.parallel.pmap(count)),
        f"shard_map({count})": lambda arrays: sample(arrays, static, executor=pcm.parallel.shard_map(count)),
    }


def unequal(seed: int, names: tuple[str, ...] | None = None) -> list[dict[str, Any]]:
    """The ways, by default the group's, that gave something else, and how far off they were."""
    names = drawn_ways(seed) if names is None else names
    found = []
    with jax.enable_x64(True):
        arrays, static = prepared(seed)
        plain = sample(arrays, static)
        size = float(np.sqrt(np.mean(np.square(np.asarray(plain.sample))))) or 1.0
        for name, call in ways(seed, static).items():
            if name.split("(")[0] not in names:
                continue
            out = call(arrays)
            apart = np.abs(np.asarray(out.sample) - np.asarray(plain.sample))
            same = np.isnan(np.asarray(out.sample)) == np.isnan(np.asarray(plain.sample))
            far = float(np.nanmax(apart, initial=0.0)) / size
            codes = np.array_equal(np.asarray(out.result), np.asarray(plain.result))
            rounds = np.array_equal(np.asarray(out.stats.rounds), np.asarray(plain.stats.rounds))
            if not (codes and rounds and same.all() and far <= EQUAL):
                found.append({"way": name, "results": codes, "rounds": rounds, "apart": far})
    return found


def run(options: Options, console: Console, *, progress: bool = True) -> dict[str, Any]:
    """As many groups as hold the cases."""
    size = min(GROUP, options.cases)
    groups = dataclasses.replace(options, cases=-(-options.cases // size))

    def group(index: int) -> Case:
        seed = options.seed + index
        return {"found": measure(seed, size), "unequal": unequal(seed)}

    code = (*SAMPLER, "experiments/coverage/analytic.py", "experiments/coverage/random.py", _HERE)
    cases = run_cases(f"exactness-{size}", groups, group, console, progress=progress, code=code)
    summary = summarise([case["found"] for case in cases])
    summary["counts"] |= {"cases": size * len(cases), "programs": len(cases)}
    apart = [{"seed": options.seed + case["case"], **one} for case in cases for one in case["unequal"]]
    payload = {
        **summary,
        "devices": list(DEVICES),
        "unequal": apart,
        "ways": dict(collections.Counter(way for case in cases for way in drawn_ways(options.seed + case["case"]))),
    }
    command = finish("exactness", options, payload, {}, console)
    record_over(command, options.results)
    return payload
