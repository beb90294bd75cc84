import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pcm_jax.data import batch_iterator
from pcm_jax.data.robots import Demonstrations, Episode, Normalizer, chunks


def counted(*lengths):
    """Observations and actions that say where they come from: (episode, step)."""
    episodes = []
    for number, length in enumerate(lengths):
        place = np.stack([np.full(length, number), np.arange(length)], axis=1).astype(np.float32)
        episodes.append(Episode(place, -place, np.zeros(length)))
    return Demonstrations(tuple(episodes), "counted")


def whole(size=2):
    return Normalizer(np.full(size, -1.0, np.float32), np.full(size, 1.0, np.float32))


def reference(length, horizon, before, after):
    """Diffusion Policy's create_indices and sample_sequence: each chunk's steps, written with padding by hand."""
    rows = []
    for start in range(-before, length - horizon + after + 1):
        steps = list(range(max(start, 0), min(start + horizon, length)))
        rows.append([steps[0]] * max(-start, 0) + steps + [steps[-1]] * max(start + horizon - length, 0))
    return rows


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=3),
    obs_horizon=st.integers(1, 4),
    horizon=st.integers(4, 12),
    action_horizon=st.integers(1, 4),
)
def test_chunks_are_those_of_diffusion_policy(lengths, obs_horizon, horizon, action_horizon):
    expected = [
        [(number, step) for step in row]
        for number, length in enumerate(lengths)
        for row in reference(length, horizon, obs_horizon - 1, action_horizon - 1)
    ]
    sizes = {"obs_horizon": obs_horizon, "horizon": horizon, "action_horizon": action_horizon}
    if not expected:
        with pytest.raises(ValueError, match="no episode of counted is long enough"):
            chunks(counted(*lengths), whole(), whole(), **sizes)
        return
    source = chunks(counted(*lengths), whole(), whole(), **sizes)
    assert len(source) == len(expected)
    found = source.gather(np.arange(len(source)))
    np.testing.assert_array_equal(found["x"], -np.asarray(expected))
    np.testing.assert_array_equal(found["cond"], np.asarray(expected)[:, :obs_horizon])


@pytest.mark.fast
def test_batches_of_chunks():
    source = chunks(counted(9, 12), whole(), whole(), horizon=8, action_horizon=4)
    batch = next(batch_iterator(source, 6, seed=0))
    assert batch["x"].shape == (6, 8, 2) and batch["cond"].shape == (6, 2, 2) and batch["x"].dtype == np.float32


@pytest.mark.fast
def test_horizons_and_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"lie in 1..horizon, got 9, 8 and 8"):
        chunks(counted(9), whole(), whole(), obs_horizon=9, horizon=8)
    with pytest.raises(ValueError, match=r"fitted on 3 numbers, got shape \(9, 2\)"):
        chunks(counted(9), whole(3), whole(), horizon=8)


finite = st.floats(-1e4, 1e4, width=32)


@example(np.array([[0.0], [1e-45]], np.float32))
@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 8), st.integers(1, 4)), elements=finite))
def test_a_normaliser_fills_the_interval_and_inverts(data):
    fitted = Normalizer.fit(data)
    inside = np.asarray(fitted.normalize(data))
    assert np.abs(inside).max() <= 1 + 1e-5
    spread = np.asarray(fitted.range)
    moves = (data.max(0) - data.min(0)) > np.maximum(1e-6 * np.abs(data).max(0), 1e-30)
    assert np.all(inside[:, ~moves] == 0)
    np.testing.assert_allclose(inside[:, moves].max(0), 1, atol=1e-5)
    np.testing.assert_allclose(inside[:, moves].min(0), -1, atol=1e-5)
    back = np.asarray(fitted.unnormalize(inside))
    allowed = np.maximum(1e-6 * np.abs(data).max(0), 1e-30) + 1e-5 * spread * moves
    assert np.all(np.abs(back - data) <= allowed)


@pytest.mark.fast
def test_normalisers_of_nothing():
    with pytest.raises(ValueError, match=r"fitted on data \[.., n\]"):
        Normalizer.fit(np.zeros(3))
    with pytest.raises(ValueError, match="NaN or inf"):
        Normalizer.fit(np.array([[0.0, np.nan]]))
    with pytest.raises(ValueError, match=r"fitted on 2 numbers, got shape \(5, 3\)"):
        whole().normalize(np.zeros((5, 3)))
