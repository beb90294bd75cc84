"""A small run of everything that resumes: a function of a folder, which returns a digest of what it found.

Called twice with the same folder, or killed and called again, each must return what it returns in one go.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

import pcm_jax as pcm
from experiments.campaigns import latent, toys
from pcm_jax import lora, networks
from pcm_jax.data import batch_iterator
from pcm_jax.data.sources import ImageSource
from pcm_jax.training import (
    FinetuneConfig,
    Labels,
    OptimizerConfig,
    TrainConfig,
    collect,
    denoising_loss,
    finetune,
    fit_prior_from_model,
    train,
)
from pcm_jax.trees import fingerprint

QUIET = Console(quiet=True)
MODEL = networks.linen(networks.ResidualMLP(width=16, depth=1, num_classes=3))
SCHEDULE = pcm.schedules.linear_vp(100)


def params() -> Any:
    """Of MODEL."""
    like = MODEL.init(jax.random.key(0), jnp.zeros((1, 6)), jnp.zeros(1), jnp.zeros(1, jnp.int32))
    return toys.drawn(like)


def solver() -> pcm.solvers.Solver:
    """Of MODEL."""
    return pcm.solvers.ddim(SCHEDULE, 10, prediction="data")


def trained(folder: Path) -> str:
    """15 steps, a checkpoint after every third."""
    images = np.random.default_rng(0).integers(0, 17, (23, 6), dtype=np.uint8)
    batches = batch_iterator(ImageSource("toy", images, np.arange(23, dtype=np.int32) % 3, 3, 16), 8, seed=1)

    def loss(params: Any, batch: Any, key: Any) -> Any:
        return denoising_loss(params, MODEL, SCHEDULE, batch, key, prediction="data")

    config = TrainConfig(15, OptimizerConfig(1e-2), str(folder), 3, 5, 10, progress=False)
    state = train(config, loss, params(), batches, jax.random.key(5))
    return fingerprint((state.params, state.ema, jax.random.key_data(state.key)))


def tuned(folder: Path) -> str:
    """Two phases of LoRA."""
    start = lora.init(params(), 2, jax.random.key(5))
    config = FinetuneConfig(phases=(6, 6), batch_size=4, heldout=4, calibration_rounds=2, evaluate_every=3)
    found = finetune(
        MODEL,
        params(),
        solver(),
        (6,),
        start,
        config,
        draw_cond=Labels(3),
        factored=networks.FactoredLinen(MODEL.module),
        directory=str(folder),
        progress=False,
    )
    return fingerprint((found.tuned, [np.asarray(table) for table in found.tables]))


def collected(folder: Path) -> str:
    """Eight shards of trajectories; the digest is that of their bytes."""
    how: dict[str, Any] = {"num_trajectories": 48, "seed": 3, "shard_size": 6, "rounds": 2, "draw_cond": Labels(3)}
    collect(MODEL, params(), solver(), (6,), folder, progress=False, **how)
    return _bytes(folder)


def fitted(folder: Path) -> str:
    """A prior of samples in twenty parts."""
    how: dict[str, Any] = {"num_samples": 200, "batch_size": 10, "num_steps": 10, "rank": 2, "prediction": "data"}
    prior = fit_prior_from_model(
        MODEL, params(), SCHEDULE, (6,), num_classes=3, directory=folder, progress=False, **how
    )
    return fingerprint(prior)


def base(folder: Path) -> str:
    """Base training of a small digits model, with its measurement."""
    from experiments.models.base_model import run_train
    from experiments.models.digits import ABOUT, Train

    config = Train(out=folder, steps=30, judged=20, width=16, depth=1, ship=False)
    outcome = run_train(config, "digits", {"name": "mlp", "width": 16, "depth": 1}, ABOUT, QUIET)
    return _digest({name: value for name, value in outcome.items() if name not in ("seconds", "curve")})


def robots_collect(folder: Path) -> str:
    """Forty demonstrations by Meta-World's expert; the digest is that of their bytes."""
    from experiments.robots.collect import Collect, run_collect

    run_collect(Collect(tasks=("drawer-close",), episodes=40, out=folder), QUIET)
    return _bytes(folder)


def robots_train(folder: Path) -> str:
    """A policy on people's demonstrations of Push-T, a checkpoint after every fifth step."""
    from experiments.robots.train import TrainPolicy, run_train

    config = TrainPolicy(steps=25, batch_size=64, checkpoint_every=5, out=folder, ship=False)
    return _digest({name: value for name, value in run_train(config, QUIET).items() if name != "seconds"})


def robots_eval(folder: Path, task: str = "pusht") -> str:
    """Four episodes by the shipped policy, sequentially and in rounds, in batches of two."""
    from experiments.robots.evaluate import Evaluate, run_evaluate

    config = Evaluate(task, ("DDPM-100", "PCM + secant"), episodes=4, batch=2, out=folder)
    return _digest(
        [{name: value for name, value in line.items() if name != "seconds"} for line in run_evaluate(config, QUIET)]
    )


def tables(folder: Path) -> str:
    """The paper's image table of a tiny latent model: a PCM-LoRA is trained, every method is sampled."""
    from experiments.paper import images
    from experiments.paper.config import LDMCelebA

    given = folder.parent / f"{folder.name}-given"
    if not given.exists():
        scratch = folder.parent / f"{folder.name}-unfinished"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        latent.pipeline(scratch / "ldm")
        latent.pictures(scratch / "data")
        scratch.rename(given)
    config = LDMCelebA(model=given / "ldm", data=str(given / "data"), out=folder, full=False, **latent.tiny())
    with mock.patch.object(images, "_latencies", lambda *_: {}):  # no two runs take the same time
        outcome = images.run(config, QUIET, latent.few)
    return _digest(outcome)


def page(folder: Path) -> str:
    """The gallery from the results that are committed."""
    from experiments.gallery.page import Page, run_page

    folder.mkdir(parents=True, exist_ok=True)
    return hashlib.sha256(run_page(Page(out=folder / "gallery.html"), QUIET).read_bytes()).hexdigest()[:16]


def drawn(folder: Path) -> str:
    """Samples for the gallery."""
    from experiments.gallery.sprites import Draw, run_draw

    picture = run_draw(Draw(solver="DDIM-50", images=2, rounds=2, results=folder), QUIET)
    kept = json.loads((folder / "gallery_digits.json").read_text())
    return _digest([hashlib.sha256(picture.read_bytes()).hexdigest(), kept["errors"]])


def cells(folder: Path) -> str:
    """The random cases of the coverage study, group by group."""
    from experiments.coverage import random

    folder.mkdir(parents=True, exist_ok=True)
    with mock.patch.object(random, "measure", functools.partial(random.measure, cases=1)):
        return _digest([random._kept(folder, seed) for seed in (3, 4)])


def _bytes(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.array_record*")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=lambda leaf: np.asarray(leaf).tolist())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


VICTIMS: dict[str, Callable[[Path], str]] = {
    "train": trained,
    "finetune": tuned,
    "collect": collected,
    "prior": fitted,
    "base": base,
    "robots collect": robots_collect,
    "robots train": robots_train,
    "robots eval pusht": robots_eval,
    "robots eval metaworld": functools.partial(robots_eval, task="drawer-close"),
    "paper tables": tables,
    "gallery draw": drawn,
    "gallery page": page,
    "study": cells,
}
