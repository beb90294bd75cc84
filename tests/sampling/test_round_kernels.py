"""A round is one batched network call plus almost nothing: its kernels are counted in the compiled program."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from experiments.bench import hlo
from experiments.bench import rounds as bench_round
from pcm_jax.recurrence import kernels
from tests import problems


@pytest.mark.parametrize(("window", "most"), [(bench_round.STEPS, 25), (16, 35)])
def test_kernels_beside_the_network(window, most):
    assert bench_round.count(window) <= most


def test_what_is_counted():
    """A loop of one product and one sum of rows launches two kernels more than one that does nothing but count."""

    def body(i, x):
        return jnp.sort(jnp.tanh(x @ x), axis=0)

    program = jax.jit(lambda x: jax.lax.fori_loop(0, 5, body, x)).lower(jnp.ones((64, 64))).compile().as_text()
    alone = jax.jit(lambda x: body(0, x)).lower(jnp.ones((64, 64))).compile().as_text()
    # The counter and the condition.
    assert hlo.program_kernels(alone) + 1 <= hlo.loop_kernels(program) <= hlo.program_kernels(alone) + 3
    with pytest.raises(ValueError, match="no loop"):
        hlo.loop_kernels(alone)


@pytest.mark.parametrize("window", [None, 5])
@pytest.mark.parametrize("form", ["cpu", "gpu"])
@pytest.mark.parametrize("slope", [pcm.linearization.secant(), pcm.linearization.constant(-0.3)], ids=["secant", "-"])
def test_every_form_takes_the_same_rounds(window, form, slope):
    solver = pcm.solvers.ddim(problems.VP, 12)
    arguments = (problems.mlp, problems.mlp_params(), problems.noise(), solver)
    exact = pcm.sample_sequential(*arguments).sample

    def sample(form):
        # Another function each time: what is compiled is kept by it.
        with kernels.compiled_as(form):
            model = lambda params, x, t, cond: problems.mlp(params, x, t, cond)  # noqa: E731
            return pcm.sample_picard(model, *arguments[1:], window=window, linearization=slope, tol=1e-3)

    out, other = sample(form), sample("cpu")
    assert bool(jnp.all(out.converged))
    assert out.stats.rounds.tolist() == other.stats.rounds.tolist()
    np.testing.assert_allclose(out.sample, exact, atol=1e-2)
    np.testing.assert_allclose(out.sample, other.sample, atol=1e-4)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("size", [1, 7, 300])
def test_an_affine_scan_is_the_recurrence(size, own):
    rng = np.random.default_rng(size)
    slope = rng.uniform(0, 1.2, (size, 3)).astype(np.float32)
    slope[rng.uniform(size=slope.shape) < 0.1] = 0
    add, first = rng.normal(size=(size, 3, 4)).astype(np.float32), rng.normal(size=(3, 4)).astype(np.float32)
    expected, y = [], first.astype(np.float64)
    for a, b in zip(slope, add, strict=True):
        expected.append(a[:, None] * y + own * b)
        y = a[:, None] * y + b
    for form in ("cpu", "gpu"):
        for signed in (True, False):
            with kernels.compiled_as(form):
                found = kernels.affine_scan(slope, jnp.asarray(add), jnp.asarray(first), signed=signed, own=own)
            np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


def test_a_cost_without_bound_stays_behind_its_row():
    """A defect that is not known is inf: rows before it keep their bound, those after it have none."""
    gain, cost = jnp.full((6, 1), 1.5), jnp.ones((6, 1)).at[3].set(jnp.inf)
    for form in ("cpu", "gpu"):
        with kernels.compiled_as(form):
            total = kernels.affine_scan(gain, cost, signed=False)[:, 0]
        np.testing.assert_allclose(total[:3], [1, 2.5, 4.75], rtol=1e-6)
        assert bool(jnp.all(jnp.isinf(total[3:])))


def test_sums_are_sums_and_differentiate():
    terms = (jnp.arange(24.0).reshape(2, 3, 4), jnp.ones((2, 3, 4)))
    for form in ("cpu", "gpu"):
        with kernels.compiled_as(form):
            found = kernels.sums(terms)
            slope = jax.grad(lambda x: jnp.sum(kernels.sums((x * x, terms[1]))[0]))(terms[0])
        np.testing.assert_allclose(found[0], terms[0].sum(2))
        np.testing.assert_allclose(found[1], terms[1].sum(2))
        np.testing.assert_allclose(slope, 2 * terms[0])


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Counting:
    """An adapter that is the base model and notes when it is asked."""

    asked: list = dataclasses.field(metadata={"static": True})

    def predict(self, model_fn, params, x, t, cond, share):
        jax.debug.callback(lambda: self.asked.append(1))
        return model_fn(params, x, t, cond)


class Notes(list):
    """Hashable, as a static part of an adapter must be."""

    __hash__ = object.__hash__


@pytest.mark.parametrize(("switch", "rounds"), [(pcm.switching.never(), 0), (pcm.switching.after(2), 2)])
def test_rounds_without_a_share_do_not_ask_the_adapter(switch, rounds):
    notes = Notes()
    solver = pcm.solvers.ddim(problems.VP, 12)
    arguments = (problems.mlp, problems.mlp_params(), problems.noise(), solver)
    out = pcm.sample_picard(*arguments, adapter=Counting(notes), switch=switch, tol=1e-3)
    jax.effects_barrier()
    assert bool(jnp.all(out.converged)) and len(notes) == rounds
