"""Which rows a shipped adapter's early samples are shown from, chosen by what they look like.

`pcm train` chooses rows by the RMS error to the exact sample, under which a blurred image is a good one. Here every
candidate is compared with real images: the row whose samples have the least KID on EfficientNet-Lite0 features (arXiv
1801.01401; unlike FD it has no bias that depends on their number). The noises are none that a study samples from. Rows
for the base model alone are chosen in the same way, so that Picard's previews are as good as they can be.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import jax
import numpy as np
from rich.console import Console

from experiments.common import study
from experiments.common.figures import RESULTS, STORAGE, command_line, write_result
from experiments.pcm.adapter_card import card
from experiments.pcm.fd_study import DATASETS, previews_name
from experiments.pcm.study import GUESS
from pcm_jax.data import load_source
from pcm_jax.files import write_text
from pcm_jax.metrics import Features, kernel_distance, load_features
from pcm_jax.pretrained import ADAPTERS, load, load_adapter, save_adapter
from pcm_jax.priors import GaussianPrior
from pcm_jax.training import Base, Labels, measure_preview, solve_batch

REAL = 1_000
"""Real images that samples are compared with."""
SLOPE = "secant"


@dataclasses.dataclass(frozen=True)
class Previews:
    """Choose the rows of a shipped adapter for the default slope, and write them into it and its card.

    noises: that the choice is made on. rounds: each gets a row. every: distance between the rows that are tried.
    """

    model: str = "emoji32"
    solver: str = "DDIM-100"
    noises: int = 64
    rounds: int = 6
    every: int = 4
    seed: int = 40_000

    @property
    def name(self) -> str:
        return study.adapter_name(self.model, self.solver)

    @property
    def command(self) -> str:
        return command_line("experiments.pcm previews", self, always=("model", "solver"))


def run_previews(config: Previews, console: Console, features: Features | None = None) -> dict[str, Any]:
    """Measure, and write the adapter, its card and the JSON."""
    model = load(config.model)
    adapter = load_adapter(config.name, model)
    source = load_source(*DATASETS[config.model])
    features = load_features() if features is None else features
    chosen = np.random.default_rng(config.seed).permutation(len(source))[:REAL]
    real = features(source.images[chosen])

    def judge(shown: np.ndarray, _: np.ndarray) -> float:
        return kernel_distance(features(source.pixels(shown)), real)[0]

    solver = study.solvers(model)[config.solver]
    draw, key = Labels(model.num_classes), jax.random.key(config.seed)
    batch = solve_batch(model.model_fn, Base(model.params, solver), model.sample_shape, config.noises, draw, key)
    how: dict[str, Any] = {
        "rounds": config.rounds,
        "linearization": study.SLOPES[SLOPE],
        "judge": judge,
        "candidates": range(config.every - 1, len(solver), config.every),
    }
    tuned: dict[str, Any] = {"adapter": adapter.adapter, "table": adapter.tables[SLOPE]}
    methods: dict[str, tuple[GaussianPrior | None, dict[str, Any]]] = {
        "Picard + secant": (None, {}),
        GUESS: (model.prior, {}),
        "PCM + secant": (model.prior if adapter.from_prior else None, tuned),
    }
    found = {
        method: measure_preview(model.model_fn, Base(model.params, solver, prior), batch, **how, **options)
        for method, (prior, options) in methods.items()
    }
    outcome: dict[str, Any] = {
        "rows": {method: preview.rows for method, preview in found.items()},
        "candidates": found["PCM + secant"].candidates,
        "kid": {method: preview.error for method, preview in found.items()},
        "kid_sequential": judge(np.asarray(batch["exact"][:, -1]), np.zeros(0)),
    }
    console.print(outcome["rows"])
    rows = adapter.previews | {SLOPE: found["PCM + secant"].rows}
    path = ADAPTERS / f"{config.name}.safetensors"
    save_adapter(path, adapter.lora, adapter.tables, model, adapter.about, rows, storage=STORAGE)
    write_result(previews_name(config.name), outcome, config=config, seed=config.seed, command=config.command)
    trained = json.loads((RESULTS / f"pcm_{config.name.replace('-', '_')}.json").read_text())
    write_text(ADAPTERS / f"{config.name}.md", card(trained, rows, config.command))
    return outcome
