"""A round's rows in several network calls: the same results, under every transformation and on every executor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from pcm_jax.parallel import chunk_sizes, in_chunks
from tests import problems

SOLVER = pcm.solvers.ddim(problems.VP, 12)
PARAMS, NOISE, LABELS = problems.mlp_params(), problems.noise(), jnp.arange(4.0)
GUIDED = pcm.guidance.classifier_free(problems.mlp, 2.0, null_cond=-1.0)


def sample(params=PARAMS, noise=NOISE, model=problems.mlp, **options):
    options = {"cond": LABELS, "tol": 1e-4} | options
    return pcm.sample_picard(model, params, noise, SOLVER, **options)


def close(one, two):
    """To the rounding of kernels for other numbers of rows."""
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-6 * max(1.0, float(jnp.max(jnp.abs(two)))))


def same(one, two):
    close(one.sample, two.sample)
    np.testing.assert_array_equal(one.stats.rounds, two.stats.rounds)
    np.testing.assert_array_equal(one.stats.evaluations, two.stats.evaluations)


@pytest.mark.fast
@pytest.mark.parametrize(("rows", "most", "wanted"), [(10, None, (1, 10)), (10, 10, (1, 10)), (10, 6, (2, 5))])
def test_sizes(rows, most, wanted):
    assert chunk_sizes(rows, most) == wanted


@pytest.mark.fast
def test_sizes_hold_all_rows_in_as_few_calls_as_fit():
    for rows in range(1, 40):
        for most in range(1, 45):
            calls, size = chunk_sizes(rows, most)
            assert size <= most and calls == -(-rows // most) and rows <= calls * size < rows + calls


@pytest.mark.fast
def test_the_function_sees_no_more_rows_than_it_may():
    seen = []

    def double(x, extra):
        seen.append(x.shape[0])
        return {"x": 2 * x + extra["shift"][:, None]}

    x, extra = jnp.arange(22.0).reshape(11, 2), {"shift": jnp.arange(11.0)}
    out = in_chunks(double, 4, x, extra)
    np.testing.assert_array_equal(out["x"], 2 * x + extra["shift"][:, None])
    assert set(seen) == {4}


@pytest.mark.fast
@pytest.mark.parametrize("microbatch", [1, 7, 48])
def test_the_sample_is_the_same(microbatch):
    same(sample(microbatch=microbatch), sample())


def test_a_network_call_has_at_most_so_many_rows_guidance_included():
    seen = []

    def network(params, x, t, cond):
        seen.append(x.shape[0])
        return problems.mlp(params, x, t, cond)

    model = pcm.guidance.classifier_free(network, 2.0, null_cond=-1.0)
    seen_by = sample(model=model, microbatch=7)
    # The check before compilation calls it on the batch; all other calls are the loop's.
    assert {size for size in seen if size != 2 * NOISE.shape[0]} == {6}
    same(seen_by, sample(model=GUIDED))


@pytest.mark.parametrize("window", [12, 5])
def test_windows_and_adapters(window):
    tuned = pcm.switching.FeatureSpace(jax.tree.map(lambda leaf: 1.05 * leaf, PARAMS))
    options = {"adapter": tuned, "switch": pcm.switching.after(2), "window": window}
    same(sample(microbatch=6, **options), sample(**options))


def test_shared_conditioning():
    def model(params, x, t, cond):
        return problems.mlp(params, x, t, cond["label"]) + 0.1 * cond["all"].value

    cond = {"label": LABELS, "all": pcm.Shared(jnp.ones((1, 6)))}
    same(sample(model=model, cond=cond, microbatch=5), sample(model=model, cond=cond))


@pytest.mark.parametrize("executor", [pcm.parallel.pmap(2), pcm.parallel.shard_map(5)])
def test_executors_and_what_they_count(executor):
    out, whole = sample(microbatch=3, executor=executor), sample(executor=executor)
    same(out, whole)
    states = -(-12 // executor.num_devices) * 4
    calls, size = chunk_sizes(states, 3)
    idle = executor.num_devices * (calls * size - states) * int(out.stats.rounds.max())
    assert int(out.stats.padded_evaluations) == int(whole.stats.padded_evaluations) + idle


def test_jit_vmap_and_gradients():
    def loss(params, noise, microbatch):
        return jnp.sum(sample(params, noise, microbatch=microbatch).sample ** 2)

    ours = jax.jit(jax.grad(loss), static_argnums=2)(PARAMS, NOISE, 3)
    theirs = jax.grad(loss)(PARAMS, NOISE, None)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * float(jnp.max(jnp.abs(b))))
    noises = jnp.stack([NOISE, -NOISE])
    one = jax.vmap(lambda noise: sample(noise=noise, microbatch=5).sample)(noises)
    close(one, jax.vmap(lambda noise: sample(noise=noise).sample)(noises))


@pytest.mark.parametrize("batch_axis", [0, None])
@pytest.mark.parametrize("window", [12, 5])
def test_scans(batch_axis, window):
    def step(x, t):
        return x + 0.1 * (jnp.tanh(x @ PARAMS["w1"]) @ PARAMS["w2"] - t * x), x.sum()

    def run(**options):
        return pcm.scan(step, NOISE, jnp.linspace(0, 1, 12), batch_axis=batch_axis, tol=1e-4, **options)

    ours, theirs = run(window=window, microbatch=5), run(window=window)
    close(ours.carry, theirs.carry)
    close(ours.ys, theirs.ys)
    np.testing.assert_array_equal(ours.stats.rounds, theirs.stats.rounds)


@pytest.mark.fast
@pytest.mark.parametrize("wrong", [0, -1, 2.5, "a", True])
def test_wrong_sizes(wrong):
    with pytest.raises(ValueError, match="microbatch must be a whole number of at least 1"):
        sample(microbatch=wrong)
    with pytest.raises(ValueError, match="microbatch must be a whole number of at least 1"):
        pcm.scan(lambda x, _: 0.5 * x, NOISE, length=3, microbatch=wrong)
    with pytest.raises(ValueError, match=r"at least 2 .*guidance needs 2"):
        sample(model=GUIDED, microbatch=1)
