"""What SDXL, DiT and SD3 are told: by sample, shared by all, guided; and what they refuse."""

import itertools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from experiments.parity import imports as import_study
from pcm_jax import guidance
from pcm_jax.pretrained import diffusers
from tests.pretrained.diffusers import folders
from tests.reference import random_models as cases


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    names = ("stable-diffusion", "sdxl", "dit", "sd3")
    return {name: diffusers.load_denoiser(folders.write(folder / name, name)) for name in names}


def given(name, size=(8, 8)):
    found = cases.inputs(name, size)
    return jnp.asarray(found["x"]), jnp.asarray(found["t"]), import_study.cond_of(found)


def first(cond):
    return jax.tree.map(lambda leaf: leaf[:1], cond)


@pytest.mark.parametrize("name", ["stable-diffusion", "sdxl", "dit", "sd3"])
def test_one_condition_for_all_samples(models, name):
    model, (x, t, cond) = models[name], given(name)
    one = first(cond)
    many = jax.tree.map(lambda leaf: jnp.repeat(leaf, len(x), 0), one)
    call = jax.jit(model.model_fn)
    found, expected = call(model.params, x, t, pcm.Shared(one)), call(model.params, x, t, many)
    np.testing.assert_allclose(found, expected, atol=2e-6 * float(np.abs(expected).max()), rtol=1e-4)
    assert np.abs(expected - call(model.params, x, t, cond))[1].max() > 1e-3
    if isinstance(one, dict):
        text = one | {"text": pcm.Shared(one["text"]), "pooled": jnp.repeat(one["pooled"], len(x), 0)}
        text |= {"time_ids": jnp.repeat(one["time_ids"], len(x), 0)} if "time_ids" in one else {}
        np.testing.assert_allclose(call(model.params, x, t, text), expected, atol=2e-6, rtol=1e-3)


def test_attention_to_a_shared_text_holds_no_copies_of_it(models):
    model, (x, _, text) = models["stable-diffusion"], given("stable-diffusion")
    noise = jnp.repeat(x, 3, 0)
    solver = pcm.solvers.ddim(pcm.schedules.linear_vp(), 4)

    def program(cond):
        run = jax.jit(lambda cond: pcm.sample_picard(model.model_fn, model.params, noise, solver, cond=cond).sample)
        return run.lower(cond).compile().as_text()

    rows = len(noise) * len(solver)
    copies = re.compile(rf"f32\[({rows},{cases.TOKENS}|{rows * cases.TOKENS}),")
    assert not copies.search(program(pcm.Shared(text[:1])))
    assert copies.search(program(jnp.repeat(text[:1], len(noise), 0))), "the check finds copies where there are some"


def test_the_null_label_of_dit_guides(models):
    model, (x, t, label) = models["dit"], given("dit")
    null = model.model_fn.module.num_embeds_ada_norm
    guided = guidance.classifier_free(model.model_fn, 4.0, null)
    call = jax.jit(model.model_fn)
    without, within = (call(model.params, x, t, each) for each in (jnp.full_like(label, null), label))
    found = jax.jit(guided)(model.params, x, t, label)
    np.testing.assert_allclose(found, without + 4 * (within - without), atol=1e-4)
    assert np.abs(within - without)[0].max() > 1e-2
    assert not np.isfinite(call(model.params, x, t, jnp.asarray([null + 1, -1]))).any()


