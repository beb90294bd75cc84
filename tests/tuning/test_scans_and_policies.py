"""Plans of scans and of policies."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from tests import problems
from tests.policy import policies

PARAMS, NOISE = problems.mlp_params(), problems.noise()
TIMES = jnp.linspace(0, 1, 15)


def step(x, t):
    new = x + 0.1 * (jnp.tanh(x @ PARAMS["w1"]) @ PARAMS["w2"] - t * x)
    return new, new[:, 0]


@pytest.fixture(scope="module")
def plan():
    return pcm.tune_scan(step, NOISE, TIMES, batch_axis=0, tol=1e-3, seconds=1.0, progress=False)


@pytest.mark.parametrize("sequential", [True, False])
def test_scans_end_where_lax_scan_does(plan, sequential):
    assert (plan.subject, plan.steps, plan.batch) == ("scan", 15, 1)
    chosen = dataclasses.replace(plan, sequential=sequential, window=6, microbatch=4, seconds=1e-6)
    out = chosen.scan(step, NOISE, TIMES, batch_axis=0, return_trajectory=True, throw=True)
    carry, ys = jax.lax.scan(step, NOISE, TIMES)
    np.testing.assert_allclose(out.carry, carry, rtol=0, atol=1e-6 if sequential else 1e-3)
    np.testing.assert_allclose(out.ys, ys, rtol=0, atol=1e-2)
    np.testing.assert_allclose(out.trajectory[-1], out.carry)
    assert out.stats.rounds.shape == (4,) and (int(out.stats.rounds.max()) == 15) is sequential


@pytest.mark.fast
def test_a_sequential_scan_of_one_sample():
    out = pcm.scanning.scan_sequential(lambda x, _: 0.5 * x, jnp.ones(3), length=4)
    np.testing.assert_allclose(out.carry, 0.5**4)
    assert out.stats.rounds.shape == () and bool(out.converged) and float(out.error_bound) == 0.0
    bad = pcm.scanning.scan_sequential(lambda x, _: x / 0.0, jnp.ones((2, 3)), length=4, batch_axis=0)
    assert bad.result.tolist() == [pcm.ResultCode.NONFINITE] * 2


@pytest.mark.fast
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, NOISE, TIMES), "step must be a function"),
        ((step, NOISE), "pass length=T"),
        ((lambda x, t: x[:1], NOISE, TIMES), "keep shape and dtype"),
    ],
)
def test_scans_that_are_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        pcm.tune_scan(*arguments, progress=False)


@pytest.mark.fast
def test_a_scan_plan_for_something_else(plan):
    with pytest.raises(ValueError, match="for 15 steps, this scan has 7"):
        plan.scan(step, NOISE, TIMES[:7], batch_axis=0)
    with pytest.raises(ValueError, match="no option 'window'; it has"):
        plan.scan(step, NOISE, TIMES, batch_axis=0, window=3)
    with pytest.raises(ValueError, match=r"made for a scan; call Plan\.scan"):
        plan.sample(problems.mlp, PARAMS, NOISE, pcm.solvers.ddim(problems.VP, 15))


def test_policies():
    policy = policies.small()
    seen, key = policies.histories(3), jax.random.split(jax.random.key(0), 3)
    plan = policy.tune(seen, key, seconds=1.0, progress=False)
    assert plan.steps == 20 and plan.batch == 3
    ref = policy.act(seen, key)
    for sequential in (True, False):
        chosen = dataclasses.replace(plan, sequential=sequential, window=8, microbatch=None, seconds=1e-6)
        fast = policy.with_plan(chosen)
        assert fast.options == (None if sequential else {"window": 8, "microbatch": None, "tol": 1e-2})
        np.testing.assert_allclose(fast.act(seen, key).plan, ref.plan, rtol=0, atol=0.0 if sequential else 5e-2)
    alone = policy.tune(seen[0], key[0], seconds=0.1, progress=False)
    assert alone.batch == 1


@pytest.mark.fast
def test_policies_that_are_wrong(plan):
    policy = policies.small()
    seen = policies.histories()[0]
    with pytest.raises(ValueError, match="option max_rounds ends before its actions are certified"):
        policy.picard(max_rounds=3).tune(seen, jax.random.key(0))
    with pytest.raises(ValueError, match="needs keys of shape"):
        policy.tune(seen, jax.random.split(jax.random.key(0), 2))
    with pytest.raises(ValueError, match="memory must be a whole number"):
        policy.tune(seen, jax.random.key(0), memory=-1)
    for wrong in (plan, None, dataclasses.replace(plan, subject="sample")):
        with pytest.raises(ValueError, match="for the 20 steps of ddpm-20"):
            policy.with_plan(wrong)
