"""Trajectories on disk: the same as online ones, refused where they are of something else."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from pcm_jax.training import (
    Base,
    FinetuneConfig,
    Labels,
    OptimizerConfig,
    StoredTrajectories,
    collect,
    consistency,
    finetune,
    solve_batch,
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


@pytest.mark.parametrize("name", ["ddim", "ddpm"])
def test_what_is_stored_is_what_the_base_model_does(tmp_path, name):
    solver = problems.SOLVERS[name]()
    gather(tmp_path, solver, rounds=3, num_trajectories=4)
    source = stored(tmp_path, solver, source="picard", rounds=3)
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
        ({"source": "picard", "rounds": 4}, r"holds X\^0 .. X\^2, and 4 rounds are asked for"),
        ({"batch_size": 11}, r"must lie in 1\.\.10"),
        ({"source": "online"}, "choose on_policy or picard"),
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"rounds": 2, "round_weights": (1.0, -1.0)}, "round_weights must be 2 numbers"),
    ],
    ids=["steps", "table", "params", "shape", "rounds", "size", "source", "none", "weights"],
)
def test_a_set_of_something_else_is_refused_before_work_starts(folder, options, message):
    with pytest.raises(ValueError, match=message):
        stored(folder, **options)


def test_bad_sets(tmp_path, folder):
    with pytest.raises(ValueError, match="holds no set of records"):
        stored(tmp_path)
    for options in ({"num_trajectories": 0}, {"rounds": 0}, {"shard_size": 0}):
        with pytest.raises(ValueError, match="must be at least 1"):
            gather(tmp_path, **options)
    with pytest.raises(ValueError, match="holds another set: its seed is 4, not 5"):
        gather(folder, seed=5, rounds=3)
    with pytest.raises(ValueError, match="must give an array or None"):
        gather(tmp_path / "tree", draw_cond=lambda key, size: {"label": jnp.zeros(size, jnp.int32)})


def test_a_gradient_does_not_depend_on_where_the_batch_came_from(folder):
    loss = consistency(MODEL, fresh(), ONES, factored=FACTORED, on_policy=False, target="states")
    batch = next(stored(folder, source="picard", rounds=3)) | {"frozen": BASE}
    online = jax.tree.map(jnp.asarray, batch) | {"x": picard_iterate(
        MODEL, pcm.linearization.identity(), BASE, jax.tree.map(jnp.asarray, batch), batch["round"][0]
    )}  # fmt: skip
    values = [jax.grad(lambda t, b: loss(t, b, jax.random.key(0))[0])(fresh(), b) for b in (batch, online)]
    for a, b in zip(*map(jax.tree.leaves, values), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_finetuning_on_a_stored_set_counts_its_solutions_once_and_goes_on_after_a_stop(folder, tmp_path):
    config = FinetuneConfig(phases=(6, 4), batch_size=4, optimizer=OptimizerConfig(1e-3), heldout=4)

    def run(directory, stored=str(folder)):
        return finetune(
            MODEL, PARAMS, DDIM, SHAPE, fresh(), config, draw_cond=Labels(3), factored=FACTORED, progress=False,
            stored=stored, directory=directory,
        )  # fmt: skip

    whole = run(str(tmp_path / "a"))
    first = run(str(tmp_path / "b"))
    # As after a kill in the second phase: its folder is not there, the first one's is.
    import shutil

    shutil.rmtree(tmp_path / "b" / "phase_1")
    again = run(str(tmp_path / "b"))
    for a, b, c in zip(*map(jax.tree.leaves, (whole.tuned, first.tuned, again.tuned)), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    assert again.evaluations == whole.evaluations
    online = run(None, stored=None)
    # Ten trajectories of three rounds of ten rows, against the same number of trajectories as there were steps.
    made = 10 * 10 * 3
    drawn = 10 * 4 * 10
    assert online.evaluations - whole.evaluations == pytest.approx(drawn - made, abs=8 * 4 * 10 * 8)
