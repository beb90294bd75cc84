"""Wrong calls of `pcm.scan`: ValueErrors that name the leaf and the remedy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm

X, XS = jnp.ones((3, 4)), jnp.linspace(0.0, 1.0, 5)


def step(x, t):
    return 0.9 * x + 0.1 * t


COUNTER = iter(range(1000))
CALLS = {
    "structure": (lambda x, t: {"x": x}, X, XS, {}, r"step must return a carry of init's structure PyTreeDef\(\*\)"),
    "three": (lambda x, t: (x, x, x), X, XS, {}, r"step must return a carry of init's structure"),
    "shape": (lambda x, t: x[:2], X, XS, {}, r"init from float32 \(3, 4\) into float32 \(2, 4\); keep shape and dtype"),
    "dtype": (lambda x, t: x.astype(jnp.float16), X, XS, {}, r"from float32 \(3, 4\) into float16 \(3, 4\)"),
    "leaf": (
        lambda c, t: {"a": c["a"], "b": c["b"][None]},
        {"a": X, "b": X},
        XS,
        {},
        r"leaf \['b'\] from float32 \(3, 4\) into float32 \(1, 3, 4\)",
    ),
    "length": (step, X, (XS, XS[:3]), {}, r"not one number: {'xs\[0\]': 5, 'xs\[1\]': 3}"),
    "length and xs": (step, X, XS, {"length": 4}, "not one number: {'xs': 5, 'length': 4}"),
    "length type": (step, X, None, {"length": 2.0}, "length must be a whole number, got 2.0"),
    "no length": (step, X, None, {}, "pass length=T"),
    "scalar xs": (step, X, jnp.float32(1.0), {}, "xs is a scalar; every leaf of xs has leading axis T"),
    "none": (step, X, XS[:0], {}, "there are no steps"),
    "integer": (step, (X, jnp.arange(3)), XS, {}, r"init\[1\] is int32: .*Pass counters in xs"),
    "boolean": (step, X > 0, XS, {}, "init is bool"),
    "key": (step, (X, jax.random.key(0)), XS, {}, r"init\[1\] is a random key: .*jax.random.split\(key, T\)"),
    "no array": (step, (X, "a"), XS, {}, r"init\[1\] is no array"),
    "nothing": (step, (), XS, {}, "init has no leaves"),
    "empty": (step, X[:0], XS, {}, "init is empty"),
    "scalar carry": (step, (X, jnp.float32(1.0)), XS, {"batch_axis": 0}, r"init\[1\] is a scalar .*batch_axis=None"),
    "batches": (step, (X, X[:2]), XS, {"batch_axis": 0}, r"different size, {'init\[0\]': 3, 'init\[1\]': 2}"),
    "axis": (step, X, XS, {"batch_axis": 1}, "batch_axis must be 0 .*jnp.moveaxis"),
    "axis type": (step, X, XS, {"batch_axis": False}, "batch_axis must be 0"),
    "no function": (3, X, XS, {}, r"step must be a function \(carry, x\)"),
    "counter": (lambda x, t: x * next(COUNTER), X, XS, {}, "another program when it is traced a second time"),
    "numpy": (lambda x, t: x + np.random.normal(size=(3, 4)).astype(np.float32), X, XS, {}, "side effects in Python"),
    "held": (step, X, XS, {"linearization": pcm.linearization.held_data()}, "held_data reads a solver's table"),
    "guess shape": (step, X, XS, {"guess": jnp.ones((5, 3, 4))}, r"all 6 carries, init first: \(6, 3, 4\)"),
    "guess structure": (step, X, XS, {"guess": (X,)}, "guess must be a trajectory of the carry's structure"),
    "guess result": (step, X, XS, {"guess": lambda x, t: x[0]}, "guess turns the carry's leaf init from"),
    "adapter alone": (step, X, XS, {"adapter_step": step}, "pass switch="),
    "switch alone": (step, X, XS, {"switch": pcm.switching.after(1)}, "pass adapter_step="),
    "adapter result": (
        step,
        X,
        XS,
        {"adapter_step": lambda x, t: x[0], "switch": pcm.switching.after(1)},
        "adapter_step turns the carry's leaf init from",
    ),
    "switch call": (step, X, XS, {"adapter_step": step, "switch": pcm.switching.after}, "call it first"),
    "window": (step, X, XS, {"window": 6}, r"window must be a whole number, 1\.\.5"),
    "rounds": (step, X, XS, {"max_rounds": 0}, r"max_rounds must be a whole number, 1\.\.500"),
    "tol": (step, X, XS, {"tol": -1.0}, "tol must be at least 0 and finite"),
    "slope": (step, X, XS, {"linearization": pcm.linearization.secant}, "mind the parentheses"),
    "certificate": (step, X, XS, {"certificate": pcm.certificates.defect_sum}, "mind the parentheses"),
    "executor": (step, X, XS, {"executor": pcm.parallel.pmap}, "mind the parentheses"),
    "inside": (step, X, XS, {"executor": pcm.parallel.inside("no")}, "there is none"),
}


@pytest.mark.parametrize("name", CALLS)
def test_it_is_named(name):
    function, init, xs, options, message = CALLS[name]
    with pytest.raises(ValueError, match=message):
        pcm.scan(function, init, xs, **options)


def test_throw_needs_concrete_results():
    with pytest.raises(ValueError, match="throw=True needs concrete results"):
        jax.jit(lambda x: pcm.scan(step, x, XS, throw=True).carry)(X)


def test_a_constant_slope_is_a_number():
    for value in (float("nan"), True):
        with pytest.raises(ValueError, match="a constant slope must be a finite number"):
            pcm.linearization.constant(value)


@pytest.mark.fast
def test_what_it_closes_over_is_current_and_compiled_once():
    """Another weight is another operand; a module's attribute is read in every call."""

    class Network:
        weight = jnp.float32(0.5)

        def step(self, x, t):
            return x + 0.1 * jnp.tanh(self.weight * x + t)

    network, found = Network(), []
    run = network.step
    for weight in (0.5, 2.0):
        network.weight = jnp.float32(weight)
        found.append(pcm.scan(run, X, XS, tol=0.0).carry)
        expected = jax.lax.scan(lambda x, t: (run(x, t), None), X, XS)[0]
        np.testing.assert_allclose(found[-1], expected, atol=1e-6)
    assert not np.allclose(found[0], found[1])
    from pcm_jax.scanning import call

    before = call._compiled.cache_info().misses
    pcm.scan(run, 2 * X, 3 * XS, tol=1e-3)
    pcm.scan(run, X, XS, tol=1e-1)
    assert call._compiled.cache_info().misses == before
