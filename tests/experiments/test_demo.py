"""The demo's table holds what a fair comparison needs."""

import io

import numpy as np
import pytest
from rich.console import Console

import pcm_jax as pcm
from experiments.common import plots, study
from experiments.demo import __main__ as demo

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outcome():
    config = demo.Config(images=2, solvers=("DDIM-50", "DPM-Solver++-20"), switch_images=2, switch_rounds=6)
    return demo.run(config, Console(file=io.StringIO()))


def test_every_solver_with_every_method(outcome):
    rows = outcome["rows"]
    methods = ["sequential", "Picard", "Picard + secant", "secant + prior"]
    # An adapter is shipped for the first solver.
    assert [row["method"] for row in rows] == [*methods, "PCM + secant", *methods]
    # The strong few-step sampler stands in the same table (trap 13).
    assert set(demo.Config().solvers) == {"DDIM-50", "DDIM-100", "DDPM-100", "DPM-Solver++-20"}
    for row in rows:
        assert row["result"] == "CONVERGED" and row["seconds"] > 0
        assert row["evaluations"] > 0 and row["rounds"] > 0
        if row["method"] == "sequential":
            assert row["max_difference"] == 0 and row["speedup"] == 1
        else:
            assert 0 < row["max_difference"] < 0.1 and row["speedup"] > 2
            assert row["worst_error"] <= row["error_bound"] <= demo.Config().tol


def test_shorter_samplers_are_further_off_the_fewer_steps_they_take(outcome):
    ten, twenty = outcome["few"]
    assert (ten["solver"], ten["rounds_mean"], twenty["rounds_mean"]) == ("DDIM-10", 10, 20)
    assert ten["rms_error"] > twenty["rms_error"] > demo.Config().tol


def test_curves_end_where_the_rows_do(outcome):
    rounds = {(row["solver"], row["method"]): row for row in outcome["rows"]}
    for curve in outcome["curves"]:
        row = rounds[curve["solver"], curve["method"]]
        assert len(curve["error"]) == len(curve["bound"]) == row["rounds"]
        assert curve["error"][-1] == pytest.approx(row["rms_error"], rel=1e-3)
        assert curve["error"][0] > curve["error"][-1]


def test_the_same_images_stand_side_by_side(outcome):
    reference, *others = outcome["panels"].values()
    assert len(others) == 4
    for images in others:
        np.testing.assert_allclose(images, reference, atol=0.1)


def test_every_switch_has_a_curve_and_pcm_leads_at_first(outcome):
    curves = {curve["method"]: curve["error"] for curve in outcome["switches"]}
    assert {name.split(" ")[0].split("(")[0].rstrip(",") for name in curves} == {
        "always", "after", "linear", "frontier", "adaptive", "never", "calibrated",
    }  # fmt: skip
    assert curves["calibrated (PCM + secant)"][0] < 0.6 * curves["never (Picard + secant)"][0]
    assert curves["calibrated, preview"][1] < 0.8 * curves["calibrated (PCM + secant)"][1]
    # always() never lets go of its own fixed point.
    assert curves["always"][-1] > 5 * curves["calibrated (PCM + secant)"][-1]


def test_the_pictures(outcome, tmp_path):
    plots.rounds_grid(outcome["early"], outcome["reference"], tmp_path / "rounds.png")
    plots.errors(outcome["switches"], tmp_path / "switches.png", exact=0.01)
    for name in ("rounds", "switches"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5_000
    assert [len(after) for after in outcome["early"].values()] == 4 * [4]


def test_timed_runs_compute_the_sample():
    model = pcm.pretrained.load("digits")
    solver = pcm.solvers.ddim(model.schedule, 4, prediction=model.prediction, clip=model.clip)
    case = study.problem(model, solver, batch=2, seed=1)
    out, seconds = study.timed(study.Problem.picard, case, tol=0.0)
    assert seconds > 0
    np.testing.assert_allclose(out.sample, case.sequential().sample, atol=1e-5)
    other = study.problem(model, solver, batch=2, seed=2)
    assert not np.array_equal(other.noise, case.noise)
