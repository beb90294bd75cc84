"""Functions of the trainers' room: swept, but not run with right values here, which takes seconds each."""

import numpy as np

from pcm_jax import training
from pcm_jax.schedules import linear_vp
from tests.sweep.kinds import Kind, choice, entry, flag, function, number, positive, whole
from tests.training import tiny

SOLVED = {"model_fn": tiny.MODEL, "params": tiny.PARAMS, "solver": tiny.DDIM, "shape": tiny.SHAPE}
BATCH = {"exact": np.zeros((2, 11, 6), np.float32), "cond": np.zeros(2, np.int32), "step_noise": None}
ROUND = ("linearization", "prior", "round_weights")

ENTRIES = {
    "training.collect": entry(
        training.collect, "linearization", "prior", given=SOLVED | {"directory": "/nowhere/at/all"}, runs=False,
        num_trajectories=whole(4), seed=whole(0, 0), draw_cond=function(training.Labels(3)), rounds=whole(1),
        shard_size=whole(2), progress=flag(False),
    ),
    "training.OnlineTrajectories": entry(
        training.OnlineTrajectories, *ROUND, given=SOLVED, runs=False, batch_size=whole(4), rounds=whole(1),
        seed=whole(0, 0), draw_cond=function(training.Labels(3)), source=choice("on_policy"),
    ),
    "training.StoredTrajectories": entry(
        training.StoredTrajectories, *ROUND, given=SOLVED | {"directory": "/nowhere/at/all"}, runs=False,
        batch_size=whole(4), rounds=whole(1), seed=whole(0, 0), source=choice("on_policy"),
    ),
    "training.solve_batch": entry(
        training.solve_batch, runs=False, size=whole(2), draw_cond=function(training.Labels(3)),
        given={"model_fn": tiny.MODEL, "base": tiny.BASE, "shape": tiny.SHAPE, "key": tiny.jax.random.key(0)},
    ),
    "training.calibrate": entry(
        training.calibrate, "linearization", runs=False, rounds=whole(2), ahead=whole(1, 0),
        given={"model_fn": tiny.MODEL, "base": tiny.BASE, "adapter": None, "batch": BATCH},
    ),
    "training.measure_preview": entry(
        training.measure_preview, "adapter", "table", "linearization", "judge", runs=False, rounds=whole(2),
        candidates=Kind(None, ((-1,), (10,), (2.5,), ("a",), "a", 3)),
        given={"model_fn": tiny.MODEL, "base": tiny.BASE, "batch": BATCH},
    ),
    "training.denoising_loss": entry(
        training.denoising_loss, runs=False, prediction=choice("data"), label_dropout=number(0.0, 0, 1),
        null_label=whole(None, 0, optional=True),
        given={
            "params": tiny.PARAMS, "model_fn": tiny.MODEL, "schedule": linear_vp(), "key": tiny.jax.random.key(0),
            "batch": {"x": np.zeros((2, 6), np.float32), "label": np.zeros(2, np.int32)},
        },
    ),
    "training.fit_prior_from_model": entry(
        training.fit_prior_from_model, "observations", "spacing", "directory", runs=False,
        num_classes=whole(3, 0), num_samples=whole(8), num_steps=whole(5), prediction=choice("data"),
        clip=positive(None, optional=True), rank=whole(2, optional=True), ridge=number(1e-3, 0),
        shared_basis=flag(False), batch_size=whole(4), seed=whole(0, 0), progress=flag(False),
        given={
            "model_fn": tiny.MODEL, "params": tiny.PARAMS, "schedule": linear_vp(), "sample_shape": tiny.SHAPE,
        },
    ),
}  # fmt: skip
