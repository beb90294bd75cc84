"""The study of schedulers: what counts as the same, what is refused, and what is left out."""

import json

import jax
import numpy as np
import pytest

from experiments.parity import schedulers

FULL = {"_class_name": "DDIMScheduler", "beta_schedule": "linear", "clip_sample": False}


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def reference(folder, wrong=0, rounded=0, refused=0, failed=0, right=1):
    """A folder as make_schedulers.py writes it, of one configuration many times."""
    sample = schedulers.sample(schedulers.solver_of(FULL, 3, {}))
    case = {"name": "DDIMScheduler", "config": {}, "steps": 3, "call": {}, "full": FULL, "moves": 1e-7}
    cases = [case] * right + [case] * wrong + [case | {"moves": 1e-3}] * rounded
    cases += [case | {"full": FULL | {"prediction_type": "flow"}}] * refused
    arrays = {str(number): sample for number in range(len(cases))}
    arrays |= {str(number): 1.001 * sample for number in range(right, right + wrong + rounded)}
    arrays |= {f"{number}/float64": sample for number in range(right + wrong, right + wrong + rounded)}
    cases += [{key: case[key] for key in ("name", "config", "steps", "call")} | {"error": "IndexError"}] * failed
    np.savez(folder / "schedulers.npz", **arrays)
    (folder / "schedulers.json").write_text(json.dumps({"versions": {"diffusers": "0"}, "cases": cases}))
    return folder


def run(tmp_path, **counts):
    out = tmp_path / "results"
    out.mkdir()
    schedulers.main(schedulers.Config(reference(tmp_path, **counts), results=out))
    return json.loads((out / "schedulers.json").read_text()), json.loads((out / "figures.json").read_text())


def test_the_figures_are_shares_of_what_diffusers_runs(tmp_path):
    result, figures = run(tmp_path, right=2, rounded=1, failed=1)
    assert figures["schedulers.same"]["value"] == 1 and figures["schedulers.refused"]["value"] == 0
    assert result["counts"] == {"DDIMScheduler": {"same": 2, "same as float64": 1}}
    assert result["not_run_by_diffusers"] == 1


def test_too_many_that_differ_or_are_refused_fail_the_study(tmp_path):
    with pytest.raises(SystemExit):
        run(tmp_path, right=2, wrong=1, refused=1)
    result = json.loads((tmp_path / "results" / "schedulers.json").read_text())
    assert result["counts"] == {"DDIMScheduler": {"same": 2, "differs": 1, "refused": 1}}
    assert {other["is"] for other in result["others"]} == {"differs", "refused"}
    assert any("prediction_type = 'flow'" in str(other["why"]) for other in result["others"])


def test_a_sample_that_is_not_finite_is_another(tmp_path):
    expected = np.ones((2, 3))
    assert schedulers.difference(np.full((2, 3), np.nan), expected) == float("inf")
    assert schedulers.difference(expected + 1e-3, expected) == pytest.approx(1e-3)
