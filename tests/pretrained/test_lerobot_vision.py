"""LeRobot policies that see images: PyTorch's outputs, decisions, other samplers, and what is refused."""

import dataclasses
import functools
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
from pcm_jax.networks.vision import CameraEncoder, ImageEncoder
from pcm_jax.policy import Controller
from pcm_jax.policy.decision import draw_noise
from pcm_jax.pretrained import diffusion_policy, lerobot_scheduler, load_lerobot
from pcm_jax.pretrained.diffusers.keys import key_map
from pcm_jax.trees import flatten
from tests.pretrained.diffusers.folders import ARRAYS, REFERENCE
from tests.reference import random_models, random_policies
from tests.reference import random_visions as visions

KEYS = json.loads((REFERENCE / "models.json").read_text())["keys"]


def shaped(like, sources):
    flat = flatten(like)
    return {source.key: source.shape(tuple(flat[name].shape)) for name, source in sources.items()}


def checkpoint(name):
    """{key: array} of a case, in PyTorch's names and layouts, but for the counters of batch norms."""
    case, unet = visions.CASES[name], visions.UNET
    key = jax.eval_shape(lambda: jax.random.key(0))
    crop = case["crop"]
    if case["resize"]:
        crop = tuple(int(side * case["ratio"]) for side in case["resize"])
    norm = "batch" if case["batch_norm"] else "group"
    encoder = ImageEncoder(case["stages"], visions.WIDTH, case["keypoints"], norm, crop, case["resize"], parent=None)
    images = tuple(jax.ShapeDtypeStruct((1, *shape[1:], 3), jnp.float32) for shape in case["cameras"].values())
    module = CameraEncoder(len(images), case["separate"], encoder)
    like = jax.eval_shape(module.init, key, images)["params"]
    shapes = {f"diffusion.{each}": shape for each, shape in shaped(like, key_map(like)).items()}
    module = ConditionalUNet1D(unet["channels"], unet["embed"], unet["kernel_size"], unet["n_groups"], 8, True)
    width = visions.STEPS * visions.features(name)
    given = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, visions.HORIZON, 2), (1,), (1, width)))
    like = jax.eval_shape(module.init, key, *given)["params"]
    sources = diffusion_policy.key_map(like, len(unet["channels"]), "LeRobot")
    shapes |= {f"diffusion.unet.{each}": shape for each, shape in shaped(like, sources).items()}
    return {each: random_models.weight(each, shape) for each, shape in shapes.items()}


CHECKPOINTS = {}


def weights_of(name):
    if name not in CHECKPOINTS:
        CHECKPOINTS[name] = checkpoint(name)
    return dict(CHECKPOINTS[name])


def write(folder, name, weights=None, stored=None, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    weights = weights_of(name) if weights is None else weights
    stored = visions.stored(name) if stored is None else stored
    if visions.CASES[name]["batch_norm"]:
        counters = {key.replace("running_mean", "num_batches_tracked") for key in weights if "running_mean" in key}
        weights = weights | {key: np.full((), 7, np.int64) for key in counters}
    old = visions.CASES[name]["old"]
    save_file(weights | (stored if old else {}), folder / random_policies.FILE)
    if not old:
        save_file(stored, folder / visions.NORMALIZER)
    (folder / "config.json").write_text(json.dumps(visions.config(name) | changes))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("policies") / "pusht", "vision-pusht")


@pytest.fixture(scope="module")
def policy(folder):
    return load_lerobot(folder)


CALLS = []


def crude(params, images):
    """In place of the encoder, whose compilation takes seconds; says when it runs."""
    jax.debug.callback(lambda: CALLS.append(1))
    return jnp.concatenate([image[:, ::20, ::20].reshape(len(image), -1)[:, :8] for image in images], axis=-1)


@pytest.fixture(scope="module")
def quick(policy):
    return dataclasses.replace(policy, vision=dataclasses.replace(policy.vision, encode=crude, params={}))


def history(name="vision-pusht", index=None):
    found = visions.inputs(name)[0]
    return found if index is None else {key: value[index] for key, value in found.items()}


@pytest.mark.parametrize("name", visions.CASES)
def test_outputs_are_pytorchs(tmp_path, name):
    weights = weights_of(name)
    shapes = {key: value.shape for key, value in weights.items()}
    shapes |= {key.replace("running_mean", "num_batches_tracked"): () for key in weights if "running_mean" in key}
    lines = "\n".join(f"{key} {shape}" for key, shape in sorted(shapes.items()))
    assert hashlib.sha256(lines.encode()).hexdigest()[:16] == KEYS[name], "keys or shapes are not PyTorch's"
    for part, found in import_study.seen(write(tmp_path, name), name).items():
        assert import_study.relative_error(found, ARRAYS[f"{name}/{part}"]) < 1e-4, part


