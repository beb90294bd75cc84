"""Training, fine-tuning and the latency study as commands, on little data and few steps."""

import dataclasses
import io
import json
import shutil

import jax
import numpy as np
import pytest
from rich.console import Console

from experiments.common.figures import RESULTS
from experiments.robots import latency, previews, train, train_pcm
from experiments.robots.evaluate import adapter_of
from pcm_jax.data.robots import Demonstrations, Episode
from pcm_jax.pretrained import PolicyConfig, load_policy
from pcm_jax.pretrained.policies import POLICIES
from tests.data.robots.test_files import write_zarr
from tests.policy import policies

CONSOLE = Console(file=io.StringIO(), width=160)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    draw = np.random.default_rng(0)
    place = np.cumsum(draw.normal(scale=3.0, size=(120, 5)), axis=0).astype(np.float32) + 250
    path = tmp_path_factory.mktemp("pusht") / "small.zarr"
    return write_zarr(path, ends=(40, 70, 120), state=place, action=place[:, :2] + 5)


@pytest.mark.slow
def test_training_goes_on_where_it_was_and_ships_what_it_trained(data, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "POLICIES", tmp_path / "policies")
    monkeypatch.setattr(train, "write_result", lambda *_, **__: None)
    (tmp_path / "policies").mkdir()
    config = train.TrainPolicy(data=data, steps=6, batch_size=8, held_out=3, out=tmp_path / "run")
    first = train.run_train(config, CONSOLE)
    assert first["episodes"] == 2 and first["chunks"] == 40 + 30 - 14, "the third one is held out"
    assert first["evaluations"] == 3 * 6 * 8 and np.isfinite(first["heldout_loss"])
    policy = load_policy("pusht", tmp_path / "policies")
    assert policy.observation.size == 8 and policy.action.size == 2
    low = np.asarray(policy.action.low)
    again = train.run_train(config, CONSOLE)
    assert again["train_loss"] == first["train_loss"]
    np.testing.assert_array_equal(load_policy("pusht", tmp_path / "policies").action.low, low)
    card = (tmp_path / "policies" / "pusht.md").read_text()
    assert "2 episodes" in card and "python -m experiments.robots train --policy pusht --steps 6" in card


@pytest.mark.fast
def test_the_unet_of_diffusion_policy_can_be_trained_instead():
    sizes = {"observation_size": 8, "action_size": 2, "obs_horizon": 2, "horizon": 16, "action_horizon": 8}
    about = PolicyConfig(
        name="u", network={"name": "unet1d", "channels": (8, 16)}, num_steps=100, tasks=("pusht",), **sizes
    )
    model_fn, shapes = about.build()
    assert model_fn is not None and shapes


@pytest.mark.fast
def test_data_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="no Push-T demonstrations at"):
        train.run_train(train.TrainPolicy(data=tmp_path / "none.zarr"), CONSOLE)
    with pytest.raises(ValueError, match=r"Demonstrations are made by: python -m experiments.robots collect"):
        train.run_train(train.TrainPolicy(policy="metaworld", data=tmp_path), CONSOLE)


@pytest.mark.slow
def test_fine_tuning_of_the_shipped_policy(data, tmp_path):
    config = train_pcm.TrainPCM(
        data=data, rank=2, phases=(2,), solved=6, heldout=2, rows=4, batch_size=2, out=tmp_path, ship=False
    )
    outcome = train_pcm.run_train_pcm(config, CONSOLE)
    assert outcome["adapter"] == "pusht-ddpm100" and outcome["parameters"] > 0
    assert 0 < outcome["share_of_base_training"] < 1e-2
    assert outcome["calibration"].table.shape[1:] in ((100,), ())
    # What is not shipped lies beside its checkpoints, for `eval --adapter`.
    mine = adapter_of(load_policy("pusht"), tmp_path / "pusht-ddpm100.safetensors")
    assert mine is not None and mine.about["command"].startswith("python -m experiments.robots train-pcm")


@pytest.mark.fast
def test_an_adapter_for_one_task_sees_its_episodes_alone(monkeypatch):
    code = np.eye(2, dtype=np.float32)
    episodes = tuple(
        Episode(np.tile(np.append([float(n)], code[n % 2]), (20, 1)), np.zeros((20, 2)), np.zeros(20)) for n in range(4)
    )
    found = (Demonstrations(episodes, "two"), ("reach", "push"))
    monkeypatch.setattr(train, "demonstrations", lambda policy, data: found)

    class Both:
        obs_horizon, horizon, action_horizon = 2, 16, 8
        observation = train.Normalizer(np.zeros(3, np.float32), np.ones(3, np.float32))
        action = train.Normalizer(np.zeros(2, np.float32), np.ones(2, np.float32))

    config = train_pcm.TrainPCM(policy="metaworld", task="push")
    assert config.name == "metaworld-push-ddpm100"
    seen = train.observations(Both(), "metaworld", None, task="push")
    assert set(np.unique((seen[..., 0] + 1) / 2)) == {1.0, 3.0}, "episodes 1 and 3"
    with pytest.raises(ValueError, match=r"--task takes one of reach, push with --policy metaworld, got 'juggle'"):
        train.observations(Both(), "metaworld", None, task="juggle")
    other = train.observations(Both(), "metaworld", None, 2, unseen=True)
    assert set(np.unique((other[..., 0] + 1) / 2)) == {1.0, 3.0}, "every second one was held out"


