"""Fine-tuning: what the loss compares, that it learns, goes on where it was, and that the switch is measured."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from pcm_jax import networks, switching
from pcm_jax.recurrence.linearization import identity, secant
from pcm_jax.training import (
    Base,
    FinetuneConfig,
    Labels,
    OnlineTrajectories,
    OptimizerConfig,
    calibrate,
    consistency,
    error_per_round,
    finetune,
    train,
)
from pcm_jax.training.rounds import advance, begin
from pcm_jax.training.trainer import TrainConfig
from tests import problems
from tests.priors import models
from tests.training.tiny import BASE, DDIM, FACTORED, MODEL, ONES, PARAMS, SHAPE, batch, fresh


def stream(source="on_policy", rounds=1, **options):
    return OnlineTrajectories(
        MODEL, PARAMS, DDIM, SHAPE, batch_size=4, rounds=rounds, seed=3, draw_cond=Labels(3), source=source, **options
    )


@pytest.mark.parametrize("name", ["ddim", "ddpm", "dpm_solver_pp", "ddim-clip"])
@pytest.mark.parametrize("slope", [identity(), secant()])
@pytest.mark.parametrize("prior", [None, models.prior(shape=SHAPE)], ids=["copies", "prior"])
def test_the_trainers_rounds_are_the_samplers(name, slope, prior):
    """Same last state after every round and same states after four, with the switch in the loop, for another model."""
    solver = problems.SOLVERS[name]()
    made = batch(solver)
    z = None if made["step_noise"] is None else jnp.moveaxis(made["step_noise"], 0, 1)
    table = (np.arange(len(solver)) >= np.array([[5], [7]])).astype(np.float32)
    adapter = switching.FeatureSpace(jax.tree.map(lambda leaf: 1.1 * leaf, PARAMS))
    base = Base(PARAMS, solver, prior)
    out = pcm.sample_picard(
        MODEL,
        PARAMS,
        made["exact"][:, 0],
        solver,
        cond=made["cond"],
        step_noise=z,
        linearization=slope,
        prior=prior,
        tol=0,
        max_rounds=4,
        adapter=adapter,
        switch=switching.calibrated(table),
        return_trajectory=True,
        return_rounds=True,
    )
    one_round = jax.jit(lambda at, share: advance(MODEL, base, adapter, at, made["cond"], z, share, slope))
    at = begin(MODEL, base, made["exact"][:, 0], made["cond"], z)
    for k in range(4):
        at = one_round(at, jnp.asarray(table[k] if k < 2 else np.zeros(len(solver), np.float32)))
        np.testing.assert_allclose(at.x[-1], out.iterates[k], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(at.x, out.trajectory, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("target", ["drifts", "states"])
def test_the_loss_vanishes_on_the_fixed_point_and_only_there(target):
    made = batch()
    options = {"factored": FACTORED, "on_policy": False, "target": target, "alpha": False}
    loss = consistency(MODEL, fresh(), ONES, **options)
    key = jax.random.key(0)
    assert loss(fresh(), made | {"x": made["exact"]}, key)[0] < 1e-9
    elsewhere = made | {"x": jnp.broadcast_to(made["exact"][:, :1], made["exact"].shape)}
    value = loss(fresh(), elsewhere, key)[0]
    assert value > 1e-3
    # On-policy round 0 starts from exactly that.
    np.testing.assert_allclose(dataclasses.replace(loss, on_policy=True)(fresh(), made, key)[0], value, rtol=1e-5)


def test_distances_weights_and_rows():
    made, key = batch(), jax.random.key(0)
    plain = consistency(MODEL, fresh(), ONES, factored=FACTORED, alpha=False)
    base, metrics = plain(fresh(), made, key)
    weighted, _ = dataclasses.replace(plain, alpha=True)(fresh(), made, key)
    np.testing.assert_allclose(weighted, base / metrics["spread"], rtol=1e-5)
    huber, _ = dataclasses.replace(plain, distance="pseudo_huber")(fresh(), made, key)
    assert 0 < huber < jnp.sqrt(base)
    sampled = jax.jit(dataclasses.replace(plain, rows=3))
    few = [sampled(fresh(), made, jax.random.key(seed))[0] for seed in range(40)]
    np.testing.assert_allclose(np.mean(few), base, rtol=0.15)
    # Only rows with lambda = 1 count: the last row alone.
    last = dataclasses.replace(plain, table=((0.0,) * 9 + (1.0,),))
    some = dataclasses.replace(last, rows=3)
    np.testing.assert_allclose(last(fresh(), made, key)[0], some(fresh(), made, key)[0], rtol=1e-5)
    low, _ = dataclasses.replace(plain, dtype="bfloat16")(fresh(), made, key)
    assert low != base
    np.testing.assert_allclose(low, base, rtol=0.1)


@pytest.mark.fast
def test_bad_objectives():
    for table, message in (
        (np.zeros((1, 10)), "zeros and ones with a one"),
        (np.full((1, 10), 0.5), "zeros and ones"),
        (np.eye(10)[:1].repeat(2, 0) * [[1], [0]], "drop rounds without one"),
    ):
        with pytest.raises(ValueError, match=message):
            consistency(MODEL, fresh(), table, factored=FACTORED)
    with pytest.raises(ValueError, match="use target='drifts'"):
        consistency(MODEL, fresh(), ONES, factored=FACTORED, rows=3, target="states")
    with pytest.raises(ValueError, match="factored form"):
        consistency(MODEL, fresh(), ONES)
    with pytest.raises(ValueError, match="factored form"):
        consistency(MODEL, PARAMS, ONES, factored=FACTORED)
    with pytest.raises(ValueError, match="use target='states'"):
        solver = problems.SOLVERS["dpm_solver_pp"]()
        table = np.ones((1, len(solver)))
        consistency(MODEL, fresh(), table, factored=FACTORED)(fresh(), batch(solver), jax.random.key(0))
    with pytest.raises(ValueError, match="choose on_policy or picard"):
        stream("offline")
    with pytest.raises(ValueError, match="phases"):
        FinetuneConfig(phases=())


@pytest.mark.fast
def test_a_stream_is_its_position():
    first = stream("picard", rounds=3)
    batches = [next(first) for _ in range(3)]
    state = json.loads(json.dumps(first.get_state()))
    after = next(first)
    second = stream("picard", rounds=3)
    second.set_state(state)
    for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(next(second)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(batches[0]["exact"], batches[1]["exact"])
    assert {int(b["round"][0]) for b in batches} <= {0, 1, 2}
    for made in batches:
        assert made["x"].shape == made["exact"].shape
        # After k rounds the first k states are the exact ones.
        k = int(made["round"][0])
        np.testing.assert_allclose(made["x"][:, : k + 1], made["exact"][:, : k + 1], atol=1e-5)


SHORT = FinetuneConfig(
    phases=(60, 60), batch_size=16, optimizer=OptimizerConfig(1e-2, warmup_steps=5, ema_decay=0.9), heldout=16
)


def tune(config=SHORT, tuned=None, factored=FACTORED, **options):
    tuned = fresh(4) if tuned is None else tuned
    return finetune(
        MODEL, PARAMS, DDIM, SHAPE, tuned, config, draw_cond=Labels(3), factored=factored, progress=False, **options
    )


@pytest.mark.parametrize("what", ["lora", "full", "paper"])
def test_finetuning_makes_the_first_rounds_better(what):
    if what == "full":
        result = tune(tuned=PARAMS, factored=None)
        adapter = switching.FeatureSpace(result.tuned)
    else:
        result = tune(dataclasses.replace(SHORT, paper=what == "paper", paper_rounds=3))
        adapter = networks.factored(MODEL, result.tuned)
    assert len(result.calibration.table) >= 1, "the fine-tuned model is worth a round"
    made = batch(size=32, seed=77)
    table = jnp.asarray(result.calibration.table)
    plain = error_per_round(MODEL, secant(), 3, BASE, None, made, table)
    better = error_per_round(MODEL, secant(), 3, BASE, adapter, made, table)
    assert better[0] < 0.7 * plain[0]
    assert result.evaluations > 0
    out = pcm.sample_picard(
        MODEL,
        PARAMS,
        made["exact"][:, 0],
        DDIM,
        cond=made["cond"],
        adapter=adapter,
        switch=switching.calibrated(result.calibration.table),
        tol=1e-4,
    )
    assert np.asarray(out.converged).all()
    np.testing.assert_allclose(out.sample, made["exact"][:, -1], atol=2e-3)


@pytest.mark.fast
def test_a_useless_model_gets_no_round():
    wrong = switching.FeatureSpace(jax.tree.map(lambda leaf: 3.0 * leaf, PARAMS))
    result = calibrate(MODEL, BASE, wrong, batch(size=16, seed=3))
    assert result.table.shape == (0, 10) and result.borders == ()
    same = calibrate(MODEL, BASE, switching.FeatureSpace(PARAMS), batch(size=16, seed=3))
    assert len(same.table) == 0, "the base model itself brings nothing"
    np.testing.assert_allclose(same.base_error, same.tuned_error, atol=1e-6)


def trajectories_equal(first, second):
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_a_stopped_run_goes_on_to_the_same_parameters(tmp_path):
    loss = consistency(MODEL, fresh(), ONES, factored=FACTORED, rows=3)

    def run(directory, **options):
        config = TrainConfig(9, OptimizerConfig(1e-3), str(directory), checkpoint_every=2, progress=False, **options)
        return train(config, loss, fresh(), stream(), jax.random.key(1), frozen=BASE)

    whole = run(tmp_path / "whole")
    run(tmp_path / "stopped", stop_at=5)
    resumed = run(tmp_path / "stopped")
    trajectories_equal((whole.params, whole.ema), (resumed.params, resumed.ema))


def test_accumulation_and_data_parallel_training_give_the_same_step():
    loss = consistency(MODEL, fresh(), ONES, factored=FACTORED, alpha=False)

    def run(**options):
        config = TrainConfig(3, OptimizerConfig(1e-2, warmup_steps=1), progress=False, **options)
        return train(config, loss, fresh(), stream(), jax.random.key(1), frozen=BASE).params

    plain = run()
    for options in ({"accumulate": 2}, {"data_parallel": 4}):
        for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(run(**options)), strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5)
    with pytest.raises(ValueError, match=r"choose 1\.\.8"):
        run(data_parallel=9)
