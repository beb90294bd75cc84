"""Trajectories on disk: the same as online ones, refused where they are of something else."""

import dataclasses
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from pcm_jax import training
from pcm_jax.guidance import classifier_free
from pcm_jax.training import (
    Base,
    FinetuneConfig,
    Labels,
    OptimizerConfig,
    StoredTrajectories,
    TrainConfig,
    collect,
    consistency,
    finetune,
    solve_batch,
    train,
)
from pcm_jax.training.trajectories import picard_iterate
from tests import problems
from tests.training.tiny import BASE, DDIM, FACTORED, MODEL, ONES, PARAMS, SHAPE, fresh


def gather(directory, solver=DDIM, params=PARAMS, **options):
    given = {"num_trajectories": 10, "seed": 4, "draw_cond": Labels(3), "shard_size": 4, "progress": False} | options
    return collect(MODEL, params, solver, SHAPE, directory, **given)


def stored(directory, solver=DDIM, params=PARAMS, shape=SHAPE, **options):
    return StoredTrajectories(directory, params, solver, shape, **{"batch_size": 4, "rounds": 1, "seed": 0} | options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return gather(tmp_path_factory.mktemp("set"), rounds=3)


@pytest.mark.parametrize("name", ["ddim", "ddpm", "dpm_solver_pp"])
def test_what_is_stored_is_what_the_base_model_does(tmp_path, name):
    solver = problems.SOLVERS[name]()
    gather(tmp_path, solver, rounds=3, num_trajectories=4)
    source = stored(tmp_path, solver, source="picard", rounds=3, model_fn=MODEL)
    base = Base(PARAMS, solver)
    # The first and only shard of four, drawn as solve_batch draws it.
    made = solve_batch(MODEL, base, SHAPE, 4, Labels(3), jax.random.fold_in(jax.random.key(4), 0))
    seen = set()
    for _ in range(8):
        batch = next(source)
        order = [int(np.argmin(np.abs(np.asarray(made["exact"][:, 0]) - row[0]).sum(1))) for row in batch["exact"]]
        assert sorted(order) == [0, 1, 2, 3]
        np.testing.assert_allclose(batch["exact"], made["exact"][np.array(order)], atol=1e-6)
        np.testing.assert_array_equal(batch["cond"], made["cond"][np.array(order)])
        assert (batch["step_noise"] is None) == (not solver.stochastic)
        k = int(batch["round"][0])
        wanted = picard_iterate(MODEL, pcm.linearization.identity(), base, made, k)[np.array(order)]
        np.testing.assert_allclose(batch["x"], wanted, atol=1e-5)
        seen.add(k)
    assert seen == {0, 1, 2}


def test_a_stopped_collection_ends_with_the_same_bytes(tmp_path):
    gather(tmp_path / "whole")
    calls = 0

    def breaks(key, size):
        nonlocal calls
        calls += not isinstance(key, jax.core.Tracer)
        if calls == 2:
            raise KeyboardInterrupt
        return Labels(3)(key, size)

    with pytest.raises(KeyboardInterrupt):
        gather(tmp_path / "stopped", draw_cond=breaks)
    with pytest.raises(ValueError, match="is not complete, 1 of 3 shards"):
        stored(tmp_path / "stopped")
    gather(tmp_path / "stopped")
    for path in sorted((tmp_path / "whole").iterdir()):
        assert (tmp_path / "stopped" / path.name).read_bytes() == path.read_bytes(), path.name


def test_what_made_the_set_is_written_beside_it(folder):
    kept = json.loads((folder / "records.json").read_text())
    assert kept["notes"]["versions"]["jax"] == importlib.metadata.version("jax")
    assert kept["about"]["seed"] == 4 and kept["about"]["rounds"] == 3


def test_training_without_stored_sets_needs_no_data_library():
    blocked = "import sys; sys.modules.update(dict.fromkeys(('grain', 'tensorflow_datasets', 'array_record')))"
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", f"{blocked}; import pcm_jax.training"], cwd=root, check=True)


def test_positions_and_epochs(folder):
    first = stored(folder, source="picard", rounds=3)
    batches = [next(first) for _ in range(5)]
    state = json.loads(json.dumps(first.get_state()))
    after = next(first)
    second = stored(folder, source="picard", rounds=3)
    second.set_state(state)
    for name, value in next(second).items():
        np.testing.assert_array_equal(value, after[name])
    noises = {row[0].tobytes() for batch in batches for row in batch["exact"]}
    assert len(noises) == 10, "two epochs of ten hold all of them"
    only = stored(folder, source="picard", rounds=3, round_weights=(0, 0, 1))
    assert {int(next(only)["round"][0]) for _ in range(4)} == {2}


OTHER = pcm.solvers.ddim(problems.VP, 12, prediction="data")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": OTHER}, "collected with another solver: 'ddim.* 10 steps.*Collect it again"),
        ({"solver": dataclasses.replace(DDIM, a=2 * np.asarray(DDIM.a))}, "another solver"),
        ({"params": jax.tree.map(lambda leaf: leaf + 1e-3, PARAMS)}, "another parameters"),
        ({"shape": (7,)}, "another sample shape"),
        ({"source": "picard", "rounds": 2, "linearization": pcm.linearization.secant()}, "another linearization"),
        (
            {"model_fn": classifier_free(MODEL, 1.5, 3)},
            "another model function: .* Pass the model_fn .guidance and all",
        ),
        ({"source": "picard", "rounds": 4}, r"holds X\^0 .. X\^2, and 4 rounds are asked for"),
        ({"batch_size": 11}, r"must lie in 1\.\.10"),
        ({"source": "online"}, "choose on_policy or picard"),
        ({"rounds": 0}, "rounds must be a whole number of at least 1"),
        ({"rounds": 2, "round_weights": (1.0, -1.0)}, "round_weights must be 2 numbers"),
    ],
    ids=["steps", "table", "params", "shape", "slope", "guidance", "rounds", "size", "source", "none", "weights"],
)
def test_a_set_of_something_else_is_refused_before_work_starts(folder, options, message):
    with pytest.raises(ValueError, match=message):
        stored(folder, **options)