@pytest.mark.slow
def test_previews_from_the_prior_go_into_the_policy(data, tmp_path, monkeypatch):
    for path in POLICIES.glob("pusht.*"):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(previews, "load_policy", lambda name, directory: load_policy(name))
    config = previews.Previews(data=data, noises=8, rounds=2)
    found = previews.run_previews(config, CONSOLE, tmp_path, tmp_path)
    about = json.loads((tmp_path / "pusht.json").read_text())
    assert about["preview"] == list(found["rows"]) and len(found["rows"]) == 3
    assert about | {"preview": []} == json.loads((POLICIES / "pusht.json").read_text()) | {"preview": []}
    assert (found["error"] <= found["error_last_state"]).all() and found["error"][0] < found["error_last_state"][0]
    result = json.loads((tmp_path / "robots_previews_pusht.json").read_text())
    assert result["command"] == "python -m experiments.robots previews --policy pusht --noises 8 --rounds 2"
    monkeypatch.setattr(previews, "load_policy", lambda *_: dataclasses.replace(load_policy("pusht"), prior=None))
    with pytest.raises(ValueError, match=r"pusht has no prior; fit one with: python -m experiments.models.priors fit"):
        previews.run_previews(config, CONSOLE, tmp_path, tmp_path)


@pytest.mark.fast
@pytest.mark.parametrize("name", ["pusht", "metaworld"])
def test_the_shipped_rows_are_those_that_were_measured(name):
    result = json.loads((RESULTS / f"robots_previews_{name}.json").read_text())
    policy = load_policy(name)
    assert policy.preview == tuple(result["rows"]) and policy.preview.solver == policy.solver.name


@pytest.mark.slow
def test_latency(monkeypatch, tmp_path):
    written = {}
    monkeypatch.setattr(latency, "RESULTS", tmp_path)
    monkeypatch.setattr(latency, "write_result", lambda name, payload, **_: written.update({name: payload}))
    small = latency.Latency(networks=("pusht",), rows=(1, 4), rounds=(2, 3), windows=(16,), batches=(1,), repeats=2)
    found = latency.run_latency(small, CONSOLE)["pusht"]
    assert [entry["rows"] for entry in found["rows"]] == [1, 4] and found["rows"][0]["over_one_row"] == 1
    assert all("milliseconds" not in entry for entry in found["rows"] + found["decisions"]), "absolute on a GPU alone"
    assert {entry["window"] for entry in found["decisions"]} == {None, 16}
    line = latency.summary(found)
    assert line["free_rows"] in (1, 4) and line["crossover"] * line["round"] == pytest.approx(100)
    assert (tmp_path / "robots_latency.png").stat().st_size > 5_000 and "robots_latency" in written
    with pytest.raises(ValueError, match="unknown network 'big'; choose among"):
        latency.run_latency(latency.Latency(networks=("big",)), CONSOLE)


@pytest.mark.fast
def test_latency_at_parity_is_read_between_the_rounds_that_were_timed():
    decisions = [
        {"method": method, "window": window, "batch": batch, "rounds": rounds, "over_sequential": cost * rounds * batch}
        for method, cost in (("Picard", 0.02), ("PCM", 0.03))
        for window in (None, 16)
        for batch in (1, 8)
        for rounds in (2, 8, 24)
    ]
    parity = {"robots.pcm_rounds_at_parity": {"value": 4}, "robots.pcm_over_picard_rounds": {"value": 0.2}}
    assert latency.figures({"decisions": decisions}, parity) == pytest.approx(
        {"robots.gpu.latency_over_sequential": 0.12, "robots.gpu.latency_over_picard": 0.12 / 0.4}
    )


def test_a_network_without_an_adapter_is_timed_with_one_of_no_training():
    chosen = policies.small()
    options = latency._tuned(chosen, 0)
    seen = np.zeros((2, *chosen.observation.low.shape), np.float32)
    plain = chosen.sequential().act(seen, jax.random.key(0))
    tuned = chosen.picard(tol=1e-4, **options).act(seen, jax.random.key(0))
    assert np.asarray(tuned.out.converged).all()
    np.testing.assert_allclose(tuned.actions, plain.actions, rtol=1e-2, atol=1e-2)
