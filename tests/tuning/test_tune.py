"""Tuned on this machine: plans run, give the sequential sampler's samples, and wrong arguments measure nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from pcm_jax.tuning import api, measure
from tests import problems

SOLVER = pcm.solvers.ddim(problems.VP, 12)
NOISY = pcm.solvers.ddpm(problems.VP, 12)
PARAMS, NOISE, LABELS = problems.mlp_params(), problems.noise(), jnp.arange(4.0)
TOL = 1e-3


def tune(solver=SOLVER, **options):
    how = {"cond": LABELS, "tol": TOL, "progress": False, "seconds": 1.0} | options
    return pcm.tune(problems.mlp, PARAMS, NOISE, solver, **how)


@pytest.fixture(scope="module")
def plan():
    return tune()


def parallel(plan, **changes):
    """The plan of a device where a window is faster."""
    return dataclasses.replace(plan, **({"sequential": False, "window": 5, "microbatch": 7, "seconds": 1e-6} | changes))


def far(out, ref):
    return float(jnp.max(jnp.sqrt(jnp.mean((out - ref) ** 2, axis=tuple(range(1, ref.ndim))))))


def test_what_was_measured(plan):
    assert (plan.subject, plan.steps, plan.batch, plan.devices, plan.tol) == ("sample", 12, 4, 1, TOL)
    rows = [rows for rows, _ in plan.rows]
    assert rows == sorted(rows) and rows[0] == 4 and plan.sequential_seconds > 0
    assert all(run.rounds >= 12 / run.window for run in plan.runs)
    assert all(run.bound is None or run.bound <= TOL for run in plan.runs if run.converged)
    if not plan.sequential:
        assert plan.speedup > 1 and plan.memory > sum(leaf.nbytes for leaf in jax.tree.leaves(PARAMS))


@pytest.mark.parametrize("sequential", [True, False])
def test_its_samples_are_the_sequential_samplers(plan, sequential):
    chosen = dataclasses.replace(plan, sequential=True) if sequential else parallel(plan)
    ref = pcm.sample_sequential(problems.mlp, PARAMS, NOISE, SOLVER, cond=LABELS)
    out = chosen.sample(problems.mlp, PARAMS, NOISE, SOLVER, cond=LABELS, throw=True)
    assert far(out.sample, ref.sample) <= (0 if sequential else TOL)
    assert (int(out.stats.rounds.max()) == 12) is sequential or int(out.stats.rounds.max()) < 12


def test_a_plan_runs_what_it_says(plan):
    ours = parallel(plan).sample(problems.mlp, PARAMS, NOISE, SOLVER, cond=LABELS, return_trajectory=True)
    options = {"window": 5, "microbatch": 7, "tol": TOL, "return_trajectory": True}
    theirs = pcm.sample_picard(problems.mlp, PARAMS, NOISE, SOLVER, cond=LABELS, **options)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(a, b)
    loose = parallel(plan).sample(problems.mlp, PARAMS, NOISE, SOLVER, cond=LABELS, tol=1.0)
    assert int(loose.stats.rounds.max()) < int(ours.stats.rounds.max())


class Clock:
    """Moves on by what each kind of call is told to take."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def timed(monkeypatch, per_call, per_row):
    """A plan on a clock on which a network call takes `per_call` and each of its rows `per_row` seconds more.

    per_row is 0 where windows are run: their results do not tell how large they are.
    """
    clock = Clock()

    class Program(measure._Program):
        def __init__(self, function, arguments):
            super().__init__(function, arguments)
            call = self.call

            def timed(*arguments):
                out = call(*arguments)
                bare = isinstance(arguments[0], np.integer)
                calls = int(arguments[0]) if bare else int(out.stats.rounds.max())
                clock.now += calls * (per_call + per_row * (arguments[2].shape[0] if bare else 4))
                return out

            self.call = timed

    monkeypatch.setattr(measure, "_Program", Program)
    monkeypatch.setattr(api, "DeviceMeter", lambda *arguments: measure.DeviceMeter(*arguments, clock=clock))
    return tune(seconds=60.0)