def test_bad_sets(tmp_path, folder):
    with pytest.raises(ValueError, match="holds no set of records"):
        stored(tmp_path)
    for options in ({"num_trajectories": 0}, {"rounds": 0}, {"shard_size": 0}):
        with pytest.raises(ValueError, match="must be a whole number of at least 1"):
            gather(tmp_path, **options)
    with pytest.raises(ValueError, match="holds another set: its seed is 4, not 5"):
        gather(folder, seed=5, rounds=3)
    with pytest.raises(ValueError, match="must give an array, a mapping"):
        gather(tmp_path / "tree", draw_cond=lambda key, size: {"label": [jnp.zeros(size, jnp.int32)]})


def test_a_gradient_does_not_depend_on_where_the_batch_came_from(folder):
    loss = consistency(MODEL, fresh(), ONES, factored=FACTORED, on_policy=False, target="states")
    batch = next(stored(folder, source="picard", rounds=3)) | {"frozen": BASE}
    online = jax.tree.map(jnp.asarray, batch) | {"x": picard_iterate(
        MODEL, pcm.linearization.identity(), BASE, jax.tree.map(jnp.asarray, batch), batch["round"][0]
    )}  # fmt: skip
    gradient = jax.jit(jax.grad(lambda tuned, given: loss(tuned, given, jax.random.key(0))[0]))
    values = [gradient(fresh(), given) for given in (batch, online)]
    for a, b in zip(*map(jax.tree.leaves, values), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_training_killed_between_checkpoints_ends_with_the_same_parameters(folder, tmp_path):
    loss = consistency(MODEL, fresh(), ONES, factored=FACTORED, on_policy=False, rows=3)

    class Killed(StoredTrajectories):
        def __next__(self):
            if self.get_state() == {"step": 5}:
                raise KeyboardInterrupt
            return super().__next__()

    def run(directory, kind=StoredTrajectories):
        batches = kind(folder, PARAMS, DDIM, SHAPE, batch_size=4, rounds=3, seed=0, source="picard")
        config = TrainConfig(7, OptimizerConfig(1e-3), str(directory), checkpoint_every=2, progress=False)
        return train(config, loss, fresh(), batches, jax.random.key(1), frozen=BASE)

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", Killed)
    resumed = run(tmp_path / "killed")
    for a, b in zip(*map(jax.tree.leaves, ((whole.params, whole.ema), (resumed.params, resumed.ema))), strict=True):
        np.testing.assert_array_equal(a, b)


CONFIG = FinetuneConfig(phases=(6, 4), batch_size=4, optimizer=OptimizerConfig(1e-3), heldout=4)


def tune(stored, config=CONFIG, **options):
    return finetune(
        MODEL, PARAMS, DDIM, SHAPE, fresh(), config, draw_cond=Labels(3), factored=FACTORED, progress=False,
        stored=str(stored), **options,
    )  # fmt: skip


def test_finetuning_on_a_stored_set_counts_its_solutions_once_and_goes_on_after_a_stop(folder, tmp_path, monkeypatch):
    measured = []
    calibrate = training.finetune.__globals__["calibrate"]

    def counted(*arguments, **options):
        measured.append(calibrate(*arguments, **options))
        return measured[-1]

    monkeypatch.setitem(training.finetune.__globals__, "calibrate", counted)
    whole = tune(folder, directory=str(tmp_path / "a"))
    table = measured[0].table if len(measured[0].table) else ONES
    losses = [consistency(MODEL, fresh(), rows, factored=FACTORED) for rows in (ONES, table)]
    # Four held-out noises; ten trajectories of an exact solution and two rounds; one of them stepped along, as a check.
    solved = 10 * (4 + 10 * 3 + 1)
    trained = sum(n * 4 * loss.evaluations(10, stored=True) for n, loss in zip((6, 4), losses, strict=True))
    # The error curve at the end of both phases: six rounds.
    watched = 2 * 6 * 4 * 10
    assert whole.evaluations == solved + trained + watched + sum(one.evaluations for one in measured)

    def stop(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tune(folder, directory=str(tmp_path / "b"), report=stop)
    assert not (tmp_path / "b" / "phase_1").exists()
    again = tune(folder, directory=str(tmp_path / "b"))
    for a, b in zip(*map(jax.tree.leaves, (whole.tuned, again.tuned)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert again.evaluations == whole.evaluations


def test_stored_evaluations():
    loss = consistency(MODEL, fresh(), np.ones((3, 10)), factored=FACTORED, rows=4)
    # The solution, one round before on average, four rows with a gradient.
    assert loss.evaluations(10) == 10 + 10 + 3 * 4
    assert loss.evaluations(10, stored=True) == 10 + 3 * 4
    assert dataclasses.replace(loss, on_policy=False).evaluations(10, stored=True) == 3 * 4


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"seed": 4}, "the seed of the held-out noises too.* choose another seed"),
        ({"paper": True, "paper_rounds": 4}, "4 rounds are asked for"),
        ({"loss": (("on_policy", False),), "calibration_rounds": 5}, "5 rounds are asked for"),
        ({"batch_size": 11}, r"must lie in 1\.\.10"),
    ],
    ids=["seed", "paper", "later phase", "size"],
)
def test_finetuning_refuses_a_set_before_anything_is_computed(folder, monkeypatch, config, message):
    monkeypatch.setitem(training.finetune.__globals__, "solve_batch", None)
    with pytest.raises(ValueError, match=message):
        tune(folder, dataclasses.replace(CONFIG, **config))


