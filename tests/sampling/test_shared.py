"""Conditioning that a batch shares: the same samples as repeated conditioning, without the repetition."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from pcm_jax import guidance, lora
from pcm_jax.networks import ConditionalUNet1D, ResidualMLP, factored, linen
from pcm_jax.priors import GaussianPrior
from pcm_jax.training.rounds import Base
from pcm_jax.training.trajectories import solve_batch
from pcm_jax.types import Shared
from tests import problems

STEPS, BATCH, TOKENS, WIDTH = 10, 4, 33, 6
SOLVER = pcm.solvers.ddim(problems.VP, STEPS)
PARAMS, NOISE = problems.mlp_params(), problems.noise()
PREFIX = 0.5 * jax.random.normal(jax.random.key(3), (TOKENS, WIDTH))
OTHER = 0.5 * jax.random.normal(jax.random.key(4), (TOKENS, WIDTH))
LABEL = jnp.asarray([1, 2, 3, 1])


def attend(params, x, prefix):
    return problems.mlp(params, x, jnp.zeros(len(x)), None) + jax.nn.softmax(x @ prefix.T) @ prefix


def of_shared(params, x, t, cond):
    """What a user writes: the prefix is closed over by all rows."""
    return attend(params, x, cond["prefix"].value) + problems.mlp(params, x, t, cond["label"])


def of_repeated(params, x, t, cond):
    scores = jax.nn.softmax(jnp.einsum("bd,bld->bl", x, cond["prefix"]))
    found = problems.mlp(params, x, jnp.zeros(len(x)), None) + jnp.einsum("bl,bld->bd", scores, cond["prefix"])
    return found + problems.mlp(params, x, t, cond["label"])


def shared(prefix=PREFIX):
    return {"prefix": Shared(prefix), "label": LABEL}


def repeated(prefix=PREFIX):
    return {"prefix": jnp.broadcast_to(prefix, (BATCH, *prefix.shape)), "label": LABEL}


@pytest.mark.fast
@pytest.mark.parametrize("window", [None, 4])
def test_the_samples_are_those_of_repeated_conditioning(window):
    exact = pcm.sample_sequential(of_repeated, PARAMS, NOISE, SOLVER, cond=repeated()).sample
    np.testing.assert_allclose(
        pcm.sample_sequential(of_shared, PARAMS, NOISE, SOLVER, cond=shared()).sample, exact, atol=1e-5
    )
    out = pcm.sample_picard(of_shared, PARAMS, NOISE, SOLVER, cond=shared(), window=window, tol=0.0)
    assert out.converged.all()
    np.testing.assert_allclose(out.sample, exact, atol=1e-4)


def program(model_fn, cond):
    def call(cond):
        return pcm.sample_picard(model_fn, PARAMS, NOISE, SOLVER, cond=cond).sample

    return jax.jit(call).lower(cond).compile()


@pytest.mark.parametrize("guided", [False, True])
def test_the_program_holds_no_copies(guided):
    def wrap(model_fn, cond, other):
        if not guided:
            return model_fn, cond
        return guidance.prompt_guided(model_fn, 2.0), {"prompt": cond, "negative": other}

    without = program(*wrap(of_shared, shared(), shared(OTHER)))
    copied = program(*wrap(of_repeated, repeated(), repeated(OTHER)))

    def largest(compiled):
        """Of the arrays that hold the prefix."""
        found = re.findall(rf"f32\[((?:\d+,)*{TOKENS},{WIDTH})\]", compiled.as_text())
        return max(np.prod([int(size) for size in shape.split(",")]) for shape in found) / (TOKENS * WIDTH)

    halves = 1 + guided
    assert largest(without) <= halves
    assert largest(copied) >= halves * STEPS * BATCH, "the check finds copies where there are some"
    memory = [compiled.memory_analysis().temp_size_in_bytes for compiled in (without, copied)]
    assert memory[1] - memory[0] > 4 * TOKENS * WIDTH * STEPS * BATCH / 2


def test_gradients_go_through_shared_values():
    def loss(run, model_fn, cond, prefix):
        return jnp.sum(run(model_fn, PARAMS, NOISE, SOLVER, cond=cond(prefix)).sample ** 2)

    exact = jax.grad(lambda prefix: loss(pcm.sample_sequential, of_repeated, repeated, prefix))(PREFIX)
    found = jax.grad(lambda prefix: loss(pcm.sample_picard, of_shared, shared, prefix))(PREFIX)
    np.testing.assert_allclose(found, exact, atol=1e-4 * np.abs(exact).max() + 1e-5, rtol=1e-2)
    assert np.abs(exact).max() > 1e-2


@pytest.mark.parametrize("executor", [pcm.parallel.pmap(2), pcm.parallel.shard_map(2)], ids=["pmap", "shard_map"])
def test_executors_share_it(executor):
    exact = pcm.sample_sequential(of_repeated, PARAMS, NOISE, SOLVER, cond=repeated()).sample
    out = pcm.sample_picard(of_shared, PARAMS, NOISE, SOLVER, cond=shared(), tol=0.0, executor=executor)
    np.testing.assert_allclose(out.sample, exact, atol=1e-4)


def test_vmap_over_what_each_run_shares():
    runs = jax.vmap(lambda prefix: pcm.sample_picard(of_shared, PARAMS, NOISE, SOLVER, cond=shared(prefix)).sample)
    both = runs(jnp.stack([PREFIX, OTHER]))
    for found, prefix in zip(both, (PREFIX, OTHER), strict=True):
        alone = pcm.sample_sequential(of_repeated, PARAMS, NOISE, SOLVER, cond=repeated(prefix)).sample
        np.testing.assert_allclose(found, alone, atol=2e-2)


def test_guidance_keeps_what_both_predictions_share():
    guided = guidance.classifier_free(of_shared, 2.0, {"label": 0})
    exact = guidance.classifier_free(of_repeated, 2.0, {"label": 0, "prefix": 0.5})
    t = jnp.arange(4.0)
    given, null = (of_repeated(PARAMS, NOISE, t, repeated() | {"label": label}) for label in (LABEL, 0 * LABEL))
    np.testing.assert_allclose(guided(PARAMS, NOISE, t, shared()), null + 2 * (given - null), atol=1e-5)
    # A part that null_cond names is nulled, shared or not.
    named = guidance.classifier_free(of_shared, 2.0, {"label": 0, "prefix": 0.5})
    np.testing.assert_allclose(
        named(PARAMS, NOISE, t, shared()), exact(PARAMS, NOISE, t, repeated()), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(ValueError, match=r"null_cond has the keys \['label'\]; .* beside Shared parts"):
        guided(PARAMS, NOISE, t, repeated())


def test_guidance_by_two_shared_prompts():
    cond = guidance.prompts(shared(), shared(OTHER))
    guided, exact = (guidance.prompt_guided(model_fn, 3.0) for model_fn in (of_shared, of_repeated))
    out = pcm.sample_picard(guided, PARAMS, NOISE, SOLVER, cond=cond, tol=0.0)
    plain = guidance.prompts(repeated(), repeated(OTHER))
    sample = pcm.sample_sequential(exact, PARAMS, NOISE, SOLVER, cond=plain).sample
    np.testing.assert_allclose(out.sample, sample, rtol=1e-3, atol=1e-3)
    first, other = (
        pcm.sample_picard(model_fn, PARAMS, NOISE, SOLVER, cond=each, max_rounds=1).stats.evaluations.tolist()
        for model_fn, each in ((guided, cond), (exact, plain))
    )
    assert first == other == [2 * STEPS] * BATCH


def test_lora_in_factored_form_under_two_shared_prompts():
    model_fn = linen(ResidualMLP(width=8, depth=1, num_classes=3))
    params = jax.jit(model_fn.init)(jax.random.key(0), NOISE, jnp.zeros(4), LABEL)
    adapted = lora.init(params, 2, jax.random.key(2))
    adapted = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(3), leaf.shape), adapted)
    guided = guidance.prompt_guided(model_fn, 2.0)
    one = guidance.prompts(Shared(jnp.asarray([2])), Shared(jnp.asarray([3])))
    many = guidance.prompts(jnp.full(4, 2), jnp.full(4, 3))
    share = jnp.asarray([0.0, 1.0, 0.5, 0.0])
    found, exact = (
        factored(guided, adapted).predict(guided, params, NOISE, jnp.ones(4), cond, share) for cond in (one, many)
    )
    np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-6)


def test_networks_and_priors_read_one_row_for_all():
    model_fn = linen(ConditionalUNet1D(channels=(8,), embed=8, groups=4))
    x, seen = jax.random.normal(jax.random.key(0), (3, 4, 2)), jnp.asarray([[0.3, -1.0]])
    params = jax.jit(model_fn.init)(jax.random.key(1), x, jnp.zeros(3), jnp.repeat(seen, 3, 0))
    runs = [
        pcm.sample_sequential(model_fn, params, x, SOLVER, cond=cond).sample
        for cond in (Shared(seen), jnp.repeat(seen, 3, 0))
    ]
    np.testing.assert_allclose(*runs, atol=1e-5)
    weights = jax.random.normal(jax.random.key(2), (2, 8))
    spread = (jnp.eye(8)[None, :, :2], jnp.ones((2, 2)), jnp.ones(2))
    prior = GaussianPrior(jnp.zeros((2, 4, 2)), *spread, weights, "observation")
    run = pcm.sample_picard(model_fn, params, x, SOLVER, cond=Shared(seen), prior=prior)
    np.testing.assert_allclose(run.sample, runs[0], atol=2e-2)
    with pytest.raises(ValueError, match="needs a leading axis of 1"):
        pcm.sample_picard(lambda params, x, t, cond: x, {}, x, SOLVER, cond=Shared(seen[0]), prior=prior)


@pytest.mark.fast
def test_what_is_not_marked_is_checked():
    with pytest.raises(ValueError, match=r"cond\['prefix'\] has shape \(33, 6\).* mark what all samples see"):
        pcm.sample_picard(of_repeated, PARAMS, NOISE, SOLVER, cond=repeated() | {"prefix": PREFIX})
    with pytest.raises(ValueError, match="a training batch holds a condition for each sample"):
        solve_batch(of_shared, Base(PARAMS, SOLVER), (6,), 4, lambda key, size: shared(), jax.random.key(0))
