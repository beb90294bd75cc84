"""A small cut of the campaign: no certified sample further off than its tolerance, and the study's own arithmetic."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import pcm_jax as pcm
from experiments.coverage import analytic, plot, random, shipped

CONSOLE = Console(file=io.StringIO())


@pytest.mark.parametrize("seed", range(100, 106))
def test_random_cases(seed):
    """Six programs of 8 cases of 8 samples, odd ones in float64; that seeds fail at all is one in thousands."""
    found = random.measure(seed, cases=8)
    assert found["samples"] == 64
    assert found["leaked"] == 0 and found["unbounded"] == 0
    assert found["failures"] == []
    assert found["worst_ratio"] <= 1.0


@pytest.mark.slow
def test_the_campaign_finds_what_a_rule_without_a_bound_lets_through():
    """The same cases under ParaDiGMS's rule: the count of the misses is no constant 0."""
    over = 0
    for seed in range(100, 104):
        for index in range(4):
            program = analytic.draw_program(seed)
            case = analytic.run_case(program, seed, index, "float32", certificate=pcm.certificates.last_change())
            judged = case["converged"] & case["finite"]
            over += int(np.sum(judged & (case["error"] > 3 * (case["tol"] + case["allowance"]))))
    assert over > 0


def test_a_summary_counts_and_sorts():
    group = random.measure(3, cases=1)
    bad = group | {"over": 2, "over_3": 1, "worst_ratio": 7.0}
    bad["failures"] = [{"ratio": 2.0}, {"ratio": 7.0}]
    summary = random.summarise([group, bad])
    assert summary["over"] == 2 / summary["counts"]["judged"] and summary["worst_ratio"] == 7.0
    assert [case["ratio"] for case in summary["failures"]] == [7.0, 2.0]


@pytest.mark.slow
def test_shipped_models(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "RESULTS", tmp_path)
    written = {}
    monkeypatch.setattr(shipped, "write_result", lambda name, payload, **_: written.update({name: payload}))
    monkeypatch.setattr(shipped, "record", lambda name, value, **_: written.update({name: value}))
    config = shipped.Shipped(
        models=("digits",), solvers=("DDIM-50",), tolerances=(0.1, 0.01), noises=8, batch=8, out=tmp_path / "cells"
    )
    found = shipped.run_shipped(config, CONSOLE, progress=False)
    assert written["certificate.shipped_over"] == 0
    assert len(found["cells"]) == 4 * 2 * 2 and found["summary"]["certified"] == 8 * 16
    for cell in found["cells"]:
        assert cell["worst_error_over_tol"] <= 1 and cell["median_bound_over_error"] >= 1
    assert (tmp_path / "coverage_shipped.png").stat().st_size > 10_000
    again = shipped.run_shipped(config, CONSOLE, progress=False)  # from the files
    assert again["cells"] == found["cells"]
    assert max(len(curve["error"][0]) for curve in found["curves"]) <= plot.ROUNDS


@pytest.mark.parametrize(
    ("solver", "method"), [("DDIM-50", "PCM"), ("DPM++-20", "secant, prior"), ("DDPM-100", "Picard")]
)
def test_a_run_passes_through_the_samples_of_larger_tolerances(solver, method):
    about = shipped.subject("digits", None)
    table = about.solvers[solver]
    drawn = about.draw(table, 1, 6)
    call = (about.model.model_fn, about.model.params, drawn.pop("noise"), table)
    options = drawn | shipped._options(about, solver, method)
    fine = pcm.sample_picard(*call, tol=3e-3, return_rounds=True, **options)
    for tol in (0.1, 0.01):
        found, wanted = shipped.at_tolerance(fine, tol), pcm.sample_picard(*call, tol=tol, **options)
        for name in ("sample", "error_bound", "converged"):
            np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))
        np.testing.assert_array_equal(found.stats.rounds, wanted.stats.rounds)
    stopped = shipped.at_tolerance(pcm.sample_picard(*call, max_rounds=2, return_rounds=True, **options), 1e-3)
    assert not stopped.converged.any() and np.all(stopped.stats.rounds == 2)


def test_a_broken_sample_is_never_certified():
    """Of one that is not finite the loop says that its bound is 0."""
    table = pcm.solvers.ddim(pcm.schedules.cosine_vp(), 10)

    def broken(params, x, t, cond):
        return jnp.where(t[:, None] < 300, jnp.nan, params * x)

    noise = jax.random.normal(jax.random.key(0), (3, 4))
    fine = pcm.sample_picard(broken, jnp.ones(()), noise, table, tol=1e-3, return_rounds=True)
    found = shipped.at_tolerance(fine, 0.1)
    assert np.all(found.result == pcm.ResultCode.NONFINITE) and np.all(np.isinf(found.error_bound))


def test_solvers_of_the_study():
    about = shipped.subject("digits", None)
    assert set(about.solvers) == {"DDIM-50", "DDIM-100", "DDPM-100", "DPM++-20", "Euler-50", "Heun-20"}
    drawn = about.draw(about.solvers["DDPM-100"], 0, 4)
    assert drawn["step_noise"].shape == (100, 4, *about.shape)
    assert jnp.array_equal(drawn["cond"], jnp.arange(4))
