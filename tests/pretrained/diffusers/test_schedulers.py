"""Samplers read from scheduler_config.json, against the samples of diffusers' own (reference/make_schedulers.py)."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pcm_jax as pcm
from experiments.parity import schedulers
from pcm_jax.pretrained.diffusers import load_scheduler
from pcm_jax.pretrained.diffusers.scheduler_config import KNOWN
from tests.reference import scheduler_cases

REFERENCE = Path(__file__).parents[2] / "reference"
CUT = json.loads((REFERENCE / "schedulers.json").read_text())["cases"]
SAMPLES = np.load(REFERENCE / "schedulers.npz")


@pytest.fixture(autouse=True)
def double_precision():
    with jax.enable_x64(True):
        yield


def write(tmp_path, **config):
    (tmp_path / "scheduler_config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.parametrize("number", CUT)
def test_sample(tmp_path, number):
    case = CUT[number]
    solver = load_scheduler(write(tmp_path, **case["full"])).solver(case["steps"], **case["call"])
    assert schedulers.difference(schedulers.sample(solver), SAMPLES[number]) < schedulers.BOUND


def test_the_cut_covers_every_class_and_the_models_that_have_a_name():
    assert {case["full"]["_class_name"] for case in CUT.values()} == set(KNOWN)
    assert {str(number) for number in range(len(scheduler_cases.NAMED))} <= set(CUT)


def columns_equal(one, two):
    for column in ("time", "data_x", "data_p", "a", "b", "c"):
        np.testing.assert_allclose(getattr(one, column), getattr(two, column), rtol=1e-5, atol=1e-5, err_msg=column)


LINSPACE = {"timestep_spacing": "linspace", "clip_sample": False}


def test_diffusers_ddim_leaves_its_grid_and_the_corrected_one_does_not(tmp_path):
    """Under linspace it steps to t - 1000 // n, and evaluates the network at another time next."""
    found = load_scheduler(write(tmp_path, _class_name="DDIMScheduler", **LINSPACE))
    right = pcm.solvers.ddim(pcm.schedules.linear_vp(), 20, spacing="linspace")
    columns_equal(found.solver(20, corrected=True), right)
    assert np.max(np.abs(np.asarray(found.solver(20).a) - right.a)) > 1e-3


def test_pndm_corrected_stays_on_its_grid(tmp_path):
    found = load_scheduler(
        write(tmp_path, _class_name="PNDMScheduler", skip_prk_steps=True, set_alpha_to_one=True, **LINSPACE)
    )
    right = pcm.solvers.pndm(pcm.schedules.linear_vp(), 20, spacing="linspace")
    columns_equal(found.solver(20, corrected=True), right)
    assert np.max(np.abs(np.asarray(found.solver(20).a) - right.a)) > 1e-3


def test_ddpm_corrected_adds_no_noise_to_the_sample(tmp_path):
    config = {"variance_type": "fixed_large", "timestep_spacing": "trailing"}
    found = load_scheduler(write(tmp_path, _class_name="DDPMScheduler", **config))
    theirs, right = found.solver(20), found.solver(20, corrected=True)
    assert right.c[-1] == 0 < theirs.c[-1]
    np.testing.assert_allclose(theirs.c[:-1], right.c[:-1])
    assert found.solver(1).stochastic and not found.solver(1, corrected=True).stochastic


def test_3m_sde_is_refused_as_diffusers_computes_it(tmp_path):
    config = {"algorithm_type": "sde-dpmsolver++", "solver_order": 3, "final_sigmas_type": "sigma_min"}
    found = load_scheduler(write(tmp_path, _class_name="DPMSolverMultistepScheduler", **config))
    with pytest.raises(ValueError, match=r"wrong sign.*pass corrected=True"):
        found.solver(20)
    assert found.solver(20, corrected=True).depth == 2


def test_options_replace_the_file_s(tmp_path):
    found = load_scheduler(write(tmp_path, _class_name="DDIMScheduler"))
    assert found.solver(10, eta=1.0).stochastic and found.solver(10, clip=None).clip is None
    assert found.solver(10).raw is not None and found.solver(10, clipped_noise=True).raw is None


