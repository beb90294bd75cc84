"""The image tables: FD after every round of every method, and what a sample costs."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import pcm_jax as pcm
from experiments.common.study import SLOPES
from experiments.paper import hosts
from experiments.paper.config import Images
from experiments.paper.subject import Subject, load
from experiments.paper.training import Tuned, tuned_models
from experiments.pcm.fd_sums import Sums
from pcm_jax.data import DATASETS, load_folder, load_source
from pcm_jax.metrics import Features, Moments, frechet_distance, load_features, load_inception, paired, rounds_to
from pcm_jax.trees import fingerprint

METHODS = {
    "Picard": (None, "identity"),
    "PCM": ("PCM", "identity"),
    "PCM-LoRA": ("PCM-LoRA", "identity"),
    "Picard + secant": (None, "secant"),
    "PCM-LoRA + secant": ("PCM-LoRA", "secant"),
    "PCM-LoRA + secant, preview": ("PCM-LoRA", "secant"),
}
"""The paper's three, others with the default slope, the last showing data predictions: (fine-tuned model, slope)."""
PREVIEW = ", preview"
PARITY = 1.02
"""Times the sequential sampler's FD: as good."""
GRID = 10
"""Images that are shown of every method and round."""


def run(config: Images, console: Console, features: Features | None = None) -> dict[str, Any]:
    """Everything that the table shows. features: of images, in tests; by default what the config says."""
    if -(-config.samples // config.batch) < jax.process_count():
        raise ValueError(f"there are {jax.process_count()} hosts and fewer batches; lower --batch or take more samples")
    subject = load(config)
    folder = config.out / subject.name
    # Each host trains the same, by itself: nothing of it is random but what the seed says.
    mine = folder if jax.process_count() == 1 else folder / f"host_{jax.process_index()}"
    tuned = tuned_models(config, subject, mine, console)
    if features is None:
        features = load_features() if config.inception is None else load_inception(config.inception)
    names = [name for name, (model, _) in METHODS.items() if model is None or model in tuned]
    names = [name for name in names if PREVIEW not in name or tuned["PCM-LoRA"].preview is not None]
    starts = range(0, config.samples, config.batch)
    bar = Progress(
        TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
    sums: dict[str, list[Moments]] = {}
    with bar:
        task = bar.add_task("", total=(1 + len(names)) * len(hosts.mine(starts)), visible=hosts.writer())
        for name in ("sequential", *names):
            bar.update(task, description=name)
            kept = Sums(mine / "sums", name, _about(config, subject, tuned, name))
            for start in hosts.mine(starts):
                if start not in kept.done:
                    size = min(config.batch, config.samples - start)
                    states = _states(config, subject, tuned, name, start, size)
                    kept.add(start, [subject.decode(x) for x in states], features)
                bar.advance(task)
            sums[name] = hosts.merged(kept.moments)
    real = _real(config, features) or sums["sequential"][-1]
    fd = {name: [frechet_distance(each, real) for each in moments] for name, moments in sums.items()}
    # Of the sequential sampler: after as many steps as others had rounds, and at its end.
    whole = fd["sequential"].pop()
    parity = {name: rounds_to(curve, PARITY * whole) for name, curve in fd.items() if name != "sequential"}
    return {
        "fd": {name: curve[: config.rounds] for name, curve in fd.items()},
        "sequential": whole,
        "parity": parity,
        "metric": "FD on EfficientNet-Lite0 features" if config.inception is None else "FID",
        # Of a folder its name: whose machine it was on is nobody's business.
        "reference": Path(config.data).name or "the sequential sampler's own samples",
        "latency": _latencies(config, subject, tuned, parity),
        "grid": _grid(config, subject, tuned, names) if hosts.writer() else {},
    }


def _states(
    config: Images, subject: Subject, tuned: dict[str, Tuned], name: str, start: int, size: int
) -> Sequence[Any]:
    """The sample `[B, ...]` as it stands after 1 .. `rounds` rounds; of the sequential sampler its end too."""
    out = sample(config, subject, tuned, name, config.rounds, start, size, every=True)
    if name == "sequential":
        assert out.trajectory is not None
        return [*out.trajectory[1 : config.rounds + 1], out.sample]
    assert out.iterates is not None
    return list(out.iterates[: config.rounds])


def sample(
    config: Images,
    subject: Subject,
    tuned: dict[str, Tuned],
    name: str,
    rounds: int,
    start: int,
    size: int,
    every: bool = False,
) -> pcm.SampleOutput:
    """Samples number `start` .. of a method that ends after `rounds`. every: as they stood after each of them, too."""
    noise = subject.noise(config.seed, start, size)
    key = jax.random.fold_in(jax.random.key(config.seed + 1), start) if subject.solver.stochastic else None
    given: dict[str, Any] = {"cond": subject.cond(start, size), "key": key}
    if name == "sequential":
        return pcm.sample_sequential(
            subject.model_fn, subject.params, noise, subject.solver, return_trajectory=every, **given
        )
    model, slope = METHODS[name]
    given |= {"linearization": SLOPES[slope], "max_rounds": rounds, "return_rounds": every}
    if model is not None:
        given |= {"adapter": tuned[model].adapter, "switch": tuned[model].switch(slope)}
        given |= {"preview": tuned[model].preview} if name.endswith(PREVIEW) else {}
    return pcm.sample_picard(subject.model_fn, subject.params, noise, subject.solver, **given)


def _about(config: Images, subject: Subject, tuned: dict[str, Tuned], name: str) -> Any:
    """What a method's samples depend on."""
    model = METHODS[name][0] if name in METHODS else None
    extra: Any = None if model is None else fingerprint((tuned[model].adapter, tuned[model].tables))
    if model is not None and name.endswith(PREVIEW):
        extra = (extra, tuned[model].preview)
    samples = (config.samples, config.batch, config.rounds, config.seed, config.guidance, str(config.inception))
    return (fingerprint((subject.params, subject.solver)), extra, samples, jax.process_count())


def _real(config: Images, features: Features) -> Moments | None:
    """Moments of the real images; None where there are none."""
    if not config.data:
        return None
    path = Path(config.data)
    if config.data not in DATASETS and not path.is_dir():
        raise ValueError(
            f"--data {config.data} is neither a folder nor a dataset; the datasets are {', '.join(DATASETS)}"
        )
    batches = load_folder(path) if path.is_dir() else _of_source(config.data)
    whole: Moments | None = None
    for images in batches:
        part = Moments.of(features(images))
        whole = part if whole is None else whole.merged(part)
    return whole


def _of_source(name: str) -> Any:
    images = load_source(name, "train").images
    return (images[start : start + 500] for start in range(0, len(images), 500))


def _latencies(
    config: Images, subject: Subject, tuned: dict[str, Tuned], parity: dict[str, int | None]
) -> dict[str, dict[str, Any]]:
    """Time of one sample at parity, or after all rounds, over the sequential sampler's in the same run."""

    def one(name: str, rounds: int) -> Any:
        return functools.partial(sample, config, subject, tuned, name, rounds, 0, 1)

    base = one("sequential", 0)
    absolute = jax.default_backend() != "cpu"
    out: dict[str, dict[str, Any]] = {}
    for name, at in parity.items():
        rounds = at or config.rounds
        mine, whole, ratio = paired(one(name, rounds), base)
        out[name] = {"rounds": rounds, "over_sequential": ratio, "speedup": 1 / ratio}
        if absolute:
            out[name] |= {"seconds": mine.median, "sequential_seconds": whole.median}
    return out


def _grid(config: Images, subject: Subject, tuned: dict[str, Tuned], names: Sequence[str]) -> dict[str, Any]:
    """uint8 images of the first samples: {method: [rounds, n, H, W, C]}."""
    size = min(GRID, config.batch, config.samples)
    return {
        name: np.stack([subject.decode(x)[:size] for x in _states(config, subject, tuned, name, 0, size)])
        for name in ("sequential", *names)
    }
