import dataclasses
import re

import jax
import numpy as np
import pytest

from pcm_jax.trees import first_mismatch, flatten, unflatten

A = {"b": {"kernel": np.zeros((2, 3), np.float32)}, "a": [np.zeros(1), np.zeros(2)]}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pair:
    left: object
    right: object


@pytest.mark.fast
def test_names_are_paths_and_the_round_trip_is_exact():
    tree = Pair(A, (np.ones(1), None))
    flat = flatten(tree)
    assert list(flat) == ["left/a/0", "left/a/1", "left/b/kernel", "right/0"]
    again = unflatten(flat, tree)
    assert jax.tree.structure(again) == jax.tree.structure(tree)
    assert all(new is old for new, old in zip(jax.tree.leaves(again), jax.tree.leaves(tree), strict=True))


def test_names_that_collide_are_refused():
    with pytest.raises(ValueError, match="both called 'a/b'"):
        flatten({"a": {"b": np.zeros(1)}, "a/b": np.zeros(1)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda flat: flat, None),
        (lambda flat: flat | {"c": np.zeros(3)}, r"'c' \(float64 \(3,\)\) is left over"),
        (lambda flat: {k: v for k, v in flat.items() if k != "a/1"}, r"'a/1' is missing, expected float64 \(2,\)"),
        (lambda flat: flat | {"b/kernel": np.zeros((3, 2), np.float32)}, r"is float32 \(3, 2\), expected float32 \(2,"),
        (lambda flat: flat | {"b/kernel": np.zeros((2, 3), np.int32)}, r"'b/kernel' is int32 \(2, 3\), expected float"),
    ],
)
def test_the_first_difference_is_named(change, message):
    expected = flatten(A)
    found = first_mismatch(expected, change(expected))
    assert found is None if message is None else re.search(message, found)
