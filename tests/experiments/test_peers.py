"""The leaderboard's methods: each ends on the sequential sample, and the study keeps what it has measured."""

import dataclasses
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from experiments.peers import __main__ as peers
from experiments.peers import chords, fixed_point, measure, methods, ours, parataa, problem, report, srds
from experiments.site import readme
from pcm_jax.sampling.network import draw_step_noise
from tests.problems import VP, noise, skewed

STEPS = 12
EXACT = [name for name, method in methods.METHODS.items() if method.family == "peer"]


def case(kind: str = "ddim", batch: int = 3) -> problem.Case:
    """The exact denoiser of a skewed mixture in three dimensions."""
    solver = {"ddim": pcm.solvers.ddim, "ddpm": pcm.solvers.ddpm}[kind](VP, STEPS, prediction="data")
    first = noise(batch, 3)
    z = draw_step_noise(jax.random.key(1), STEPS, first.shape, first.dtype) if solver.stochastic else None
    made = dataclasses.replace(problem.recurrence(skewed(VP), {}, solver, first, None, z), chunk=4)
    few = None if solver.stochastic else lambda name, steps: pcm.solvers.ddim(VP, steps, prediction="data")
    return problem.Case("mixture", kind, made, None, "", few)


def errors(made: problem.Case, run: problem.Run) -> np.ndarray:
    return np.array([np.max(np.abs(np.asarray(estimate.sample) - made.exact)) for estimate in run(made)])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddim", "ddpm"])
@pytest.mark.parametrize("name", EXACT)
def test_every_variant_ends_on_the_sequential_sample(name, kind):
    made = case(kind)
    variants = list(methods.METHODS[name].variants.values())
    for run in {variants[0], variants[-1]}:
        estimates = list(run(made))
        calls = [estimate.calls for estimate in estimates]
        assert calls == sorted(calls) and np.all(np.diff([e.evaluations for e in estimates]) >= 0)
        assert name == "SRDS" or calls[-1] <= STEPS
        np.testing.assert_allclose(estimates[-1].sample, made.exact, atol=1e-5)


