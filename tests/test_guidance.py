import jax.numpy as jnp
import numpy as np
import pytest

from pcm_jax.guidance import classifier_free
from tests import problems

NULL = 0
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