def test_a_decision_from_images(policy):
    keys = jax.random.split(jax.random.key(0), visions.BATCH)
    found = policy.picard(tol=0.0).act(history(), keys)
    assert found.actions.shape == (2, 4, 2) and found.out.converged.all()
    cond = jax.jit(policy.vision.features)(policy.observation, history())
    noise, z = draw_noise(keys, policy.solver, (visions.HORIZON, visions.ACTIONS))
    call = functools.partial(pcm.sample_sequential, policy.model_fn, policy.params, noise, policy.solver, step_noise=z)
    np.testing.assert_allclose(found.plan, call(cond=cond).sample, atol=1e-4)
    # The sampler is conditioned on what the encoder says of the images.
    assert np.abs(found.plan - call(cond=cond.at[..., 2:].set(0.0)).sample).max() > 1e-3


def test_one_robot_and_many(quick):
    keys = jax.random.split(jax.random.key(0), visions.BATCH)
    many, alone = quick.act(history(), keys), quick.act(history(index=1), keys[1])
    np.testing.assert_allclose(alone.plan, many.plan[1], atol=1e-4)


def test_images_in_bytes(policy):
    bytes_ = history() | {"observation.image": np.uint8(np.round(255 * history()["observation.image"]))}
    floats = history() | {"observation.image": np.float32(bytes_["observation.image"] / 255)}
    call = jax.jit(policy.vision.features)
    found, expected = (call(policy.observation, each) for each in (bytes_, floats))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_encoder_runs_once_for_every_decision(quick):
    jax.effects_barrier()
    CALLS.clear()
    jax.block_until_ready(quick.picard(tol=1e-2).act(history(), jax.random.split(jax.random.key(0), 2)))
    jax.effects_barrier()
    assert len(CALLS) == 1


def test_other_samplers(quick, folder):
    ddim = lerobot_scheduler(folder, "DDIMScheduler").solver(5)
    short = quick.with_solver(ddim)
    assert len(quick.solver) == 20 and len(short.solver) == 5 and not short.solver.stochastic
    assert short.solver.clip == 1.0
    keys = jax.random.split(jax.random.key(0), visions.BATCH)
    exact, found = (each.act(history(), keys) for each in (short, short.picard(tol=0.0)))
    np.testing.assert_allclose(found.plan, exact.plan, atol=1e-4)
    assert (exact.out.stats.rounds == 5).all()
    with pytest.raises(ValueError, match=r"solver must be a pcm_jax\.solvers table, got int"):
        quick.with_solver(5)
    with pytest.raises(ValueError, match="scheduler 'DEISScheduler' is not supported"):
        lerobot_scheduler(folder, "DEISScheduler")


def test_a_controller_with_cameras(quick):
    keys, decided = jax.random.split(jax.random.key(0), visions.BATCH), []
    controller = Controller(quick, keys, on_decision=lambda decision, seen, keys: decided.append(seen))
    steps = [{key: value[:, step] for key, value in history().items()} for step in range(visions.STEPS)]
    actions = [controller.act(steps[step % 2]) for step in range(5)]
    assert np.shape(actions) == (5, 2, 2) and len(decided) == 2
    np.testing.assert_array_equal(decided[0]["observation.image"][:, 0], steps[0]["observation.image"])
    np.testing.assert_array_equal(decided[1]["observation.image"][:, 0], steps[1]["observation.image"])
    with pytest.raises(ValueError, match=r"observations must be \[2, \.\.\], one for each key, got \(1, 2\)"):
        Controller(quick, keys).act({"observation.state": steps[0]["observation.state"][:1]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda seen: seen["observation.state"], r"history must map \['observation.image', 'observation.state'\]"),
        (lambda seen: {"observation.state": seen["observation.state"]}, r"got \['observation.state'\]"),
        (
            lambda seen: seen | {"observation.image": seen["observation.image"][:, :, :40]},
            r"history\['observation.image'\] must be \[2, 48, 61, 3\] or \[B, .*\], got \(2, 2, 40, 61, 3\)",
        ),
        (lambda seen: seen | {"observation.state": seen["observation.state"][0]}, "must be"),
        (lambda seen: {key: value[:, :1] for key, value in seen.items()}, r"must be \[2, 2\] or .*repeat the first"),
        (lambda seen: seen | {"observation.image": np.int32(seen["observation.image"])}, "must be bytes .* got int32"),
    ],
)
def test_histories_that_do_not_fit(policy, change, message):
    with pytest.raises(ValueError, match=message):
        policy.act(change(history()), jax.random.split(jax.random.key(0), 2))


