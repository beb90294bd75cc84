"""Samples after every round of every method, as one picture a model and JSON that says where what is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import PIL.Image
from rich.console import Console

from experiments.common.figures import RESULTS, command_line, write_result
from experiments.common.plots import tile
from experiments.gallery.follow import follow, numbers, options
from experiments.models.cases import Case, case
from pcm_jax.files import whole
from pcm_jax.guidance import classifier_free
from pcm_jax.pretrained import FOLDERS
from pcm_jax.pretrained.diffusers import load_pipeline

MODELS = ("digits", "fashion", "emoji32", "latent")
GUIDANCE = 2.0
"""Of the latent model, as its grid of samples is drawn."""


@dataclasses.dataclass(frozen=True)
class Draw:
    """Draw the samples of a shipped model.

    solver: of the models of pixels; the latent model has its own DDIM-50. images: how many noises. rounds: of each
    method, default until the best one without training is certified.
    """

    model: str = "digits"
    solver: str = "DDIM-100"
    images: int = 8
    rounds: int | None = None
    results: Path = RESULTS
    seed: int = 7


def run_draw(config: Draw, console: Console) -> Path:
    """`gallery_<model>.webp`: a line of images for each method and round, the sequential ones first."""
    if config.model not in MODELS:
        raise ValueError(f"there is no model {config.model!r}; choose one of {', '.join(MODELS)}")
    subject, decode = _case(config)
    exact = np.asarray(subject.sequential().sample)
    methods = options(subject.prior, subject.shipped)
    followed = follow(subject.picard, exact, methods, config.rounds)
    lines = [exact, *(state for one in followed.values() for state in one.states)]
    picture = np.stack([tile(decode(line), config.images) for line in lines])
    path = config.results / f"gallery_{config.model}.webp"
    save(path, (255 * picture.reshape(-1, *picture.shape[2:])).round().astype(np.uint8))
    solver = f"DDIM-{len(subject.solver)}" if config.model == "latent" else config.solver
    payload = {"picture": path.name, "line": list(picture.shape[1:3]), "solver": solver, "steps": len(subject.solver)}
    command = command_line("experiments.gallery draw", config, always=("model",), never=("results",))
    write_result(
        f"gallery_{config.model}",
        payload | numbers(followed),
        config=dataclasses.replace(config, results=Path(".")),
        seed=config.seed,
        command=command,
        results=config.results,
    )
    console.print(f"wrote {path}")
    return path


def save(path: Path, pixels: np.ndarray, *, quality: int | None = None) -> None:
    """WebP, without loss unless a quality is given."""
    how: dict[str, Any] = {"lossless": True} if quality is None else {"quality": quality}
    with whole(path) as scratch:
        PIL.Image.fromarray(pixels).save(scratch, format="WebP", method=6, **how)


def _case(config: Draw) -> tuple[Case, Callable[[Any], np.ndarray]]:
    """What is sampled, and how a batch of samples becomes images."""
    if config.model != "latent":
        return case(config.model, batch=config.images, seed=config.seed, solver=config.solver), np.asarray
    subject = case("latent", batch=config.images, seed=config.seed)
    pipe = load_pipeline(FOLDERS / "emoji32-latent")
    assert pipe.autoencoder is not None
    decoder = jax.jit(pipe.autoencoder.decode)
    guided = classifier_free(subject.model_fn, GUIDANCE, null_cond=pipe.denoiser.config["num_class_embeds"] - 1)
    return dataclasses.replace(subject, model_fn=guided), lambda latents: np.asarray(decoder(latents))
