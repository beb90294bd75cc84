"""Samples after every round of every method, as one picture a model and JSON that says where what is."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import PIL.Image
from rich.console import Console

from experiments.common import study
from experiments.common.figures import RESULTS, command_line, write_result
from experiments.common.plots import tile
from experiments.pcm.study import GUESS, METHODS
from pcm_jax.files import whole
from pcm_jax.metrics import rms_error
from pcm_jax.pretrained import available, load


@dataclasses.dataclass(frozen=True)
class Draw:
    """Draw the samples of a shipped model. images: how many noises. rounds: of each method."""

    model: str = "digits"
    solver: str = "DDIM-100"
    images: int = 10
    rounds: int = 8
    results: Path = RESULTS
    seed: int = 7


def run_draw(config: Draw, console: Console) -> Path:
    """`gallery_<model>.png`: a line of images for each method and round, the sequential ones first."""
    if config.model not in available():
        raise ValueError(f"there is no model {config.model!r}; choose one of {', '.join(available())}")
    model = load(config.model)
    case = study.problem(model, study.solvers(model)[config.solver], batch=config.images, seed=config.seed)
    adapter = study.adapter_for(model, config.solver)
    exact = np.asarray(case.sequential().sample)
    lines, errors = [exact], {}
    for name, (slope, tuned) in METHODS.items():
        options: dict[str, Any] = {"linearization": study.SLOPES[slope], "max_rounds": config.rounds}
        if name == GUESS:
            if model.prior is None:
                continue
            options["prior"] = model.prior
        if tuned:
            if adapter is None:
                continue
            preview = adapter.previews.get(slope)
            options |= study.tuned(adapter, model.prior, slope) | {"preview": preview}
        out = case.picard(tol=1e-2, return_rounds=True, **options)
        states = np.asarray(jax.device_get(out.iterates))[: config.rounds]
        lines += list(states)
        errors[name] = [rms_error(state, exact) for state in states]
    picture = np.stack([tile(line, config.images) for line in lines])
    pixels = (255 * picture.reshape(-1, *picture.shape[2:])).round().astype(np.uint8)
    path = config.results / f"gallery_{config.model}.png"
    with whole(path) as scratch:
        PIL.Image.fromarray(pixels).save(scratch, format="PNG", optimize=True)
    payload = {"picture": path.name, "line": list(picture.shape[1:3]), "rounds": config.rounds, "errors": errors}
    command = command_line("experiments.gallery draw", config, always=("model",), never=("results",))
    about = dataclasses.replace(config, results=Path("."))
    write_result(
        f"gallery_{config.model}", payload, config=about, seed=config.seed, command=command, results=config.results
    )
    console.print(f"wrote {path}")
    return path