def test_prompts_guide_with_all_their_parts(models):
    model, (x, t, cond) = models["sd3"], given("sd3")
    negative = jax.tree.map(lambda leaf: leaf[:1] * 0.5, cond)
    guided = guidance.prompt_guided(model.model_fn, 3.0)
    both = guidance.prompts(cond, negative)
    call = jax.jit(model.model_fn)
    without, within = (call(model.params, x, t, both[key]) for key in ("negative", "prompt"))
    np.testing.assert_allclose(jax.jit(guided)(model.params, x, t, both), without + 3 * (within - without), atol=1e-4)
    shared = guidance.prompts(pcm.Shared(first(cond)), pcm.Shared(negative))
    plain = guidance.prompts(jax.tree.map(lambda leaf: jnp.repeat(leaf[:1], 2, 0), cond), negative)
    found, expected = (jax.jit(guided)(model.params, x, t, each) for each in (shared, plain))
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("sdxl", lambda cond: cond["text"], r"needs cond=\{'text': .*'time_ids': .*\}; 'time_ids' is missing"),
        ("sdxl", lambda cond: cond | {"pooled": cond["pooled"][:, :5]}, r"cond\['pooled'\] has shape \(2, 5\).*, 6\)"),
        ("sdxl", lambda cond: cond | {"time_ids": cond["time_ids"][0, :2]}, r"cond\['time_ids'\] has shape \(2,\)"),
        ("sdxl", lambda cond: cond | {"text": cond["text"][:, 0]}, "needs the text's embedding"),
        ("sd3", lambda cond: cond["text"], r"needs cond=\{'text'.*\}; 'text' is missing"),
        ("sd3", lambda cond: {"text": cond["text"]}, "'pooled' is missing"),
        ("sd3", lambda cond: cond | {"text": cond["text"][..., :3]}, r"cond\['text'\] has shape \(2, 5, 3\)"),
        ("dit", lambda cond: None, r"needs class labels, integers of shape \(2,\), got none; .* 10 is no class"),
        ("dit", lambda cond: jnp.zeros((2, 3), int), r"got \(2, 3\)"),
    ],
)
def test_conditions_that_do_not_fit(models, name, change, message):
    model, (x, t, cond) = models[name], given(name)
    with pytest.raises(ValueError, match=message):
        model.model_fn(model.params, x, t, change(cond))


def test_sizes_that_do_not_fit(models):
    x, t, cond = given("sd3")
    call = models["sd3"].model_fn
    with pytest.raises(ValueError, match="images of 7x8 are not made of patches of 2x2"):
        call(models["sd3"].params, x[:, :7], t, cond)
    with pytest.raises(ValueError, match="7x4 patches are more than this network's 6x6"):
        call(models["sd3"].params, jnp.zeros((2, 14, 8, 4)), t, cond)


DDIM = {"_class_name": "DDIMScheduler", "clip_sample": False}
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}


def pipeline(folder, name, kind, scheduler):
    folders.write(folder / "transformer", name)
    folders.write(folder / "vae", "kl")
    (folder / "scheduler").mkdir()
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(scheduler))
    parts = {"transformer": cases.CASES[name]["_class_name"], "vae": "AutoencoderKL"}
    parts["scheduler"] = scheduler["_class_name"]
    index = {"_class_name": kind} | {part: ["diffusers", value] for part, value in parts.items()}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def both(found, noise, cond):
    """The sequential sample, and whether the parallel one is the same."""
    model, solver = found.denoiser, found.scheduler.solver(4)
    exact = pcm.sample_sequential(model.model_fn, model.params, noise, solver, cond=cond)
    out = pcm.sample_picard(model.model_fn, model.params, noise, solver, cond=cond, tol=0.0)
    assert np.asarray(out.converged).all()
    np.testing.assert_allclose(out.sample, exact.sample, atol=1e-4)
    return exact.sample


def test_a_pipeline_of_dit(tmp_path):
    found = diffusers.load_pipeline(pipeline(tmp_path, "dit-plain", "DiTPipeline", DDIM))
    assert found.denoiser.sample_shape == (8, 8, 4)
    both(found, jax.random.normal(jax.random.key(0), (2, 8, 8, 4)), jnp.asarray([3, 1]))
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(ValueError, match="names no 'unet' and no 'transformer'"):
        diffusers.load_pipeline(tmp_path)


def test_a_pipeline_of_sd3(tmp_path):
    x, _, cond = given("sd3")
    found = diffusers.load_pipeline(pipeline(tmp_path, "sd3", "StableDiffusion3Pipeline", FLOW))
    assert found.scheduler.prediction == "velocity"
    sample = both(found, x, cond)
    # Euler by hand along what the network says, at t = 1000 sigma.
    model, call = found.denoiser, jax.jit(found.denoiser.model_fn)
    sigmas = np.append(np.asarray(found.scheduler.solver(4).sigma), 0.0)
    for sigma, after in itertools.pairwise(sigmas):
        velocity = call(model.params, x, jnp.full(2, 1000 * sigma, jnp.float32), cond)
        x = x + np.float32(after - sigma) * velocity
    np.testing.assert_allclose(sample, x, atol=1e-4)
