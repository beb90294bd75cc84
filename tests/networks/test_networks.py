"""What every network promises the samplers, whichever it is: add an entry and it is checked."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pcm_jax import networks
from pcm_jax.networks import ResidualMLP, UNet2D, linen

NETWORKS = {
    "mlp": (ResidualMLP(width=16, depth=2, num_classes=3), (8, 8, 1)),
    "mlp-vector": (ResidualMLP(width=16, depth=1, expansion=2, num_classes=3, time_scale=1000.0), (5,)),
    "unet": (UNet2D(channels=(8, 16), num_classes=3), (8, 8, 1)),
    "unet-odd-attention": (UNet2D(channels=(4, 8), attention=(1,), num_heads=2, num_classes=3), (7, 5, 2)),
}
BATCH = 4
TIME = np.asarray([0.0, 3.5, 400.0, 999.0], np.float32)
LABEL = np.asarray([0, 1, 2, 3], np.int32)


@functools.cache
def build(name, dtype=jnp.float32):
    """(compiled model_fn, params, x): random parameters everywhere, so inputs reach the zero-initialised output."""
    module, shape = NETWORKS[name]
    model_fn = linen(module.clone(dtype=dtype))
    random = np.random.default_rng(0)
    x = random.normal(size=(BATCH, *shape)).astype(np.float32)
    shapes = jax.eval_shape(model_fn.init, jax.random.key(0), x, TIME, LABEL)
    params = jax.tree.map(lambda leaf: 0.3 * random.normal(size=leaf.shape).astype(leaf.dtype), shapes)
    return jax.jit(model_fn), params, x


def changed(array, row, value):
    array = array.copy()
    array[row] = value
    return array


every_network = pytest.mark.parametrize("name", [pytest.param("mlp", marks=pytest.mark.fast), *list(NETWORKS)[1:]])


@every_network
def test_rows_do_not_see_each_other(name):
    call, params, x = build(name)
    before = np.asarray(call(params, x, TIME, LABEL))
    after = np.asarray(call(params, changed(x, 1, 5.0), changed(TIME, 1, 50.0), changed(LABEL, 1, 2)))
    others = np.asarray([0, 2, 3])
    np.testing.assert_array_equal(before[others], after[others])
    assert np.abs(before[1] - after[1]).max() > 1e-3


@every_network
def test_time_and_label_matter(name):
    call, params, x = build(name)
    out = np.asarray(call(params, x, TIME, LABEL))
    assert np.abs(out - call(params, x, TIME + 1.0, LABEL)).reshape(BATCH, -1).max(1).min() > 1e-5
    assert np.abs(out - call(params, x, TIME, (LABEL + 1) % 4)).reshape(BATCH, -1).max(1).min() > 1e-4


@every_network
def test_no_condition_is_the_null_class_and_a_mapping_is_read_at_label(name):
    model_fn, params, x = build(name)
    null = np.asarray(model_fn(params, x, TIME, np.full(BATCH, 3, np.int32)))
    np.testing.assert_array_equal(null, model_fn(params, x, TIME, None))
    np.testing.assert_array_equal(null, model_fn(params, x, TIME, {"label": np.full(BATCH, 3, np.int32)}))


@pytest.mark.parametrize("compute", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("given", [jnp.float32, jnp.bfloat16])
@every_network
def test_output_has_the_dtype_of_x_whatever_is_computed_in(name, given, compute):
    model_fn, params, x = build(name, compute)
    out = jax.eval_shape(model_fn, params, x.astype(given), TIME, LABEL)
    assert (out.shape, out.dtype) == (x.shape, given)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("name", ["mlp", "unet"])
def test_bfloat16_compute_stays_near_float32(name):
    exact, params, x = build(name)
    coarse, _, _ = build(name, jnp.bfloat16)
    wanted = np.asarray(exact(params, x, TIME, LABEL))
    error = np.asarray(coarse(params, x, TIME, LABEL)) - wanted
    assert 0 < np.sqrt(np.mean(error**2)) < 0.05 * np.sqrt(np.mean(wanted**2))


def test_a_new_network_predicts_zero():
    module, shape = NETWORKS["mlp-vector"]
    x = jax.random.normal(jax.random.key(1), (BATCH, *shape))
    assert not np.any(jax.jit(lambda key: module.init_with_output(key, x, TIME, LABEL)[0])(jax.random.key(0)))


@pytest.mark.parametrize("size", [8, 28, 32])
def test_a_unet_takes_any_image_size(size):
    model_fn, t = linen(UNet2D(channels=(4, 8, 8, 8), attention=(2, 3))), jax.ShapeDtypeStruct((2,), jnp.float32)
    x = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    params = jax.eval_shape(model_fn.init, jax.eval_shape(lambda: jax.random.key(0)), x, t)
    assert jax.eval_shape(model_fn, params, x, t, None).shape == x.shape


def test_neighbouring_times_differ_in_bfloat16():
    model_fn, params, x = build("mlp", jnp.bfloat16)
    near = [model_fn(params, x, np.full(BATCH, t, np.float32), LABEL) for t in (513.0, 514.0)]
    assert np.abs(near[0] - near[1]).max() > 0


def test_an_unknown_label_is_nan_in_its_row_alone():
    model_fn, params, x = build("mlp")
    finite = np.isfinite(model_fn(params, x, TIME, np.asarray([0, 4, -1, 3]))).all(axis=(1, 2, 3))
    assert finite.tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("cond", "message"),
    [
        ({"text": LABEL}, "without the key 'label'"),
        (LABEL.astype(np.float32), "labels must be integers"),
        (LABEL[:2], r"of shape \(4,\)"),
    ],
)
def test_bad_conditions_are_named(cond, message):
    model_fn, params, x = build("mlp")
    with pytest.raises(ValueError, match=message):
        model_fn(params, x, TIME, cond)


def test_networks_are_built_by_name_from_json_values():
    assert networks.by_name("unet2d", channels=[8, 16]) == UNet2D(channels=(8, 16))
    with pytest.raises(ValueError, match="choose one of mlp, unet1d, unet2d"):
        networks.by_name("transformer")
    with pytest.raises(ValueError, match="ResidualMLP has no field 'widht'; it has width"):
        networks.by_name("mlp", widht=3)
    with pytest.raises(ValueError, match="use ResidualMLP for flat data"):
        jax.eval_shape(linen(UNet2D()).init, jax.random.key(0), jnp.zeros((2, 5)), TIME[:2])
    with pytest.raises(ValueError, match="change num_heads"):
        model_fn = linen(UNet2D(channels=(6, 6), attention=(0,)))
        jax.eval_shape(model_fn.init, jax.random.key(0), jnp.zeros((2, 8, 8, 1)), TIME[:2])