def test_keys_that_do_not_fit(policy):
    with pytest.raises(ValueError, match=r"history \(2, 2\) needs keys of shape \(2,\)"):
        policy.act(history(), jax.random.key(0))


def refused(tmp_path, match, change=lambda weights: None, name="vision-pusht", stored=None, **changes):
    weights = weights_of(name)
    change(weights)
    with pytest.raises(ValueError, match=match) as error:
        load_lerobot(write(tmp_path, name, weights, stored, **changes))
    assert "\n" not in str(error.value)


ENCODER = "diffusion.rgb_encoder."


@pytest.mark.parametrize(
    ("match", "change"),
    [
        (r"'rgb_encoder.out.bias' \(8,\) is missing", lambda w: w.pop(f"{ENCODER}out.bias")),
        ("'rgb_encoder.extra'.* is left over", lambda w: w.update({f"{ENCODER}extra": np.zeros(3, np.float32)})),
        ("has shape", lambda w: w.update({f"{ENCODER}out.bias": np.zeros(3, np.float32)})),
        ("has shape", lambda w: w.update({f"{ENCODER}pool.pos_grid": np.zeros((9, 2), np.float32)})),
        ("NaN or infinite", lambda w: w.update({f"{ENCODER}out.bias": np.full(8, np.nan, np.float32)})),
        ("encoder's tensors diffusion.rgb_encoder.backbone", lambda w: w.pop(f"{ENCODER}backbone.0.weight")),
        (
            "a first level of 8 channels is not supported",
            lambda w: w.update({f"{ENCODER}backbone.0.weight": np.zeros((8, 3, 7, 7), np.float32)}),
        ),
        (
            "vision_backbone = 'resnet18' is not supported",
            lambda w: w.update({f"{ENCODER}backbone.4.0.conv3.weight": np.zeros((8, 3, 1, 1), np.float32)}),
        ),
    ],
)
def test_tensors_that_do_not_fit(tmp_path, match, change):
    refused(tmp_path, match, change)


TOP, STATE = {"type": "VISUAL", "shape": [3, 40, 56]}, {"type": "STATE", "shape": [2]}


@pytest.mark.parametrize(
    ("name", "match", "changes"),
    [
        ("vision-pusht", r"crop_shape = \[50, 50\] is larger than the images, \[48, 61\]", {"crop_shape": [50, 50]}),
        ("vision-pusht", "crop_shape = 45 must be a height and a width", {"crop_shape": 45}),
        ("vision-pusht", r"resize_shape = \[45, 0\] must be", {"resize_shape": [45, 0]}),
        ("vision-pusht", "has shape .*pos_grid|pos_grid.* has shape", {"crop_shape": [20, 20]}),
        (
            "vision-frozen",
            "the cameras of a policy have one shape",
            {"input_features": {"observation.state": STATE, "a": TOP, "b": TOP | {"shape": [3, 40, 50]}}},
        ),
        ("vision-frozen", "a policy without observation.state is not supported", {"input_features": {"a": TOP}}),
        (
            "vision-frozen",
            "its features have 24 numbers in 2 steps, the network takes 42",
            {"input_features": {"observation.state": STATE, "observation.images.top": TOP, "b": STATE}},
        ),
        (
            "vision-frozen",
            r"'a' of shape \[3, 4\] is not supported",
            {"input_features": {"a": TOP | {"shape": [3, 4]}}},
        ),
        ("vision-frozen", "normalisation 'QUANTILES' of", {"normalization_mapping": {"VISUAL": "QUANTILES"}}),
    ],
)
def test_configurations_that_do_not_fit(tmp_path, name, match, changes):
    refused(tmp_path, match, name=name, **changes)


def test_statistics_that_do_not_fit(tmp_path):
    stored = visions.stored("vision-frozen")
    key = "observation.images.top.mean"
    refused(tmp_path, f"'{key}' must be 3 finite numbers", name="vision-frozen", stored=stored | {key: stored[key][:2]})
    missing = {each: value for each, value in stored.items() if each != key}
    refused(tmp_path, "the mean of 'observation.images.top' is in no file", name="vision-frozen", stored=missing)
