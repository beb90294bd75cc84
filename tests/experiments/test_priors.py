"""The command that writes priors, on a few samples of the digits model, and its measurement."""

import numpy as np
import pytest
from rich.console import Console

from experiments.models.priors import Fit, Measure, _reached, run_fit, run_measure
from pcm_jax.pretrained import load_metadata, load_prior


@pytest.mark.slow
def test_fit_and_measure(tmp_path):
    small = {"samples": 60, "batch_size": 30, "steps": 5, "rank": 4}
    path = run_fit(Fit(out=tmp_path / "small.safetensors", parts=tmp_path, **small), Console(quiet=True))
    assert load_prior(path).basis.shape == (11, 64, 4)
    about = load_metadata(path)["about"]
    assert about["command"].endswith("fit --model digits --samples 60 --rank 4 --steps 5 --batch-size 30")
    measured = run_measure(Measure(prior=path, steps=6, samples=4, rounds=6, write=False), Console(quiet=True))
    for name in ("copies of the noise", "guess", "guess, parallel"):
        error = measured[name]["error"]
        assert error.shape == (7,) and error[-1] < 1e-4 < error[0]
    assert measured["guess"]["error"][0] < measured["copies of the noise"]["error"][0] / 2


def test_the_first_round_within_a_level():
    error = np.array([[1.0, 1.0, 0.1], [0.5, 1.0, 0.1], [0.1, 1.0, 0.2]])
    np.testing.assert_array_equal(_reached(error, 0.1), [2, 3, 0])
