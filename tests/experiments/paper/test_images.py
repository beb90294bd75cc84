"""The image tables on a tiny pipeline of random weights, from the folder to the JSON."""

import dataclasses
import io
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from rich.console import Console

from experiments.campaigns import latent as folders
from experiments.campaigns.latent import few
from experiments.paper import images, report
from experiments.paper.config import LDMCelebA, StableDiffusion
from experiments.paper.subject import load
from experiments.paper.training import tuned_models
from pcm_jax.metrics import Moments
from pcm_jax.pretrained import load_adapter


def silent():
    return Console(file=io.StringIO())


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    where = tmp_path_factory.mktemp("paper")
    model, data = folders.pipeline(where / "ldm"), folders.pictures(where / "data")
    return LDMCelebA(model=model, data=str(data), out=where / "out", **folders.tiny())


@pytest.fixture(scope="module")
def outcome(config):
    return images.run(config, silent(), few)


@pytest.mark.slow
def test_every_method_is_measured_after_every_round(config, outcome):
    assert set(outcome["fd"]) == {"sequential", *images.METHODS}
    assert all(len(curve) == 2 and np.isfinite(curve).all() for curve in outcome["fd"].values())
    assert set(outcome["latency"]) == set(images.METHODS)
    assert all(line["speedup"] == pytest.approx(1 / line["over_sequential"]) for line in outcome["latency"].values())
    assert outcome["grid"]["Picard"].shape == (2, 2, 4, 4, 3) and outcome["grid"]["sequential"].shape[0] == 3


@pytest.mark.slow
def test_the_first_step_of_picard_is_the_sequential_one_and_all_rounds_are_the_sample(config, outcome):
    subject = load(config)
    states = images._states(config, subject, {}, "sequential", 0, 2)
    whole = images.sample(config, subject, {}, "Picard", 4, 0, 2)
    np.testing.assert_allclose(whole.sample, states[-1], atol=1e-4)


@pytest.mark.slow
def test_tables_and_files(config, outcome):
    stream = io.StringIO()
    path = report.show("ldm-celeba", config, dict(outcome), Console(file=stream, width=200))
    text = stream.getvalue()
    assert "366.92" in text and "36.09" in text and "2.11x" in text and "PCM-LoRA + secant" in text
    kept = json.loads(path.read_text())
    assert kept["fd"]["Picard"] == outcome["fd"]["Picard"] and kept["config"]["model"] == "ldm"
    assert str(config.out) not in path.read_text()
    assert (path.parent / "paper_ldm_celeba.png").exists() and (path.parent / "paper_ldm_celeba_fd.png").exists()


@pytest.mark.slow
def test_a_second_run_reads_what_the_first_kept(config, outcome, monkeypatch):
    monkeypatch.setattr(images, "_latencies", lambda *_: {})
    monkeypatch.setattr(images, "_grid", lambda *_: {})

    def never(*_, **__):
        raise AssertionError("all samples are in the sums")

    monkeypatch.setattr(images, "_states", never)
    assert images.run(config, silent(), few)["fd"] == outcome["fd"]


@pytest.mark.slow
def test_a_trained_adapter_can_be_given(config, outcome):
    given = dataclasses.replace(config, adapter=config.out / "ldm" / "adapter.safetensors", full=False)
    subject = load(given)
    found = tuned_models(given, subject, config.out / "ldm", silent())
    assert set(found) == {"PCM-LoRA"} and set(found["PCM-LoRA"].tables) == {"identity", "secant"}
    shown = found["PCM-LoRA"].preview
    assert shown is not None and shown.num_steps == config.steps
    # The file's rows are for the sampler that the table runs.
    images.sample(given, subject, found, "PCM-LoRA + secant, preview", 2, 0, 2, every=True)
    other = dataclasses.replace(given, adapter=config.out / "none.safetensors")
    with pytest.raises(ValueError, match="there is no adapter 'none'"):
        tuned_models(other, subject, config.out / "ldm", silent())


def test_a_shipped_adapter_has_a_name(tmp_path):
    wanted = LDMCelebA(adapter=Path("emoji32-latent-ddim18"), full=False)
    subject = load(wanted)
    shipped = load_adapter("emoji32-latent-ddim18", subject)
    found = tuned_models(wanted, subject, tmp_path, silent())["PCM-LoRA"]
    assert found.preview == shipped.preview and not list(tmp_path.iterdir())
    np.testing.assert_array_equal(found.tables["secant"], shipped.tables["secant"])


def test_headline_figures(monkeypatch):
    noted = {}
    monkeypatch.setattr(report, "record", lambda name, value, **_: noted.update({name: value}))
    fd = {"Picard": [9.0, 8.0], "PCM-LoRA": [5.0, 4.0]}
    report._figures(fd, 2.0, "")
    assert noted == {
        f"ldm.fd_{name}_round2": value for name, value in (("ratio", 0.5), ("floor", 0.25), ("excess", 1 / 3))
    }
    report._figures(fd | {"PCM-LoRA + secant, preview": [5.0, 3.0]}, 2.0, "")
    assert noted["ldm.fd_ratio_round2"] == 0.375 and noted["ldm.fd_excess_round2"] == 1 / 6


@pytest.mark.slow
def test_without_real_images_the_sequential_samples_are_the_reference(config, outcome):
    assert images._real(dataclasses.replace(config, data=""), few) is None
    assert isinstance(images._real(config, few), Moments)
    with pytest.raises(ValueError, match="neither a folder nor a dataset"):
        images._real(dataclasses.replace(config, data="nowhere"), few)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rounds": 9, "steps": 8}, "rounds must be at most steps"),
        ({"samples": 1}, "at least 2 samples"),
        ({"train_batch": 501}, "train_batch must be at most trajectories"),
        ({"epochs": 0}, "epochs must be at least 1"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=message):
        LDMCelebA(**changes)


def test_guidance_needs_classes(config):
    with pytest.raises(ValueError, match="no classes to be guided by"):
        load(dataclasses.replace(config, guidance=2.0))


@pytest.mark.slow
def test_classes_and_prompts(tmp_path, config):
    """Labels run through the classes; texts that come as embeddings need a negative one that does."""
    model = folders.pipeline(tmp_path / "classes", classes=4)
    subject = load(dataclasses.replace(config, model=model, guidance=2.0))
    np.testing.assert_array_equal(subject.cond(2, 4), [2, 0, 1, 2])
    assert subject.model_fn.rows == 2 and subject.name == "classes"
    np.save(tmp_path / "texts.npy", np.zeros((2, 3, 4), np.float32))
    wanted = StableDiffusion(model=model, prompts=tmp_path / "texts.npy")
    with pytest.raises(ValueError, match="need a negative one that does"):
        load(wanted)
    with pytest.raises(ValueError, match="there is no file"):
        load(dataclasses.replace(wanted, prompts=tmp_path / "other.txt"))
    np.save(tmp_path / "none.npy", np.zeros((1, 3, 4), np.float32))
    pairs = load(dataclasses.replace(wanted, negative=str(tmp_path / "none.npy"))).cond(1, 2)
    assert jax.tree.map(lambda leaf: leaf.shape, pairs) == {"prompt": (2, 3, 4), "negative": (2, 3, 4)}