def test_zero_terminal_snr(tmp_path):
    found = load_scheduler(
        write(tmp_path, _class_name="DDIMScheduler", rescale_betas_zero_snr=True, prediction_type="v_prediction")
    )
    ours = pcm.schedules.zero_terminal_snr(pcm.schedules.linear_vp())
    np.testing.assert_allclose(found.schedule.alphas_cumprod, ours.alphas_cumprod, atol=1e-6)
    assert ours.alphas_cumprod[-1] == 0 and ours.alphas_cumprod[0] == pcm.schedules.linear_vp().alphas_cumprod[0]
    alpha, sigma = ours.marginals(np.array([0.0, 999.0]))
    np.testing.assert_allclose(alpha**2 + sigma**2, 1.0)
    assert alpha[-1] == 0 and sigma[-1] == 1
    solver = pcm.solvers.ddim(ours, 10, prediction="v", spacing="trailing")
    noise = jax.random.normal(jax.random.key(0), (2, 3))
    sample = pcm.sample_sequential(lambda p, x, t, c: -x, None, noise, solver).sample
    assert bool(jnp.all(jnp.isfinite(sample)))
    with pytest.raises(ValueError, match="does not determine the data where alpha = 0"):
        pcm.solvers.ddim(ours, 10, spacing="trailing")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"_class_name": "LCMScheduler"},
            r"'LCMScheduler' is not supported; pass scheduler= with one of DDIMScheduler",
        ),
        ({}, "scheduler None is not supported"),
        ({"_class_name": "DDPMScheduler", "variance_type": "learned_range"}, "variance_type = 'learned_range' is not"),
        ({"_class_name": "DPMSolverMultistepScheduler", "solver_order": 4}, "solver_order = 4 is not supported"),
        ({"_class_name": "EulerDiscreteScheduler", "timestep_type": "log"}, "timestep_type = 'log'"),
        ({"_class_name": "DDIMScheduler", "timestep_spacing": "log"}, "timestep_spacing = 'log' is not supported"),
        ({"_class_name": "DDIMScheduler", "prediction_type": "flow"}, "prediction_type = 'flow' is not supported"),
        ({"_class_name": "PNDMScheduler", "prediction_type": "sample"}, "prediction_type = 'sample' is not supported"),
        ({"_class_name": "DDIMScheduler", "beta_schedule": "sigmoid"}, "beta_schedule = 'sigmoid' .*trained_betas"),
        (
            {"_class_name": "HeunDiscreteScheduler", "use_karras_sigmas": True, "use_beta_sigmas": True},
            "use_karras_sigmas and use_beta_sigmas exclude each other",
        ),
        (
            {"_class_name": "UniPCMultistepScheduler", "prediction_type": "flow_prediction"},
            "'flow_prediction' goes with use_flow_sigmas",
        ),
        ({"_class_name": "DDIMScheduler", "beta_start": "small"}, "beta_start must be a number, got 'small'"),
        ({"_class_name": "DDIMScheduler", "num_train_timesteps": 9.5}, r"must be a whole number, got 9\.5"),
        ({"_class_name": "DDIMScheduler", "trained_betas": 0.1}, "trained_betas must be a list of numbers"),
        (
            {"_class_name": "DDIMScheduler", "trained_betas": [0.1, 0.2]},
            "trained_betas has 2 entries for 1000",
        ),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "invert_sigmas": True}, "invert_sigmas = True is not"),
    ],
)
def test_what_is_not_supported_is_named(tmp_path, config, message):
    with pytest.raises(ValueError, match=rf"scheduler_config\.json: .*{message}"):
        load_scheduler(write(tmp_path, **config))


@pytest.mark.parametrize(
    ("config", "steps", "message"),
    [
        ({"_class_name": "DDIMScheduler"}, 0, "num_steps must be a whole number of at least 1, got 0"),
        ({"_class_name": "DDIMScheduler"}, 1001, "leave the 1000 training steps; take fewer steps"),
        (
            {"_class_name": "UniPCMultistepScheduler", "timestep_spacing": "leading"},
            1000,
            "leave the 1000 training steps",
        ),
        ({"_class_name": "DDIMScheduler", "steps_offset": 50}, 20, "steps_offset = 50 leave the 1000 training steps"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}, 20, r"pass mu="),
    ],
)
def test_steps_that_do_not_fit_are_named(tmp_path, config, steps, message):
    with pytest.raises(ValueError, match=message):
        load_scheduler(write(tmp_path, **config)).solver(steps)


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no scheduler configuration at .*scheduler_config\.json"):
        load_scheduler(tmp_path)
    (tmp_path / "scheduler_config.json").write_text("{")
    with pytest.raises(ValueError, match="is no JSON"):
        load_scheduler(tmp_path)


def test_what_the_old_class_only_assumed_does_not_bind_the_new_one(tmp_path):
    folder = write(
        tmp_path,
        _class_name="EulerDiscreteScheduler",
        timestep_spacing="linspace",
        _use_default_values=["timestep_spacing"],
    )
    assert load_scheduler(folder).config["timestep_spacing"] == "linspace"
    assert load_scheduler(folder, "DDIMScheduler").config["timestep_spacing"] == "leading"


def test_another_class_reads_a_file_as_its_own(tmp_path):
    """Stable Diffusion's PNDM as DDIM, and DPM-Solver++'s solver_type as UniPC's."""
    stable = scheduler_cases.NAMED["stable-diffusion-v1-5"].config
    (tmp_path / "a").mkdir()
    pndm = load_scheduler(write(tmp_path, _class_name="PNDMScheduler", **stable), "DDIMScheduler")
    ddim = load_scheduler(write(tmp_path / "a", _class_name="DDIMScheduler", **stable))
    columns_equal(pndm.solver(20), ddim.solver(20))
    folder = write(tmp_path, _class_name="DPMSolverMultistepScheduler", solver_type="midpoint")
    assert load_scheduler(folder, "UniPCMultistepScheduler").config["solver_type"] == "bh2"
