import jax.numpy as jnp
import numpy as np
import pytest

from pcm_jax import switching
from pcm_jax.switching import SwitchInput


def share(switch, round, row, age=None, residual=1.0):
    """lambda of rows that have been in the window since the first round, unless told otherwise."""
    row = jnp.asarray(row, jnp.int32)[:, None]
    age = jnp.full(row.shape, round if age is None else age, jnp.int32)
    return np.asarray(switch(SwitchInput(jnp.int32(round), row, age, jnp.full(row.shape, residual))))[:, 0]


@pytest.mark.fast
def test_formulas():
    rows = np.arange(6)
    assert not share(switching.never(), 0, rows).any()
    assert share(switching.always(), 99, rows).all()
    assert share(switching.after(2), 1, rows).all() and not share(switching.after(2), 2, rows).any()
    # clip(1 - s k / K, 0, 1), the paper's.
    for k in range(8):
        np.testing.assert_allclose(share(switching.linear(2.0, 5), k, rows), max(0, 1 - 2.0 * k / 5), rtol=1e-6)
    np.testing.assert_array_equal(share(switching.frontier(2), 0, rows), rows >= 2)
    np.testing.assert_array_equal(share(switching.frontier(2), 1, rows), rows >= 4)
    assert share(switching.adaptive(0.5, 3), 1, rows).all()
    assert not share(switching.adaptive(0.5, 3), 1, rows, residual=0.4).any()
    assert not share(switching.adaptive(0.5, 3), 3, rows).any()


@pytest.mark.fast
def test_a_table_is_read_by_round_and_row_and_ends():
    table = np.array([[0, 0.5, 1], [0, 0, 1]])
    switch = switching.calibrated(table)
    for k in (0, 1):
        np.testing.assert_array_equal(share(switch, k, range(3)), table[k])
    assert not share(switch, 2, range(3)).any()
    assert share(switch, 0, [3, 7]).tolist() == [0, 0], "rows behind the table"
    assert not share(switch, 1, range(3), age=0).any(), "rows that slid in later were never measured"


@pytest.mark.fast
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: switching.linear(0, 5), "stiffness of linear.* above 0"),
        (lambda: switching.linear(-1.0, 5), "stiffness of linear.* above 0"),
        (lambda: switching.linear(1.0, 0), "whole number of rounds, at least 1"),
        (lambda: switching.after(-1), "whole number of rounds, at least 0"),
        (lambda: switching.after(1.5), "whole number of rounds"),
        (lambda: switching.frontier(0), "rows_per_round of frontier.* above 0"),
        (lambda: switching.adaptive(0.0), "threshold of adaptive.* above 0"),
        (lambda: switching.calibrated(np.ones(3)), r"\[rounds, rows\]"),
        (lambda: switching.calibrated(np.full((2, 3), 1.5)), "other values"),
        (lambda: switching.calibrated(np.full((2, 3), np.nan)), "other values"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.fast
def test_switches_are_values():
    assert switching.linear(1, 5) == switching.linear(1.0, 5) and hash(switching.after(2)) == hash(switching.after(2))
    assert switching.calibrated(np.eye(3)) == switching.calibrated(np.eye(3).tolist())