def test_the_seed_of_the_heldout_noises_would_draw_them_into_the_set(folder):
    """Why that seed is refused."""
    heldout_key, _ = jax.random.split(jax.random.key(4))
    heldout = solve_batch(MODEL, BASE, SHAPE, 4, Labels(3), heldout_key)["exact"][:, 0]
    inside = {row[0].tobytes() for row in stored(folder, batch_size=10).records.rows(range(10))["exact"]}
    assert {np.asarray(row).tobytes() for row in heldout} <= inside


def test_a_condition_of_several_arrays_is_stored_too(tmp_path):
    """Prompts and negative prompts, for guidance inside the loop."""
    guided = pcm.guidance.prompt_guided(MODEL, 2.0)

    def draw(key, size):
        return pcm.guidance.prompts(jax.random.randint(key, (size,), 0, 3), jnp.full(1, 3, jnp.int32))

    collect(guided, PARAMS, DDIM, SHAPE, tmp_path, num_trajectories=4, seed=4, draw_cond=draw, progress=False)
    batch = next(stored(tmp_path, model_fn=guided))
    assert set(batch["cond"]) == {"prompt", "negative"} and batch["cond"]["negative"].tolist() == [3] * 4
    made = solve_batch(guided, BASE, SHAPE, 4, draw, jax.random.fold_in(jax.random.key(4), 0))
    assert sorted(batch["cond"]["prompt"].tolist()) == sorted(made["cond"]["prompt"].tolist())
    with pytest.raises(ValueError, match="another model function"):
        stored(tmp_path, model_fn=pcm.guidance.prompt_guided(MODEL, 9.0))
