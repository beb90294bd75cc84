"""Policies of Diffusion Policy and LeRobot: PyTorch's outputs, and what is refused."""

import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

import pcm_jax as pcm
from experiments.parity import imports as import_study
from pcm_jax.networks import ConditionalUNet1D
from pcm_jax.pretrained import diffusion_policy, load_lerobot, load_unet1d
from pcm_jax.trees import flatten
from tests.pretrained.diffusers.folders import ARRAYS, REFERENCE
from tests.reference import lerobot_config, random_models, random_policies

KEYS = json.loads((REFERENCE / "models.json").read_text())["keys"]
NORMALIZER = "policy_preprocessor_step_3_normalizer_processor.safetensors"
INPUTS = {"observation.environment_state": ("ENV", [3]), "observation.state": ("STATE", [2])}
MODES = dict.fromkeys(("STATE", "ENV", "ACTION"), "MIN_MAX")
CONFIG = lerobot_config.config(INPUTS, MODES, horizon=16, n_action_steps=8)
BOUNDS = {
    "observation.state": ([0.0, 10.0], [512.0, 20.0]),
    "observation.environment_state": ([-1.0, 5.0, 0.0], [1.0, 5.0, 4.0]),
    "action": ([0.0, 0.0], [512.0, 256.0]),
}


def checkpoint(name):
    """{key: array} of a case, in PyTorch's names and layouts."""
    case = random_policies.CASES[name]
    module = ConditionalUNet1D(
        case["channels"], case["embed"], case["kernel_size"], case["n_groups"], 8, case["film_scale"]
    )
    given = {key: jnp.asarray(value) for key, value in random_policies.inputs(name, 16).items()}
    like = jax.eval_shape(module.init, jax.random.key(0), given["x"], given["t"], given.get("cond"))["params"]
    flat = flatten(like)
    found = {}
    for key, source in diffusion_policy.key_map(like, len(case["channels"]), case["layout"]).items():
        found[source.key] = random_models.weight(source.key, source.shape(tuple(flat[key].shape)))
    return found


def write(folder, name, weights=None, prefix=""):
    folder.mkdir(parents=True, exist_ok=True)
    weights = checkpoint(name) if weights is None else weights
    save_file({prefix + key: value for key, value in weights.items()}, folder / random_policies.FILE)
    return folder


def lerobot(folder, old=False, config=None, **bounds):
    """A folder as LeRobot saves it: normalisers in the model's file until 2025, beside it since."""
    config = CONFIG if config is None else config
    stats = {}
    for key, (low, high) in (BOUNDS | bounds).items():
        part = "unnormalize_outputs" if key == "action" else "normalize_inputs"
        stem = f"{part}.buffer_{key.replace('.', '_')}" if old else key
        stats |= {f"{stem}.min": np.float32(low), f"{stem}.max": np.float32(high)}
    weights = {f"diffusion.unet.{key}": value for key, value in checkpoint("policy-lerobot").items()}
    write(folder, "", weights | stats if old else weights)
    if not old:
        save_file(stats, folder / NORMALIZER)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("name", random_policies.CASES)
def test_outputs_are_pytorchs(tmp_path, name):
    weights = checkpoint(name)
    lines = "\n".join(f"{key} {value.shape}" for key, value in sorted(weights.items()))
    assert hashlib.sha256(lines.encode()).hexdigest()[:16] == KEYS[name], "keys or shapes are not PyTorch's"
    found = import_study.actions(write(tmp_path, name, weights), name, 16)
    assert import_study.relative_error(found, ARRAYS[f"{name}/16/out"]) < 1e-4


@pytest.mark.parametrize("prefix", diffusion_policy.PREFIXES)
def test_state_dicts_of_whole_policies(tmp_path, prefix):
    alone = load_unet1d(write(tmp_path / "alone", "policy") / random_policies.FILE)
    found = load_unet1d(write(tmp_path / "whole", "policy", prefix=prefix) / random_policies.FILE)
    jax.tree.map(np.testing.assert_array_equal, found.params, alone.params)
    assert found.model_fn == alone.model_fn and found.sample_shape is None
    half = load_unet1d(tmp_path / "alone" / random_policies.FILE, dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(half.params)} == {jnp.dtype(jnp.bfloat16)}


@pytest.fixture
def policy(tmp_path):
    return load_lerobot(lerobot(tmp_path / "keypoints"))


