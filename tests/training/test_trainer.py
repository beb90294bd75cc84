"""Above all: a run that was stopped in any way ends like one that was not, bit for bit."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pcm_jax.data import batch_iterator
from pcm_jax.data.sources import ImageSource
from pcm_jax.training import OptimizerConfig, TrainConfig, denoising_loss, read_metrics, train, update_ema
from pcm_jax.training.state import init_state, make_step
from pcm_jax.trees import flatten
from tests import problems

STEPS = 11
PARAMS = {"w1": jnp.full((4, 6), 0.1), "w2": jnp.full((6, 4), 0.2), "time": jnp.ones(6)}


def batches():
    images = np.random.default_rng(0).integers(0, 17, (23, 4), dtype=np.uint8)
    return batch_iterator(ImageSource("toy", images, np.arange(23, dtype=np.int32) % 3, 3, 16), 8, seed=1)


def loss(params, batch, key):
    return denoising_loss(params, problems.mlp, problems.VP, batch, key, label_dropout=0.2, null_label=3)


def run(directory=None, iterator=None, evaluate=None, params=PARAMS, **options):
    optimizer = OptimizerConfig(learning_rate=1e-2, warmup_steps=3, weight_decay=0.1, ema_decay=0.9)
    config = TrainConfig(
        STEPS,
        optimizer,
        directory and str(directory),
        checkpoint_every=3,
        log_every=2,
        evaluate_every=4,
        progress=False,
    )
    config = config.__class__(**{**config.__dict__, **options.pop("config", {})})
    return train(config, loss, params, iterator or batches(), jax.random.key(5), evaluate=evaluate, **options)


def raw(state):
    flat = flatten(state)
    return {name: np.asarray(jax.random.key_data(leaf) if name == "key" else leaf) for name, leaf in flat.items()}


def equal(first, second):
    for name, leaf in raw(first).items():
        np.testing.assert_array_equal(leaf, raw(second)[name], err_msg=name)


@pytest.fixture(scope="module")
def uninterrupted():
    return run()


def test_training_lowers_the_loss_and_leaves_its_arguments_alone(uninterrupted):
    before = jax.tree.map(np.asarray, PARAMS)
    state = run(config={"num_steps": 150})
    key, batch = jax.random.key(0), next(batches())
    assert loss(state.params, batch, key)[0] < 0.8 * loss(PARAMS, batch, key)[0]
    jax.tree.map(np.testing.assert_array_equal, before, PARAMS)
    assert int(uninterrupted.step) == STEPS


@pytest.mark.fast
def test_checkpoints_do_not_change_the_run(uninterrupted, tmp_path):
    equal(run(tmp_path), uninterrupted)


@pytest.mark.parametrize("stop", [3, 5])
def test_a_run_stopped_between_steps_resumes_bit_for_bit(uninterrupted, tmp_path, stop):
    run(tmp_path, config={"stop_at": stop})
    equal(run(tmp_path), uninterrupted)


class FailsAt:
    def __init__(self, step):
        self.inner, self.left = batches(), step

    def __next__(self):
        self.left -= 1
        if self.left == 0:
            raise OSError("the disk went away")
        return next(self.inner)

    def __getattr__(self, name):
        return getattr(self.inner, name)


@pytest.mark.parametrize("step", [2, 8])
def test_a_run_that_fails_in_a_step_resumes_bit_for_bit(uninterrupted, tmp_path, step):
    with pytest.raises(OSError, match="the disk went away"):
        run(tmp_path, iterator=FailsAt(step))
    equal(run(tmp_path), uninterrupted)


def test_a_killed_process_resumes_bit_for_bit_and_its_metrics_have_no_step_twice(uninterrupted, tmp_path):
    script = (
        "from tests import conftest\nfrom tests.training import test_trainer as t\nt.run_and_die(r'"
        + str(tmp_path)
        + "')"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "sec')
    equal(run(tmp_path, evaluate=lambda state: {"norm": optax.tree.norm(state.ema)}), uninterrupted)
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6, 8, 10, 11]
    assert [line["step"] for line in lines if "norm" in line] == [4, 8, 11]
    assert np.all(np.diff([line["seconds"] for line in lines]) >= 0)


def run_and_die(directory):
    """Called in a process of its own: gets killed in step 8, after the checkpoint of step 6."""

    def evaluate(state):
        if state.step == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"norm": optax.tree.norm(state.ema)}

    run(directory, evaluate=evaluate)


def test_a_finished_run_is_not_trained_again(uninterrupted, tmp_path):
    run(tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text()
    equal(run(tmp_path), uninterrupted)
    assert (tmp_path / "metrics.jsonl").read_text() == lines


def test_what_cannot_be_resumed_is_named(tmp_path):
    run(tmp_path, config={"stop_at": 3})
    wider = {"w1": jnp.ones((4, 7)), "w2": jnp.ones((7, 4)), "time": jnp.ones(7)}
    with pytest.raises(
        ValueError, match=r"another architecture: 'params/time' is float32 \(6,\), expected float32 \(7"
    ):
        run(tmp_path, params=wider)
    with pytest.raises(ValueError, match="resume, or choose an empty directory"):
        run(tmp_path, resume=False)
    with pytest.raises(ValueError, match="log_every must be a whole number of at least 1, got 0"):
        TrainConfig(5, log_every=0)


def test_metrics_are_lines_of_json(tmp_path):
    run(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {"step", "seconds", "loss", "grad_norm", "loss_noisy", "loss_clean"} == set(lines[0])
    for damaged in (b"\x00\x01\n", b"[1]\n", b"3\n"):
        (tmp_path / "damaged.jsonl").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"damaged.jsonl is damaged, a line of it is no JSON object"):
            read_metrics(tmp_path / "damaged.jsonl")


def test_a_step_compiles_once():
    traced = []

    def counted(params, batch, key):
        traced.append(key)
        return loss(params, batch, key)

    optimizer, iterator = OptimizerConfig().build(9), batches()
    step, state = make_step(counted, optimizer, 0.9), init_state(PARAMS, optimizer, jax.random.key(0))
    for _ in range(3):
        state, _ = step(state, next(iterator))
    assert len(traced) == 1
    assert step is make_step(counted, optimizer, 0.9)


def test_ema_is_a_weighted_mean_that_forgets_the_start():
    ema, weights = jnp.asarray(100.0), []
    for step in range(2000):
        weights = [weight * min(0.99, (1 + step) / (10 + step)) for weight in weights]
        weights.append(1 - min(0.99, (1 + step) / (10 + step)))
        ema = update_ema(ema, jnp.asarray(float(step)), jnp.int32(step), 0.99)
    np.testing.assert_allclose(ema, np.dot(weights, np.arange(2000)), rtol=1e-4)
    assert update_ema(jnp.asarray(3.0), jnp.asarray(3.0), jnp.int32(50), 0.99) == 3.0


def test_gradients_are_clipped_and_the_rate_warms_up_and_decays():
    optimizer = OptimizerConfig(learning_rate=0.5, warmup_steps=10, max_grad_norm=1.0).build(100)
    small, large = ({"w": jnp.asarray([3e3 * factor, 4e3 * factor])} for factor in (1.0, 1e3))
    moves = []
    for grads in (small, large):
        params, opt_state, path = {"w": jnp.zeros(2)}, optimizer.init({"w": jnp.zeros(2)}), []
        for _ in range(100):
            updates, opt_state = optimizer.update(grads, opt_state, params)
            path.append(float(jnp.abs(updates["w"]).max()))
        moves.append(path)
    np.testing.assert_allclose(moves[0], moves[1], rtol=1e-5)
    assert moves[0][0] == 0 and np.argmax(moves[0]) == 10 and moves[0][-1] < 1e-3
    np.testing.assert_allclose(max(moves[0]), 0.5, rtol=1e-3)