def test_seconds_come_from_the_clock_where_rows_cost(monkeypatch):
    plan = timed(monkeypatch, 2e-3, 1e-3)
    assert plan.rows[0] == pytest.approx((4, 6e-3)) and plan.rows[-1] == pytest.approx((48, 50e-3))
    assert plan.sequential_seconds == pytest.approx(12 * 6e-3)
    # Two evaluations of 12 x 4 states at 50 / 48 ms each are more than the 72 ms: nothing else is measured.
    assert plan.sequential and not plan.runs and plan.expected == pytest.approx(0.072 / (2 * 0.050))


def test_seconds_come_from_the_clock_where_rows_are_free(monkeypatch):
    plan = timed(monkeypatch, 10e-3, 0.0)
    assert all(seconds == pytest.approx(10e-3) for _, seconds in plan.rows)
    assert [run.window for run in plan.runs] == [2, 5, 12]
    assert all(run.seconds == pytest.approx(run.rounds * 10e-3) for run in plan.runs)
    assert not plan.sequential and plan.microbatch is None
    fewest = min(run.rounds for run in plan.runs)
    assert plan.seconds <= fewest * 10e-3 + 1e-9 and plan.speedup >= 12 / fewest - 1e-6
    assert plan.expected == pytest.approx(plan.sequential_seconds / plan.cost.seconds(plan.window))


@pytest.mark.parametrize("options", [{"switch": pcm.switching.after(2)}, {"executor": pcm.parallel.shard_map(2)}])
def test_adapters_executors_and_noise(options):
    if "switch" in options:
        options |= {"adapter": pcm.switching.FeatureSpace(jax.tree.map(lambda leaf: 1.01 * leaf, PARAMS))}
    plan = tune(NOISY, key=jax.random.key(0), **options)
    assert plan.devices == options.get("executor", pcm.parallel.single()).num_devices
    out = parallel(plan).sample(problems.mlp, PARAMS, NOISE, NOISY, cond=LABELS, key=jax.random.key(0), **options)
    ref = pcm.sample_sequential(problems.mlp, PARAMS, NOISE, NOISY, cond=LABELS, key=jax.random.key(0))
    assert bool(out.converged.all()) and far(out.sample, ref.sample) <= TOL


def test_guidance_counts_network_rows():
    model = pcm.guidance.classifier_free(problems.mlp, 2.0, null_cond=-1.0)
    plan = pcm.tune(model, PARAMS, NOISE, SOLVER, cond=LABELS, progress=False, seconds=1.0)
    assert plan.batch == 8 and plan.rows[0][0] == 8


@pytest.mark.fast
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": 0}, "memory must be a whole number"),
        ({"memory": 1.5e9}, "memory must be a whole number"),
        ({"seconds": 0}, "seconds must be a finite number above 0"),
        ({"seconds": float("nan")}, "seconds must be"),
        ({"progress": "yes"}, "progress must be True or False"),
        ({"tol": -1.0}, "tol must be"),
        ({"cond": jnp.arange(3.0)}, "leading axis must be the batch"),
        ({"switch": pcm.switching.after(2)}, "adapter and switch belong together"),
        ({"executor": pcm.parallel.inside("rows")}, r"inside\(axis\) runs in a program of yours"),
        ({"executor": pcm.parallel.pmap}, "executor must be an object"),
        ({"solver": "ddim"}, "solver must be a pcm_jax.solvers table"),
        ({"solver": NOISY}, "injects noise"),
    ],
)
def test_wrong_arguments_measure_nothing(monkeypatch, options, message):
    monkeypatch.setattr(measure, "_Program", None)
    with pytest.raises(ValueError, match=message):
        tune(**options)


@pytest.mark.fast
def test_a_plan_of_something_else(plan):
    other = pcm.solvers.ddim(problems.VP, 11)
    with pytest.raises(ValueError, match=r"for 12 steps, .* has 11"):
        plan.sample(problems.mlp, PARAMS, NOISE, other, cond=LABELS)
    with pytest.raises(ValueError, match=r"made for a sample; call Plan\.sample"):
        plan.scan(lambda x, _: x, NOISE, length=12)