def test_held_coefficients_are_the_solvers_own_step():
    made = case("ddpm").recurrence
    x = made.noise
    step, data = made.advance(jnp.arange(STEPS), jnp.broadcast_to(x, (STEPS, *x.shape)))
    for row in (0, 5, STEPS - 1):
        np.testing.assert_allclose(made.hold(x, data[row], row, row + 1), step[row], atol=1e-5)
    twice = made.hold(made.hold(x, data[0], 2, 5), data[0], 5, 9)
    np.testing.assert_allclose(made.hold(x, data[0], 2, 9), twice, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddim", "ddpm"])
def test_paradigms_is_this_librarys_picard_round_by_round(kind):
    made = case(kind)
    for theirs, own in zip(fixed_point.paradigms(made), ours.ours(made, "Picard"), strict=False):
        assert theirs.calls == own.calls
        np.testing.assert_allclose(theirs.sample, own.sample, atol=1e-5)


@pytest.mark.slow
def test_anderson_without_memory_is_picard():
    made = case()
    plain = fixed_point.iterate(made, parataa.TriangularAnderson(1, "one"))
    for one, other in zip(plain, fixed_point.paradigms(made), strict=True):
        np.testing.assert_allclose(one.sample, other.sample, atol=1e-5)


@pytest.mark.slow
def test_newton_needs_one_round_where_the_steps_are_affine():
    made = case()
    linear = dataclasses.replace(made.recurrence, model_fn=lambda params, x, t, cond: 0.7 * x - 0.1)
    made = dataclasses.replace(made, recurrence=linear)
    first = next(methods.METHODS["DEER, exact Jacobian"].variants[""](made))
    np.testing.assert_allclose(first.sample, made.exact, atol=1e-5)
    # The Jacobian is diagonal, and a probe finds it without noise.
    probed = next(methods.METHODS["quasi-DEER"].variants[""](made))
    np.testing.assert_allclose(probed.sample, made.exact, atol=1e-5)
    assert first.evaluations == STEPS * 4 and probed.evaluations == STEPS * 2


@pytest.mark.fast
def test_depth_of_srds():
    borders = srds.blocks(9)
    assert borders.tolist() == [0, 3, 6, 9]
    # The coarse guess takes three calls, pipelined sweeps end after 5, 8 and 9 calls more at most.
    assert srds.ready(borders, 3) == [[0, 1, 2, 3], [0, 3, 4, 5], [0, 3, 6, 7], [0, 3, 6, 9]]
    made = case()
    found = list(srds.srds(made))
    assert [estimate.calls for estimate in found] == [row[-1] for row in srds.ready(srds.blocks(STEPS), 3)]
    # A first guess of 3 calls; sweeps of 12, 8 and 4 fine calls, and 2, 1 and no coarse ones.
    assert [estimate.evaluations for estimate in found] == [3, 3 + 14, 3 + 14 + 9, 3 + 14 + 9 + 4]


@pytest.mark.fast
def test_chords_ends_core_after_core():
    assert chords.starts(50) == chords.STARTS and chords.starts(100)[-1] == 80
    made = case()
    found = list(chords.chords(made))
    assert chords.starts(STEPS) == (0, 1, 3, 5, 7, 9)
    # Core k starts in round k, after k - 1 coarse jumps; the first estimate is the last core's coarse jump to the end.
    ends = [STEPS - row + index for index, row in reversed(list(enumerate(chords.starts(STEPS))))]
    assert [estimate.calls for estimate in found] == [6, *ends]
    error = errors(made, chords.chords)
    assert error[0] > 10 * error[-1]


@pytest.mark.fast
def test_calls_are_counted_for_each_sample():
    made = case(batch=2)
    made.__dict__["exact"] = np.zeros((2, 3), np.float32)

    def run(_):
        for calls, (one, other) in {1: (0.5, 0.05), 3: (0.05, 0.05), 5: (0.005, 0.2), 9: (0.0, 0.005)}.items():
            yield problem.Estimate(jnp.array([[one] * 3, [other] * 3]), calls, np.array([calls, 2 * calls]))

    outcome = measure.measure(made, run)
    assert outcome["calls"] == [1, 3, 5, 9]
    assert outcome["reached"]["0.1"] == {"calls": 6.0, "p95": 9.0, "evaluations": 10.5, "missed": 0.0}
    assert outcome["reached"]["0.001"]["calls"] is None and outcome["reached"]["0.001"]["missed"] == 0.5
    nowhere = {"far": lambda _: iter([problem.Estimate(jnp.ones((2, 3)), 1, 1.0)]), "near": run}
    assert measure.best(made, nowhere)["variant"] == "near"


@pytest.mark.slow
def test_study_keeps_finished_cells(tmp_path, monkeypatch):
    def toy(config, model, solver):
        return dataclasses.replace(case(solver.split("-")[0].lower()), model=model, solver=solver)

    monkeypatch.setattr(peers, "_case", toy)
    measured = []
    monkeypatch.setattr(peers, "best", lambda made, run: measured.append(made) or measure.best(made, run))
    config = peers.Peers(models=("digits",), methods=("SRDS", "DDIM-10", "ours: PCM"), out=tmp_path)
    quiet = peers.Console(file=io.StringIO())
    cells = peers.run_peers(config, quiet)
    kinds = [(cell["solver"], cell["method"]) for cell in cells]
    # Fewer steps do not apply to a stochastic sampler, PCM not without an adapter.
    assert kinds == [("DDIM-50", "SRDS"), ("DDIM-50", "DDIM-10"), ("DDPM-100", "SRDS")]
    assert peers.run_peers(config, quiet) == cells and len(measured) == len(cells), "nothing is measured again"
    assert json.loads((tmp_path / "peers.json").read_text())["cells"] == cells
    assert (tmp_path / "peers.png").stat().st_size > 5_000
    text = readme.peers({"cells": cells, "device": "cpu", "config": {"seed": 0}})
    assert "| SRDS |" in text and "digits DDIM-50" in text
    with pytest.raises(ValueError, match="there is no 'Diggits'"):
        peers.run_peers(dataclasses.replace(config, models=("Diggits",)), quiet)


@pytest.mark.fast
def test_every_method_has_a_line_of_its_own():
    assert set(report.STYLES) == set(methods.METHODS) - {"ours: Picard"}
    looks = {(style["color"], str(style.get("linestyle")), style.get("marker")) for style in report.STYLES.values()}
    assert len(looks) == len(report.STYLES)
