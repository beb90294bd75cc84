"""Wrong calls of the trainers have named errors, before a step is compiled."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pcm_jax import training
from pcm_jax.training import FinetuneConfig, Labels, OptimizerConfig, TrainConfig, finetune, train
from tests.training import tiny

pytestmark = pytest.mark.fast
KEY, PARAMS = jax.random.key(0), {"w": jnp.ones(2)}
BATCH = {"x": np.ones((4, 2), np.float32)}


class Batches:
    """Endless, with a position."""

    def __init__(self, batch=None):
        self.batch = BATCH if batch is None else batch

    def __next__(self):
        return self.batch

    def get_state(self):
        return {}

    def set_state(self, state):
        pass


def loss(params, batch, key):
    return jnp.mean((batch["x"] @ params["w"]) ** 2), {}


def run(loss=loss, params=PARAMS, batches=None, key=KEY, config=None, **fields):
    config = TrainConfig(2, progress=False, **fields) if config is None else config
    return train(config, loss, params, Batches() if batches is None else batches, key)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: run(accumulate=3), r"accumulate=3 does not divide the batch: 'x' has shape \(4, 2\)"),
        (lambda: run(data_parallel=8), r"data_parallel=8 does not divide the batch: 'x' has shape \(4, 2\)"),
        (lambda: run(params=1.0), "params must be arrays of floats, '' is float"),
        (lambda: run(params={"w": jnp.arange(2)}), r"'w' is int32 \(2,\); train the floats"),
        (lambda: run(params={}), "params holds no arrays"),
        (lambda: run(key=0), "key must be one PRNG key"),
        (lambda: run(loss=None), "loss must be a function"),
        (
            lambda: run(loss=lambda p, b, k: p["w"].sum()),
            r"loss must return \(scalar, metrics as a dict\), got",
        ),
        (lambda: run(loss=lambda p, b, k: (b["x"] @ p["w"], {})), r"a scalar first, got float32 of shape \(4,\)"),
        (lambda: run(loss=lambda p, b: (0.0, {})), r"loss\(params, batch, key\) failed \(TypeError"),
        (lambda: run(loss=lambda p, b, k: (b["no"], {})), r"loss\(params, batch, key\) failed \(KeyError"),
        (lambda: run(batches=iter([])), "batches ended before step 1 of 2; give an endless iterator"),
        (lambda: run(batches=iter([BATCH])), "batches ended before step 2 of 2; give an endless iterator"),
        (lambda: run(batches=[BATCH]), "__next__ is missing in list: pass iter"),
        (lambda: run(batches=iter([BATCH]), directory="/nowhere"), "get_state is missing in list_iterator"),
        (lambda: run(config=3), "config must be a TrainConfig, got 3"),
        *(
            (lambda v=v: TrainConfig(v), "num_steps must be a whole number of at least 1")
            for v in (0, 2.5, "a", True, None)
        ),
        (lambda: TrainConfig(5, stop_at=0), "stop_at must be a whole number of at least 1"),
        (lambda: TrainConfig(5, optimizer=3), "optimizer must be an OptimizerConfig, got 3"),
        *(
            (lambda v=v: OptimizerConfig(v), "learning_rate must be a finite number above 0")
            for v in (0, -1e-3, float("nan"), "a")
        ),
        (lambda: OptimizerConfig(warmup_steps=-1), "warmup_steps must be a whole number of at least 0"),
        (lambda: OptimizerConfig(weight_decay=-1), "weight_decay must be at least 0"),
        (lambda: OptimizerConfig(max_grad_norm=0), "max_grad_norm must be a finite number above 0"),
        (lambda: OptimizerConfig(ema_decay=1.0), r"ema_decay must be a number in \[0, 1\)"),
        (lambda: FinetuneConfig(phases=5), "phases must be numbers of steps"),
        (lambda: FinetuneConfig(phases=(5, 0)), "phases must be a whole number of at least 1, got 0"),
        (lambda: FinetuneConfig(calibration_rounds=0), "calibration_rounds must be a whole number"),
        (lambda: FinetuneConfig(seed=-1), "seed must be a whole number of at least 0"),
        (lambda: FinetuneConfig(paper="no"), "paper must be True or False"),
        (lambda: FinetuneConfig(loss=(("foo", 1),)), "loss names 'foo', which is no field of .*Consistency"),
        (lambda: FinetuneConfig(loss=3), "loss must be pairs"),
        *((lambda v=v: Labels(v), "num_classes must be a whole number of at least 0") for v in (-1, 2.5, "a", True)),
        (lambda: training.Drawn(1.0), "conditioning is drawn from rows"),
        (lambda: training.Drawn({"a": np.ones((3, 2)), "b": np.float32(1)}), "conditioning is drawn from rows"),
        (lambda: training.read_metrics(__file__), "is damaged, a line of it is no JSON object"),
    ],
)
def test_training(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def tune(**changes):
    given = {
        "model_fn": tiny.MODEL,
        "params": tiny.PARAMS,
        "solver": tiny.DDIM,
        "shape": tiny.SHAPE,
        "tuned": tiny.fresh(),
        "config": FinetuneConfig(phases=(2,)),
        "draw_cond": Labels(3),
        "factored": tiny.FACTORED,
    }
    return finetune(**(given | changes), progress=False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"draw_cond": None}, "draw_cond must be a function"),
        ({"factored": None}, "a LoRA is trained in its factored form: pass factored="),
        ({"shape": (7,)}, r"model_fn\(params, x float32\(1, 7\).* failed"),
        ({"shape": 6}, "shape must be of one sample"),
        ({"shape": (6.0,)}, "shape must be a whole number"),
        ({"solver": None}, "solver must be a pcm_jax.solvers table"),
        ({"params": None}, "this LoRA is of another model"),
        ({"model_fn": None}, "model_fn must be a hashable function"),
    ],
)
def test_finetuning(changes, message):
    with pytest.raises(ValueError, match=message):
        tune(**changes)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"target": "states "}, "unknown target 'states '; choose drifts or states"),
        ({"distance": "l1"}, "unknown distance 'l1'; choose l2 or pseudo_huber"),
        ({"unroll": -1, "target": "states"}, "unroll must be a whole number of at least 0"),
        ({"rows": True}, "rows must be a whole number"),
        ({"late": float("nan")}, "late must be at least 0"),
        ({"alpha": "no"}, "alpha must be True or False"),
    ],
)
def test_consistency(fields, message):
    with pytest.raises(ValueError, match=message):
        training.consistency(tiny.MODEL, tiny.fresh(), tiny.ONES, factored=tiny.FACTORED, **fields)
    assert dataclasses.is_dataclass(training.consistency(tiny.MODEL, tiny.fresh(), tiny.ONES, factored=tiny.FACTORED))
