import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from pcm_jax import lora
from pcm_jax.guidance import classifier_free, prompt_guided, prompts
from pcm_jax.networks import ResidualMLP, factored, linen
from tests import problems

NULL = 0
IDENTITY = pcm.linearization.identity()
PARAMS = problems.mlp_params()
X, T, LABEL = problems.noise(), jnp.arange(4.0), jnp.asarray([1, 2, 3, 1])


def nested(params, x, t, cond):
    return problems.mlp(params, x, t, cond["label"] + cond["style"])


@pytest.mark.fast
def test_scale_0_is_the_unconditional_and_1_the_conditional_model():
    given = problems.mlp(PARAMS, X, T, LABEL)
    null = problems.mlp(PARAMS, X, T, jnp.full(4, NULL))
    guided = {scale: classifier_free(problems.mlp, scale, NULL)(PARAMS, X, T, LABEL) for scale in (0, 1, 3)}
    np.testing.assert_allclose(guided[0], null, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(guided[1], given, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(guided[3] - null, 3 * (given - null), rtol=1e-4, atol=1e-5)


def test_one_call_with_twice_the_rows():
    seen = []

    def counted(params, x, t, cond):
        seen.append((x.shape, t.shape, cond.tolist()))
        return x

    classifier_free(counted, 2.0, NULL)(PARAMS, X, T, LABEL)
    assert seen == [((8, 6), (8,), [0, 0, 0, 0, *LABEL.tolist()])]


def test_rows_do_not_see_each_other():
    guided = classifier_free(problems.mlp, 2.0, NULL)
    before, after = guided(PARAMS, X, T, LABEL), guided(PARAMS, X.at[1].add(1.0), T, LABEL.at[1].set(2))
    np.testing.assert_array_equal(np.delete(before, 1, 0), np.delete(after, 1, 0))


def test_equal_arguments_give_equal_functions():
    first, second = (classifier_free(nested, 2, {"label": 5, "style": 0}) for _ in range(2))
    assert first == second and hash(first) == hash(second)
    assert first != classifier_free(nested, 2, {"label": 4, "style": 0})


def test_each_key_of_a_condition_has_its_null():
    cond = {"label": LABEL, "style": 2 * LABEL}
    null = nested(PARAMS, X, T, {"label": jnp.full(4, 5), "style": jnp.full(4, 7)})
    guided = classifier_free(nested, 0.0, {"style": 7, "label": 5})
    np.testing.assert_allclose(guided(PARAMS, X, T, cond), null, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"null_cond has the keys \['label', 'style'\]"):
        guided(PARAMS, X, T, {"label": LABEL})


def test_guidance_without_a_condition_is_named():
    with pytest.raises(ValueError, match="guidance needs cond"):
        classifier_free(problems.mlp, 2.0, NULL)(PARAMS, X, T, None)


def test_negative_prompts_come_with_every_sample():
    negative = jnp.asarray([3, 3, 0, 1])
    guided = prompt_guided(problems.mlp, 3.0)
    out = guided(PARAMS, X, T, prompts(LABEL, negative))
    without, given = problems.mlp(PARAMS, X, T, negative), problems.mlp(PARAMS, X, T, LABEL)
    np.testing.assert_allclose(out, without + 3 * (given - without), rtol=1e-4, atol=1e-5)
    plain = classifier_free(problems.mlp, 3.0, NULL)(PARAMS, X, T, LABEL)
    np.testing.assert_allclose(guided(PARAMS, X, T, prompts(LABEL, jnp.asarray([NULL]))), plain, rtol=1e-5, atol=1e-6)
    assert guided == prompt_guided(problems.mlp, 3) and hash(guided) == hash(prompt_guided(problems.mlp, 3))


def test_prompts_that_do_not_fit_are_named():
    text = jnp.ones((4, 5, 3))
    with pytest.raises(ValueError, match=r"negative has shape \(2, 5, 3\) where prompt has \(4, 5, 3\); give one row"):
        prompts(text, text[:2])
    with pytest.raises(ValueError, match="must have the same structure"):
        prompts({"text": text}, text)
    with pytest.raises(ValueError, match=r"make it with guidance\.prompts"):
        prompt_guided(problems.mlp, 2.0)(PARAMS, X, T, LABEL)


@pytest.mark.parametrize("guided", [classifier_free(problems.mlp, 2.0, NULL), prompt_guided(problems.mlp, 2.0)])
def test_the_loop_counts_one_call_and_twice_the_rows(guided):
    cond = prompts(LABEL, jnp.asarray([NULL])) if guided == prompt_guided(problems.mlp, 2.0) else LABEL
    solver = pcm.solvers.ddim(problems.VP, 6)
    exact = pcm.sample_sequential(guided, PARAMS, X, solver, cond=cond)
    out = pcm.sample_picard(guided, PARAMS, X, solver, cond=cond, window=4, tol=0.0, linearization=IDENTITY)
    alone = pcm.sample_picard(
        problems.mlp, PARAMS, X, solver, cond=LABEL, window=4, max_rounds=1, linearization=IDENTITY
    )
    assert np.asarray(out.converged).all()
    np.testing.assert_allclose(out.sample, exact.sample, atol=1e-4)
    assert exact.stats.rounds.tolist() == [6] * 4 and exact.stats.evaluations.tolist() == [12] * 4
    first = pcm.sample_picard(guided, PARAMS, X, solver, cond=cond, window=4, max_rounds=1, linearization=IDENTITY)
    assert first.stats.rounds.tolist() == [1] * 4
    assert first.stats.evaluations.tolist() == [8] * 4 == (2 * alone.stats.evaluations).tolist()
    total = int(out.stats.evaluations.sum() + out.stats.padded_evaluations)
    assert total == 2 * 4 * 4 * int(out.stats.rounds.max())


def test_lora_in_factored_form_under_guidance():
    model_fn = linen(ResidualMLP(width=8, depth=1, num_classes=3))
    params = jax.jit(model_fn.init)(jax.random.key(0), X, T, LABEL)
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(1), leaf.shape), params)
    adapted = lora.init(params, 2, jax.random.key(2))
    adapted = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(3), leaf.shape), adapted)
    merged = lora.merge(params, adapted)
    share = jnp.asarray([0.0, 1.0, 1.0, 0.0])
    for guided, cond in (
        (classifier_free(model_fn, 2.0, 3), LABEL),
        (prompt_guided(model_fn, 2.0), prompts(LABEL, jnp.asarray([3]))),
    ):
        out = factored(guided, adapted).predict(guided, params, X, T, cond, share)
        base, tuned = (jax.jit(guided)(each, X, T, cond) for each in (params, merged))
        assert np.abs(base - tuned).max() > 1e-2
        np.testing.assert_allclose(out, jnp.where(share[:, None] == 0, base, tuned), rtol=1e-4, atol=1e-5)
