"""Demonstrations of robots: `Episode`, `Demonstrations` and `chunks` of what nothing can mean."""

import math

import numpy as np
import pytest

from pcm_jax.data.robots import Demonstrations, Episode, Normalizer, chunks

pytestmark = pytest.mark.fast
SEEN, DONE, GOT = np.zeros((20, 3), np.float32), np.zeros((20, 2), np.float32), np.zeros(20, np.float32)
EPISODE = Episode(SEEN, DONE, GOT)
SET = Demonstrations((EPISODE,), "toy")
RANGES = Normalizer(np.zeros(3), np.ones(3)), Normalizer(np.zeros(2), np.ones(2))


@pytest.mark.parametrize("value", ["a", None, 3.0, object(), np.full((20, 2), math.nan), SEEN[:3], SEEN[:0]])
def test_episodes(value):
    for arrays in ((value, DONE, GOT), (SEEN, value, GOT), (SEEN, DONE, value)):
        with pytest.raises(ValueError, match=r"observation|action|reward|episode"):
            Episode(*arrays)


@pytest.mark.parametrize("value", [(), None, 3, "a", (3,), [EPISODE], EPISODE])
def test_demonstrations(value):
    with pytest.raises(ValueError, match="episodes"):
        Demonstrations(value, "toy")


@pytest.mark.parametrize("name", ["obs_horizon", "horizon", "action_horizon"])
@pytest.mark.parametrize("value", [0, -1, 2.5, math.nan, True, "a", None, np.ones(2)])
def test_horizons(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a whole number of at least 1"):
        chunks(SET, *RANGES, **{name: value})


@pytest.mark.parametrize("given", [(3, *RANGES), (SET, None, RANGES[1]), (SET, RANGES[0], "a")])
def test_what_chunks_are_of(given):
    with pytest.raises(ValueError, match=r"must be Demonstrations|must be a Normalizer"):
        chunks(*given)


def test_right_ones_pass():
    assert len(chunks(SET, *RANGES, horizon=8, action_horizon=4)) == 20 + 1 + 4 - 8
