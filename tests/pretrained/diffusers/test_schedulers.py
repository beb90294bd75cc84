"""Samplers read from scheduler_config.json, against the trajectories of diffusers' own (reference/make_models.py)."""

import json

import pytest

from experiments import import_study
from pcm_jax.pretrained.diffusers import load_scheduler
from tests.pretrained.diffusers.folders import ARRAYS
from tests.reference import random_schedulers as samplers


def write(tmp_path, **config):
    (tmp_path / "scheduler_config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.parametrize("name", samplers.SCHEDULERS)
def test_trajectory(tmp_path, name):
    found = import_study.trajectory(write(tmp_path, **samplers.SCHEDULERS[name]), name)
    assert import_study.relative_error(found, ARRAYS[f"trajectory/{name}"]) < 1e-4


def test_the_reference_covers_every_scheduler():
    own = {config["_class_name"] for name, config in samplers.SCHEDULERS.items() if " as " not in name}
    assert own == {"DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler", "EulerDiscreteScheduler"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"_class_name": "PNDMScheduler"},
            r"'PNDMScheduler' is not supported; pass scheduler= with one of DDIMScheduler",
        ),
        ({}, "scheduler None is not supported"),
        ({"_class_name": "DDPMScheduler", "variance_type": "learned_range"}, "variance_type = 'learned_range' is not"),
        ({"_class_name": "DPMSolverMultistepScheduler", "solver_order": 3}, "solver_order = 3 is not supported"),
        ({"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}, "timestep_type = 'continuous'"),
        ({"_class_name": "DDIMScheduler", "timestep_spacing": "log"}, "timestep_spacing = 'log' is unknown"),
        ({"_class_name": "DDIMScheduler", "prediction_type": "flow"}, "prediction_type = 'flow' is not supported"),
        ({"_class_name": "DDIMScheduler", "beta_schedule": "sigmoid"}, "beta_schedule = 'sigmoid' .*trained_betas"),
        ({"_class_name": "DDIMScheduler", "rescale_betas_zero_snr": True}, "rescale_betas_zero_snr = True is not"),
        (
            {"_class_name": "DPMSolverMultistepScheduler", "beta_schedule": "squaredcos_cap_v2"}
            | {"lambda_min_clipped": -5.1},
            "lambda_min_clipped = -5.1 cuts this schedule",
        ),
    ],
)
def test_what_is_not_supported_is_named(tmp_path, config, message):
    with pytest.raises(ValueError, match=rf"scheduler_config\.json: .*{message}"):
        load_scheduler(write(tmp_path, **config))


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
