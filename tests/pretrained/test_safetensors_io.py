import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pcm_jax.pretrained import load_arrays, load_metadata, load_params, save_params

PARAMS = {
    "in": {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.zeros(3, jnp.bfloat16)},
    "steps": jnp.int32(7),
    "wide": np.asfortranarray(np.arange(6.0, dtype=np.float32).reshape(2, 3)),
}


@pytest.fixture
def path(tmp_path):
    save_params(tmp_path / "m.safetensors", PARAMS, metadata={"name": "m", "sizes": [1, 2]})
    return tmp_path / "m.safetensors"


@pytest.mark.fast
def test_round_trip(path):
    shapes = jax.eval_shape(lambda: PARAMS)
    for like in (PARAMS, shapes):
        loaded = load_params(path, like)
        assert jax.tree.structure(loaded) == jax.tree.structure(PARAMS)
        for new, old in zip(jax.tree.leaves(loaded), jax.tree.leaves(PARAMS), strict=True):
            assert isinstance(new, jax.Array) and new.dtype == old.dtype
            np.testing.assert_array_equal(new, old)
    assert load_metadata(path) == {"name": "m", "sizes": [1, 2]}


@pytest.mark.fast
def test_bfloat16_halves_the_file_and_comes_back_as_float32(path):
    numbers = {"w": jax.random.normal(jax.random.key(0), (64, 64)), "steps": jnp.int32(7)}
    whole, half = path.with_name("whole.safetensors"), path.with_name("half.safetensors")
    save_params(whole, numbers)
    save_params(half, numbers, storage=jnp.bfloat16)
    assert half.stat().st_size < 0.55 * whole.stat().st_size
    stored, loaded = load_arrays(half), load_params(half, numbers)
    assert stored["w"].dtype == jnp.bfloat16 and stored["steps"].dtype == np.int32
    assert loaded["w"].dtype == np.float32 and loaded["steps"] == 7
    np.testing.assert_allclose(loaded["w"], numbers["w"], rtol=2**-8)
    save_params(half, loaded, storage=jnp.bfloat16)
    np.testing.assert_array_equal(load_params(half, numbers)["w"], loaded["w"], "rounded once")
    # A network in bfloat16 gets its own dtype, and nothing is rounded on the way in.
    assert load_params(half, jax.tree.map(jnp.asarray, stored))["w"].dtype == jnp.bfloat16
    with pytest.raises(ValueError, match=r"'w' is float32 .*, expected bfloat16"):
        load_params(whole, jax.tree.map(jnp.asarray, stored))
    with pytest.raises(ValueError, match="storage must be bfloat16 or float32, got float16"):
        save_params(half, numbers, storage=jnp.float16)


def test_saving_again_replaces_in_one_step(path):
    save_params(path, {"w": jnp.ones(2)})
    np.testing.assert_array_equal(load_params(path, {"w": jnp.zeros(2)})["w"], np.ones(2))
    assert [file.name for file in path.parent.iterdir()] == ["m.safetensors"]


@pytest.mark.fast
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"in": PARAMS["in"] | {"scale": jnp.zeros(3)}}, r"'in/scale' is missing, expected float32 \(3,\)"),
        ({"in": {"kernel": PARAMS["in"]["kernel"]}}, r"'in/bias' \(bfloat16 \(3,\)\) is left over"),
        ({"wide": jnp.zeros((3, 2))}, r"'wide' is float32 \(2, 3\), expected float32 \(3, 2\)"),
        ({"steps": jnp.float32(7)}, r"'steps' is int32 \(\), expected float32 \(\)"),
    ],
)
def test_the_first_key_that_differs_is_named(path, change, message):
    with pytest.raises(ValueError, match=r"m.safetensors does not hold this network's parameters: " + message):
        load_params(path, PARAMS | change)


def foreign(content):
    """Bytes of files that are no whole safetensors file."""
    return {
        "truncated data": content[:-5],
        "truncated header": content[:20],
        "empty": b"",
        "trailing bytes": content + b"more",
        "pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x06posix",
        "zip, as torch.save writes": b"PK\x03\x04" + bytes(60),
        "header that is no JSON": struct.pack("<Q", 8) + b"notjson!" + bytes(8),
        "text": b"<html>404 not found</html>",
    }


@pytest.mark.parametrize("kind", foreign(b""))
def test_truncated_and_foreign_files_are_named_with_the_remedy(path, kind):
    good = path.read_bytes()
    bad = path.with_name("bad.safetensors")
    bad.write_bytes(foreign(good)[kind])
    for call in (lambda: load_params(bad, PARAMS), lambda: load_metadata(bad)):
        with pytest.raises(ValueError, match=r"bad.safetensors is truncated or not a safetensors file .*Copy it again"):
            call()
    assert path.read_bytes() == good


def test_no_file(tmp_path):
    with pytest.raises(ValueError, match=r"there is no weights file at .*absent.safetensors"):
        load_params(tmp_path / "absent.safetensors", PARAMS)
