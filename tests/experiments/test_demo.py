"""The demo's table holds what a fair comparison needs, and the benchmark reads compiled programs rightly."""

import io

import jax
import numpy as np
import pytest
from rich.console import Console

import pcm_jax as pcm
from experiments import demo, study
from experiments.bench_spmd import collective_bytes


@pytest.fixture(scope="module")
def outcome():
    config = demo.Config(images=2, solvers=("DDIM-50", "DPM-Solver++-20"))
    return demo.run(config, Console(file=io.StringIO()))


def test_every_solver_with_every_method(outcome):
    rows = outcome["rows"]
    assert [row["method"] for row in rows] == 2 * ["sequential", "Picard", "Picard + secant"]
    # The strong few-step sampler stands in the same table (trap 13).
    assert set(demo.Config().solvers) == {"DDIM-50", "DDIM-100", "DDPM-100", "DPM-Solver++-20"}
    for row in rows:
        assert row["result"] == "CONVERGED" and row["seconds"] > 0
        assert row["evaluations"] > 0 and row["rounds"] > 0
        if row["method"] == "sequential":
            assert row["max_difference"] == 0 and row["speedup"] == 1
        else:
            assert 0 < row["max_difference"] < 0.1 and row["speedup"] > 2
            assert row["residual"] <= demo.Config().tol


def test_curves_end_where_the_rows_do(outcome):
    rounds = {(row["solver"], row["method"]): row for row in outcome["rows"]}
    for curve in outcome["curves"]:
        row = rounds[curve["solver"], curve["method"]]
        assert len(curve["error"]) == len(curve["residual"]) == row["rounds"]
        assert curve["error"][-1] == pytest.approx(row["rms_error"], rel=1e-3)
        assert curve["error"][0] > curve["error"][-1]


def test_the_same_images_stand_side_by_side(outcome):
    reference, *others = outcome["panels"].values()
    assert len(others) == 2
    for images in others:
        np.testing.assert_allclose(images, reference, atol=0.1)


def test_timed_runs_compute_the_sample():
    model = pcm.pretrained.load("digits")
    solver = pcm.solvers.ddim(model.schedule, 4, prediction=model.prediction, clip=model.clip)
    case = study.problem(model, solver, batch=2, seed=1)
    out, seconds = study.timed(study.Problem.picard, case, tol=0.0)
    assert seconds > 0
    np.testing.assert_allclose(out.sample, case.sequential().sample, atol=1e-5)
    other = study.problem(model, solver, batch=2, seed=2)
    assert not np.array_equal(other.noise, case.noise)


def test_collective_bytes_of_a_program():
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("rows")
    gather = jax.shard_map(
        lambda x: jax.lax.all_gather(x, "rows", tiled=True), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False
    )
    program = jax.jit(gather).lower(np.zeros((16, 10), np.float32)).compile()
    assert collective_bytes(program.as_text()) == {"all-gather": 16 * 10 * 4}
