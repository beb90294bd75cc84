"""Rooms of a few functions."""

import jax
import jax.numpy as jnp
import numpy as np

import pcm_jax as pcm
from pcm_jax import guidance, solvers, training
from pcm_jax.data import robots
from pcm_jax.pretrained import ModelConfig, PolicyConfig
from tests import problems
from tests.sweep.kinds import (
    NAN,
    Kind,
    array,
    choice,
    entry,
    flag,
    function,
    instance,
    number,
    positive,
    whole,
    widths,
)

VP, FLOW, EDM = problems.VP, problems.FLOW, problems.EDM
KEY = jax.random.key(0)
KERNEL = {"dense": {"kernel": jnp.ones((4, 6))}}
MESH = jax.sharding.Mesh(np.asarray(jax.devices()[:4]).reshape(2, 2), ("a", "b"))
PRIOR_SAMPLES = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)


def model(params, x, t, cond):
    return params * x


SMALL = {
    "linearization.secant": entry(pcm.linearization.secant, low=number(0.0, 0), high=positive(2.0)),
    "linearization.constant": entry(pcm.linearization.constant, value=number(0.5)),
    "switching.after": entry(pcm.switching.after, rounds=whole(2, 0)),
    "switching.linear": entry(pcm.switching.linear, stiffness=positive(1.0), rounds=whole(5)),
    "switching.frontier": entry(pcm.switching.frontier, rows_per_round=positive(2.0)),
    "switching.adaptive": entry(pcm.switching.adaptive, threshold=positive(1.0), rounds=whole(4)),
    "switching.calibrated": entry(pcm.switching.calibrated, table=array(np.ones((2, 8)))),
    "parallel.pmap": entry(pcm.parallel.pmap, "axis_name", num_devices=whole(1, optional=True)),
    "parallel.shard_map": entry(pcm.parallel.shard_map, "axis_name", "data_axis", mesh=whole(1, optional=True)),
    "parallel.constrained": entry(
        pcm.parallel.constrained, mesh=instance(MESH),
        rows=Kind(("a", "b"), (3, ("a",), ("a", "a"), ("a", "c"), (3, "b"), "ab")),
    ),
    "parallel.inside": entry(pcm.parallel.inside, axis_name=Kind("i", (3, None, 2.5, ["i"]))),
    "checkpoint.Checkpoints": entry(
        pcm.checkpoint.Checkpoints, directory=Kind("a", (3, None, 2.5, ["i"])), keep=whole(2),
    ),
    "lora.init": entry(
        pcm.lora.init, params=instance(KERNEL), rank=whole(2), key=Kind(KEY, (0, None, "a", np.zeros(3, np.uint32))),
        alpha=positive(None, optional=True), select=Kind("kernel", (1, "(", 2.5)),
    ),
    "lora.merge": entry(
        pcm.lora.merge, params=instance(KERNEL), lora=instance(pcm.lora.init(KERNEL, 2, KEY)), strength=number(0.5),
    ),
    "lora.check": entry(pcm.lora.check, params=instance(KERNEL), lora=instance(pcm.lora.init(KERNEL, 2, KEY))),
    "lora.num_parameters": entry(pcm.lora.num_parameters, lora=instance(pcm.lora.init(KERNEL, 2, KEY))),
    "guidance.classifier_free": entry(
        guidance.classifier_free, model_fn=function(model), scale=number(2.0), null_cond=number(3),
    ),
    "guidance.prompt_guided": entry(guidance.prompt_guided, model_fn=function(model), scale=number(2.0)),
    "guidance.prompts": entry(
        guidance.prompts, prompt=array(jnp.ones((2, 3, 4)), nan=True), negative=array(jnp.ones((1, 3, 4)), nan=True),
    ),
    "guess.from_data": entry(
        pcm.guess.from_data, "step_noise", solver=instance(solvers.ddim(VP, 4)),
        noise=array(jnp.ones((2, 3)), nan=True), data=array(jnp.ones((2, 3)), nan=True),
    ),
    "metrics.kernel_distance": entry(
        pcm.metrics.kernel_distance, a=array(np.ones((8, 3)), nan=True), b=array(np.ones((8, 3)), nan=True),
        subsets=whole(2, 0), subset_size=whole(4), seed=whole(0, 0),
    ),
    "metrics.frechet_distance": entry(
        pcm.metrics.frechet_distance, a=instance(pcm.metrics.Moments.of(np.eye(4, 2))),
        b=instance(pcm.metrics.Moments.of(np.eye(4, 2))),
    ),
    "metrics.rms_error": entry(
        pcm.metrics.rms_error, sample=array(np.ones(3), nan=True), reference=array(np.ones(3), nan=True),
    ),
    "metrics.max_difference": entry(
        pcm.metrics.max_difference, sample=array(np.ones(3), nan=True), reference=array(np.ones(3), nan=True),
    ),
    "metrics.rounds_to": entry(
        pcm.metrics.rounds_to, errors=array([3.0, 1.0], nan=True), threshold=number(2.0),
    ),
    "metrics.time_call": entry(
        pcm.metrics.time_call, function=function(dict), repeats=whole(1), warmup=whole(0, 0),
    ),
    "metrics.paired": entry(
        pcm.metrics.paired, first=function(dict), second=function(dict), repeats=whole(1), warmup=whole(0, 0),
    ),
    "priors.fit_prior": entry(
        pcm.priors.fit_prior, "labels", "observations", samples=array(PRIOR_SAMPLES),
        num_classes=whole(None, optional=True), rank=whole(2, optional=True), ridge=number(1e-3, 0),
        shared_basis=flag(False),
    ),
    "data.batch_iterator": entry(
        pcm.data.batch_iterator, batch_size=whole(4), seed=whole(0, 0), of=pcm.data.batch_iterator,
        source=instance(pcm.data.ImageSource("toy", np.zeros((8, 2), np.uint8), np.zeros(8, np.int32), 1, 16)),
    ),
    "data.ImageSource": entry(
        pcm.data.ImageSource, images=array(np.zeros((8, 2), np.uint8)), num_classes=whole(1, 0),
        labels=array(np.zeros(8, np.int32)), max_value=whole(16), given={"name": "toy"},
    ),
    "data.robots.Normalizer": entry(
        robots.Normalizer,
        # Placeholders of JAX's trees pass.
        low=Kind(np.zeros(2), ("a", [0.0], np.full(2, "a"), np.full(2, NAN), np.zeros(3), np.full(2, 2.0))),
        high=Kind(np.ones(2), ("a", [1.0], np.full(2, "a"), np.full(2, NAN), np.ones(3), np.full(2, -1.0))),
    ),
    "pretrained.ModelConfig": entry(
        ModelConfig, "name", "network", "schedule", "parameters", prediction=choice("epsilon"),
        sample_shape=widths((4, 1)), num_classes=whole(3, 0), data_std=positive(1.0), clip=positive(1.0, optional=True),
        given={"name": "tiny", "network": {"name": "mlp"}, "schedule": {"name": "linear_vp"}, "parameters": 0},
    ),
    "pretrained.PolicyConfig": entry(
        PolicyConfig, "name", "network", "tasks", "parameters", num_steps=whole(10), observation_size=whole(3),
        action_size=whole(2), obs_horizon=whole(2), horizon=whole(8), action_horizon=whole(4),
        preview=Kind((3, 10), ("a", 3, None, {3: 4}, ("a",), (3, 11), (-1,), (2.5,), (True,), (NAN,))),
        given={"name": "tiny", "network": {"name": "mlp"}, "tasks": ("toy",)},
    ),
    "training.Labels": entry(training.Labels, num_classes=whole(3, 0)),
    "training.OptimizerConfig": entry(
        training.OptimizerConfig, learning_rate=positive(1e-3), warmup_steps=whole(0, 0), weight_decay=number(0.0, 0),
        max_grad_norm=positive(1.0), ema_decay=number(0.9, 0, 1, out=(1.0,)),
    ),
    "training.TrainConfig": entry(
        training.TrainConfig, "directory", num_steps=whole(5), optimizer=instance(training.OptimizerConfig()),
        checkpoint_every=whole(1), log_every=whole(1), evaluate_every=whole(1), stop_at=whole(3, optional=True),
        progress=flag(False), accumulate=whole(1), data_parallel=whole(1),
    ),
    "training.FinetuneConfig": entry(
        training.FinetuneConfig, "loss", "round_weights", phases=widths((5,)), batch_size=whole(4),
        optimizer=instance(training.OptimizerConfig()), heldout=whole(4), calibration_rounds=whole(2),
        evaluate_rounds=whole(2), evaluate_every=whole(2), paper=flag(False), paper_rounds=whole(2),
        accumulate=whole(1), data_parallel=whole(1), seed=whole(0, 0),
    ),
    "training.Consistency": entry(
        training.Consistency, "factored", "linearization", model_fn=function(model), table=array(((1.0, 0.0),)),
        on_policy=flag(True), target=choice("drifts"), distance=choice("l2"), rows=whole(1, optional=True),
        late=number(0.0, 0), alpha=flag(True), unroll=whole(0, 0), dtype=choice("float32"), given={"factored": None},
    ),
    "training.update_ema": entry(
        training.update_ema, "ema", "params", "step", decay=number(0.9, 0, 1, out=(1.0,)),
        given={"ema": KERNEL, "params": KERNEL, "step": 1},
    ),
}  # fmt: skip
