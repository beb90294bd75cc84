import gc
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pcm_jax.checkpoint import Checkpoints
from pcm_jax.trees import flatten


def tree(seed=0, width=4):
    kernel = jax.random.normal(jax.random.key(seed), (3, width))
    return {
        "net": {"kernel": kernel, "half": kernel.astype(jnp.bfloat16)},
        "key": jax.random.key(7),
        "step": jnp.int32(3),
    }


def equal(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for name, leaf in flatten(first).items():
        other = flatten(second)[name]
        assert leaf.dtype == other.dtype, name
        raw = [jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in (leaf, other)]
        np.testing.assert_array_equal(*raw, err_msg=name)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Two checkpoints, steps 1 and 2; tests copy the folder."""
    checkpoints = Checkpoints(tmp_path_factory.mktemp("run"))
    for step in (1, 2):
        checkpoints.save(step, tree(step), {"next_index": step})
    return checkpoints.directory


@pytest.fixture
def copy(saved, tmp_path):
    return Checkpoints(shutil.copytree(saved, tmp_path / "run"))


@pytest.mark.fast
def test_round_trip(copy):
    assert copy.latest() == 2
    restored, position = copy.restore(tree())
    equal(restored, tree(2))
    assert position == {"next_index": 2}
    restored, position = copy.restore(jax.eval_shape(tree), step=1)
    equal(restored, tree(1))
    assert position == {"next_index": 1}


def test_the_newest_are_kept(copy):
    copy.save(3, tree(3), {})
    assert sorted(path.name for path in copy.directory.iterdir() if path.name.isdigit()) == ["2", "3"]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (tree(width=5), r"another architecture: 'net/half' is bfloat16 \(3, 4\), expected bfloat16 \(3, 5\)"),
        (tree() | {"more": jnp.zeros(2)}, r"another architecture: 'more' is missing, expected float32 \(2,\)"),
        ({"net": tree()["net"], "step": jnp.int32(0)}, r"'key' \(uint32 \(2,\)\) is left over"),
    ],
)
def test_another_architecture_is_named_by_its_first_key_and_stays_untouched(copy, wanted, message):
    with pytest.raises(ValueError, match=message):
        copy.restore(wanted)
    equal(copy.restore(tree())[0], tree(2))


def files(folder):
    """Those whose loss decides something: arrays, their index, the tree's description, the position."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


# Orbax leaves the reads that run beside a failing one to a closed event loop. They are collected here, so that their
# complaints are not another test's.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", ["truncate", "empty", "remove"])
def test_damage_is_an_error_or_harmless_and_the_checkpoint_beside_it_is_untouched(copy, damage):
    damaged = 0
    for path in files(copy.directory / "2"):
        content = path.read_bytes()
        if damage == "remove":
            path.unlink()
        else:
            path.write_bytes(content[: len(content) // 2] if damage == "truncate" else b"")
        try:
            equal(copy.restore(tree(), step=2)[0], tree(2))
        except ValueError as error:
            assert "cannot be read here" in str(error) and "Step 1 can be read: pass fall_back=True" in str(error)
            damaged += 1
        path.write_bytes(content)
    assert damaged >= 4
    gc.collect()
    equal(copy.restore(tree(), step=1)[0], tree(1))


def test_a_checkpoint_that_was_being_written_does_not_count(copy):
    shutil.copytree(copy.directory / "2", copy.directory / "5.orbax-checkpoint-tmp-0")
    (copy.directory / "5.orbax-checkpoint-tmp-0" / "tree" / "_METADATA").unlink()
    assert copy.latest() == 2
    equal(copy.restore(tree())[0], tree(2))


def test_nothing_there(tmp_path):
    assert Checkpoints(tmp_path / "no").latest() is None
    with pytest.raises(ValueError, match=r"there is no checkpoint in .*no"):
        Checkpoints(tmp_path / "no").restore(tree())
    with pytest.raises(ValueError, match="there is no checkpoint of step 4"):
        Checkpoints(tmp_path).restore(tree(), step=4)
