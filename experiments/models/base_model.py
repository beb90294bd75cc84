"""Training of the shipped class-conditional base models: one recipe, whatever the network and the images."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from experiments.common.figures import STORAGE, device, versions, write_result
from experiments.models.base_card import About, card
from experiments.models.base_quality import draw, heldout_loss, quality
from pcm_jax.data import batch_iterator, load_source
from pcm_jax.guidance import classifier_free
from pcm_jax.pretrained import WEIGHTS, ModelConfig, export, load
from pcm_jax.training import OptimizerConfig, TrainConfig, denoising_loss, read_metrics, train
from pcm_jax.types import PredictionType


@dataclasses.dataclass(frozen=True)
class TrainBase:
    """Train, measure, and write the shipped files.

    out: checkpoints and metrics of the run. steps: length; another length than the default ships nothing. resume:
    go on from out's last checkpoint (--no-resume insists on an empty directory). ship: also write the package's files.
    judged: samples whose quality is measured at the end. prediction: what the network says, epsilon, data or v.
    """

    out: Path
    steps: int
    resume: bool = True
    ship: bool | None = None
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    ema_decay: float = 0.999
    label_dropout: float = 0.1
    judged: int = 1000
    prediction: PredictionType = "epsilon"
    seed: int = 0

    @property
    def shipped(self) -> bool:
        """Whether the package's files get written: on request, or when everything that matters is the default."""
        make: Callable[[], TrainBase] = type(self)  # subclasses give every field a default
        default = make()
        same = dataclasses.replace(self, out=default.out, resume=default.resume, ship=None) == default
        return same if self.ship is None else self.ship


def run_train(config: TrainBase, dataset: str, network: dict[str, Any], about: About, console: Console) -> Any:
    """Train a denoiser of `dataset` and measure it; writes the shipped files when the run is the default one."""
    train_set, test_set = load_source(dataset, "train"), load_source(dataset, "test")
    null = train_set.num_classes
    model = ModelConfig(
        name=about.name,
        network=network | {"num_classes": null},
        schedule={"name": "linear_vp"},
        prediction=config.prediction,
        sample_shape=train_set.images.shape[1:],
        num_classes=null,
        data_std=float(np.std(train_set.scaled())),
        clip=1.0,
        parameters=0,
    )
    model_fn, shapes = model.build()
    model = dataclasses.replace(model, parameters=sum(leaf.size for leaf in jax.tree.leaves(shapes)))
    schedule = model.build_schedule()
    init_key, train_key = jax.random.split(jax.random.key(config.seed))
    params = model_fn.init(init_key, jnp.zeros((1, *model.sample_shape)), jnp.zeros(1), jnp.zeros(1, jnp.int32))
    loss = functools.partial(_loss, model_fn, schedule, config.prediction, null)
    measure = jax.jit(lambda state: {"heldout": heldout_loss(functools.partial(loss, 0.0), state.ema, test_set)})
    length = TrainConfig(
        num_steps=config.steps,
        optimizer=OptimizerConfig(config.learning_rate, weight_decay=config.weight_decay, ema_decay=config.ema_decay),
        directory=str(config.out),
        evaluate_every=500,
    )
    batches = batch_iterator(train_set, config.batch_size, config.seed)
    dropout = functools.partial(loss, config.label_dropout)
    state = train(length, dropout, params, batches, train_key, evaluate=measure, resume=config.resume)
    outcome = _measure(model_fn, model, state.ema, config, train_set, test_set) | {"parameters": model.parameters}
    console.print({name: value for name, value in outcome.items() if name != "curve"})
    if config.shipped:
        made = {"device": device(), "versions": versions()}
        text = card(model, dataclasses.asdict(config), outcome, about, made)
        path = export(state.ema, model, text, WEIGHTS, storage=STORAGE)
        write_result(f"{about.name}_train", outcome, config=config, seed=config.seed, command=about.command)
        console.print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB), its configuration and its card")
    return outcome


def _loss(
    model_fn: Any,
    schedule: Any,
    prediction: PredictionType,
    null: int,
    dropout: float,
    params: Any,
    batch: Any,
    key: Any,
) -> Any:
    options: dict[str, Any] = {"prediction": prediction, "label_dropout": dropout, "null_label": null}
    return denoising_loss(params, model_fn, schedule, batch, key, **options)


def _measure(
    model_fn: Any, model: ModelConfig, params: Any, config: TrainBase, train_set: Any, test_set: Any
) -> dict[str, Any]:
    labels = np.arange(config.judged) % model.num_classes
    guided = classifier_free(model_fn, 2.0, null_cond=model.num_classes)
    where = params, model.build_schedule(), labels, model.sample_shape
    plain, strong = (
        quality(draw(network, *where, prediction=model.prediction, seed=1), labels, train_set, test_set)
        for network in (model_fn, guided)
    )
    curve = read_metrics(config.out / "metrics.jsonl")
    return {
        "heldout_loss": [line["heldout"] for line in curve if "heldout" in line][-1],
        "train_loss": float(np.mean([line["loss"] for line in curve if "loss" in line][-10:])),
        "seconds": curve[-1]["seconds"],
        "sampler": "DDIM-50, clip 1, sequential",
        "quality": plain,
        "quality_guidance_2": strong,
        "curve": [line for line in curve if line["step"] % 500 == 0],
    }


@dataclasses.dataclass(frozen=True)
class SampleBase:
    """Draw a grid of the shipped model. rows: images a class. guidance: 1 is the conditional model."""

    out: Path
    rows: int = 8
    steps: int = 50
    guidance: float = 1.0
    seed: int = 0


def run_sample(config: SampleBase, name: str, console: Console) -> Path:
    """A grid with one column a class."""
    from experiments.common.plots import image_grids

    model = load(name)
    model_fn = model.model_fn
    if config.guidance != 1.0:
        model_fn = classifier_free(model_fn, config.guidance, null_cond=model.num_classes)
    labels = np.tile(np.arange(model.num_classes), config.rows)
    settings: dict[str, Any] = {"steps": config.steps, "clip": model.clip, "seed": config.seed}
    settings |= {"prediction": model.prediction}
    images = draw(model_fn, model.params, model.schedule, labels, model.sample_shape, **settings)
    title = f"DDIM-{config.steps}, guidance {config.guidance:g}"
    image_grids({title: images}, config.out, columns=model.num_classes)
    console.print(f"wrote {config.out}")
    return config.out