def test_a_policy_of_lerobot(tmp_path, policy):
    assert (policy.name, policy.obs_horizon, policy.horizon, policy.action_horizon) == ("keypoints", 2, 16, 8)
    assert len(policy.solver) == 20 and policy.solver.stochastic and policy.solver.clip == 1.0
    # observation.state comes first; a number that never changes is -1 as in LeRobot.
    seen = policy.observation.normalize(np.float32([512.0, 15.0, 0.5, 5.0, 1.0]))
    np.testing.assert_allclose(seen, [1.0, 0.0, 0.5, -1.0, -0.5], atol=1e-6)
    np.testing.assert_allclose(policy.action.unnormalize(np.float32([0.0, 1.0])), [256.0, 256.0], rtol=1e-6)
    history = np.float32([[100.0, 12.0, 0.1, 5.0, 1.0], [110.0, 13.0, 0.2, 5.0, 2.0]])
    exact = policy.act(history, jax.random.key(0))
    fast = policy.picard(tol=0.0).act(history, jax.random.key(0))
    assert exact.actions.shape == (8, 2) and bool(fast.out.converged)
    np.testing.assert_allclose(fast.actions, exact.actions, atol=1e-3 * 512)
    # Before 2025 the normaliser lay in the model's file, and the configuration had other keys.
    older = lerobot_config.config(INPUTS, MODES, old=True, horizon=16, n_action_steps=8)
    again = load_lerobot(lerobot(tmp_path / "old", old=True, config=older))
    jax.tree.map(np.testing.assert_array_equal, again.observation, policy.observation)
    np.testing.assert_array_equal(again.act(history, jax.random.key(0)).actions, exact.actions)


def test_the_sampler_of_lerobot(tmp_path):
    config = CONFIG | {"noise_scheduler_type": "DDIM", "num_inference_steps": 5, "clip_sample_range": 2.0}
    policy = load_lerobot(lerobot(tmp_path, config=config))
    assert len(policy.solver) == 5 and not policy.solver.stochastic and policy.solver.clip == 2.0
    assert isinstance(policy.picard(tol=1e-2), pcm.policy.Policy)


@pytest.mark.fast
def test_files_that_are_no_policy(tmp_path):
    weights = checkpoint("policy")
    (tmp_path / "epoch=0100.ckpt").write_bytes(b"pickle")
    with pytest.raises(ValueError, match=r"epoch=0100.ckpt is no safetensors file. A .ckpt file is a pickle"):
        load_unet1d(tmp_path / "epoch=0100.ckpt")
    save_file({"a": np.zeros(2, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors holds no ConditionalUnet1D"):
        load_unet1d(tmp_path / "other.safetensors")

    def refused(match, change, **options):
        broken = dict(weights)
        change(broken)
        folder = write(tmp_path / "broken", "policy", broken)
        with pytest.raises(ValueError, match=match):
            load_unet1d(folder / random_policies.FILE, **options)

    key = "mid_modules.1.blocks.0.block.0.weight"
    refused(f"the tensor '{key}'.* is missing", lambda w: w.pop(key))
    refused("'extra.bias'.* is left over", lambda w: w.update({"extra.bias": np.zeros(3, np.float32)}))
    refused("has shape", lambda w: w.update({key: np.zeros((24, 24, 3), np.float32)}))
    refused("NaN or infinite", lambda w: w.update({key: np.full_like(w[key], np.nan)}))
    local = {"local_cond_encoder.0.blocks.0.block.0.weight": np.zeros((16, 3, 5), np.float32)}
    refused("belongs to local conditioning", lambda w: w.update(local))
    refused("save its whole state dict", lambda w: [w.pop(name) for name in list(w) if name.startswith("down")])
    refused("7 groups of .* channels are not supported", lambda w: None, groups=7)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": "act"}, "a LeRobot policy of type 'act' is not supported"),
        (
            {"input_features": {"observation.image": {"type": "VISUAL", "shape": [3, 96, 96]}}},
            "a policy without observation.state is not supported",
        ),
        ({"normalization_mapping": {"STATE": "QUANTILES"}}, "normalisation 'QUANTILES' of 'observation.state' is not"),
        ({"noise_scheduler_type": "DEIS"}, "scheduler 'DEISScheduler' is not supported"),
        ({"prediction_type": "flow"}, "prediction_type = 'flow' is not supported"),
    ],
)
def test_configurations_that_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        load_lerobot(lerobot(tmp_path, config=CONFIG | changes))


def test_normalisers_that_are_missing_or_broken(tmp_path):
    folder = lerobot(tmp_path / "missing")
    (folder / NORMALIZER).unlink()
    with pytest.raises(ValueError, match=r"the min of 'observation.state' is in no file"):
        load_lerobot(folder)
    broken = lerobot(tmp_path / "broken", **{"action": ([0.0, np.inf], [1.0, 1.0])})
    with pytest.raises(ValueError, match=r"'action.min' must be 2 finite numbers"):
        load_lerobot(broken)
    other = lerobot(tmp_path / "other", **{"action": ([0.0], [1.0])})
    with pytest.raises(ValueError, match=r"'action.min' must be 2 finite numbers, got shape \(1,\)"):
        load_lerobot(other)
