"""FD of the images after every round: the analogue of the paper's table (FID 257.83 -> 67.74 after two rounds).

    python -m experiments.pcm.fd_study --model fashion --solver DDIM-50

Every method shows its last state; those with the default slope are run once more with `preview=`, showing the data
prediction of one row. An adapter brings its rows; those of the base model are the ones that `experiments.pcm previews`
chose, or the nearest to the exact sample, measured first, on other noises.

Distances between EfficientNet-Lite0 features of the samples and of the dataset's real ones; it is not FID, and with
few samples its bias is large, the same for every method. Features are summed up as they come and no image is kept. Each
method's sums are written to experiments/out after every batch, so that a study that was stopped goes on where it was,
and a method whose samples cannot have changed since the last result was written keeps its FD (delete that to measure it
again). A batch of 64 with 50 steps takes 40 s for each method on 2 CPU cores; on a GPU take more samples:

    python -m experiments.pcm.fd_study --model fashion --solver DDIM-50 --samples 10000 --batch 500
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from experiments.common import plots, study
from experiments.common.figures import RESULTS, command_line, record, write_result
from experiments.pcm.fd_sums import Sums, digest
from experiments.pcm.study import GUESS, METHODS
from pcm_jax.data import ImageSource, load_source
from pcm_jax.metrics import Features, Moments, frechet_distance, load_features, rounds_to
from pcm_jax.pretrained import Pretrained, PretrainedAdapter, load
from pcm_jax.training import Base, Labels, measure_preview, solve_batch
from pcm_jax.trees import fingerprint

DATASETS = {"digits": ("digits", "test"), "fashion": ("fashion_mnist", "test"), "emoji32": ("emoji32", "train")}
"""The real images; there are too few emoji for a second set."""
FIRST_SEED = 50_000
PARITY = 1.02
"""Times the sequential sampler's FD: as good."""
PREVIEWS = ("Picard + secant, preview", "secant + prior, preview", "PCM + secant, preview")
"""The default slope again, showing data predictions."""
LONGER = {"Picard": 1.5}
"""Times as many rounds, to see when it is as good."""
COMPARED = (
    ("", "PCM + secant, preview", "Picard"),
    ("_secant", "PCM + secant, preview", "Picard + secant"),
    ("_preview", "PCM + secant, preview", "Picard + secant, preview"),
    ("_last_state", "PCM + secant", "Picard + secant"),
    ("_prior", "secant + prior, preview", "Picard"),
)
"""Headline figures: suffix of the name, and whose FD or rounds over whose."""


@dataclasses.dataclass(frozen=True)
class Config:
    """samples: for every method. rounds: after each of which FD is computed. out: sums so far."""

    model: str = "fashion"
    solver: str = "DDIM-50"
    samples: int = 512
    batch: int = 64
    rounds: int = 8
    out: Path = Path("experiments/out/fd")


def run(config: Config, console: Console, features: Features | None = None) -> dict[str, Any]:
    """FD of the sequential samples, and of every method's after 1 .. `rounds` rounds."""
    model = load(config.model)
    source = load_source(*DATASETS[config.model])
    features = load_features() if features is None else features
    bar = Progress(
        TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    )
    starts = range(0, config.samples, config.batch)
    every = ("sequential", *METHODS, *PREVIEWS)
    about = {method: digest(_about(config, model, method)) for method in every}
    fd = _kept(config, about)
    with bar:
        task = bar.add_task("real images", total=1 + (len(every) - len(fd)) * len(starts))
        data = Moments.empty(features(source.images[:1]).shape[1])
        for start in range(0, len(source), 500):
            data = data.with_batch(features(source.images[start : start + 500]))
        bar.advance(task)
        for method in (each for each in every if each not in fd):
            sums = Sums(config.out, method, _about(config, model, method))
            rows = _rows(config, model, method) if method in PREVIEWS and len(sums.done) < len(starts) else None
            for start in starts:
                bar.update(task, description=f"{method}, sample {start}")
                if start not in sums.done:
                    size = min(config.batch, config.samples - start)
                    sums.add(start, _images(config, model, source, method, rows, start, size), features)
                bar.advance(task)
            fd[method] = [frechet_distance(each, data) for each in sums.moments]
            if method in PREVIEWS:  # behind its last row it shows the last state, as the method without previews does
                fd[method] += fd[method.removesuffix(", preview")][len(fd[method]) :]
    fd = {method: fd[method] for method in every}
    return {"fd": fd, "images": len(source), "parity": _parity(fd), "about": about}


def _kept(config: Config, about: Mapping[str, str]) -> dict[str, list[float]]:
    """FD of the methods that the written result has of the very same samples."""
    path = RESULTS / f"fd_{config.model}.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    same = {method for method, text in result.get("about", {}).items() if text == about.get(method)}
    return {method: result["fd"][method] for method in same}


def base_rows(model: str, solver: str, method: str) -> tuple[int, ...] | None:
    """The rows that `experiments.pcm previews` chose for the base model alone, if it did."""
    path = RESULTS / f"{previews_name(study.adapter_name(model, solver))}.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else {}
    return tuple(rows[method]) if method in rows else None


def previews_name(adapter: str) -> str:
    """Of that command's JSON: emoji32-ddim100 -> pcm_previews_emoji32_ddim100."""
    return "pcm_previews_" + adapter.replace("-", "_")


def _rounds(config: Config, method: str) -> int:
    return int(config.rounds * LONGER.get(method, 1))


def _adapter(config: Config, model: Pretrained, method: str) -> PretrainedAdapter | None:
    if not method.startswith("PCM"):
        return None
    adapter = study.adapter_for(model, config.solver)
    if adapter is None:
        raise ValueError(f"no adapter of {model.name} for {config.solver} is shipped; train it first")
    return adapter


def _rows(config: Config, model: Pretrained, method: str) -> tuple[int, ...]:
    """The adapter's rows, or measured ones."""
    shown = method.removesuffix(", preview")
    slope, _ = METHODS[shown]
    adapter = _adapter(config, model, method)
    if adapter is not None:
        return adapter.previews[slope]
    chosen = base_rows(config.model, config.solver, shown)
    if chosen is not None:
        return chosen
    base = Base(model.params, study.solvers(model)[config.solver], model.prior if shown == GUESS else None)
    draw, key = Labels(model.num_classes), jax.random.key(FIRST_SEED - 1)
    batch = solve_batch(model.model_fn, base, model.sample_shape, 16, draw, key)
    how: dict[str, Any] = {"rounds": config.rounds, "linearization": study.SLOPES[slope]}
    return measure_preview(model.model_fn, base, batch, **how).rows


def _images(
    config: Config,
    model: Pretrained,
    source: ImageSource,
    method: str,
    rows: tuple[int, ...] | None,
    start: int,
    size: int,
) -> list[np.ndarray]:
    """uint8 images after every round; of the sequential sampler its only ones."""
    case = study.problem(model, study.solvers(model)[config.solver], batch=size, seed=FIRST_SEED + start)
    if method == "sequential":
        return [source.pixels(np.asarray(case.sequential().sample))]
    of = method.removesuffix(", preview")
    slope, _ = METHODS[of]
    rounds, adapter = _rounds(config, method), _adapter(config, model, method)
    if rows is not None and rows[-1] == len(case.solver):
        shown = [place for place, row in enumerate(rows) if row < len(case.solver)]
        rounds = min(rounds, 1 + max(shown, default=0))
    options: dict[str, Any] = {"linearization": study.SLOPES[slope], "max_rounds": rounds, "preview": rows}
    if of == GUESS:
        options["prior"] = model.prior
    if adapter is not None:
        options |= study.tuned(adapter, model.prior, slope)
    out = case.picard(tol=1e-2, return_rounds=True, **options)
    return [source.pixels(images) for images in np.asarray(out.iterates)[:rounds]]


def _about(config: Config, model: Pretrained, method: str) -> Any:
    """What a method's samples depend on."""
    adapter = _adapter(config, model, method)
    about: tuple[Any, ...] = (config.model, config.solver, config.samples, config.batch, _rounds(config, method))
    about += (fingerprint(model.params),)
    about += (fingerprint((adapter.lora, adapter.tables)),) if adapter else ()
    of = method.removesuffix(", preview")
    if of == GUESS or (adapter is not None and adapter.from_prior):
        about += (fingerprint(model.prior),)
    if method not in PREVIEWS:
        return about
    return (*about, sorted(adapter.previews.items()) if adapter else base_rows(config.model, config.solver, of))


def _parity(fd: Mapping[str, list[float]]) -> dict[str, int | None]:
    """Rounds from which on FD stays within 2 % of the sequential sampler's."""
    return {method: rounds_to(fd[method], PARITY * fd["sequential"][0]) for method in fd if method != "sequential"}


def write(config: Config, outcome: dict[str, Any]) -> None:
    """JSON, headline figures, plot."""
    command = command_line("experiments.pcm.fd_study", config, always=("model", "solver"))
    write_result(f"fd_{config.model}", outcome, config=config, seed=FIRST_SEED, command=command)
    fd, parity = outcome["fd"], outcome["parity"]
    key = f"{config.model}.{config.solver.lower().replace('-', '')}"
    for suffix, tuned, plain in COMPARED:
        record(f"{key}.fd_ratio{suffix}_round2", fd[tuned][1] / fd[plain][1], command=command)
        if parity[tuned] and parity[plain]:
            record(f"{key}.fd_parity_rounds_ratio{suffix}", parity[tuned] / parity[plain], command=command)
    exact, plain, tuned = fd["sequential"][0], fd["Picard"][1], fd["PCM + secant, preview"][1]
    record(f"{key}.fd_floor_round2", exact / plain, command=command)
    # Of what is above the sequential sampler's FD, which the number of samples biases less than FD itself.
    record(f"{key}.fd_excess_round2", (tuned - exact) / (plain - exact), command=command)
    plots.frechet(fd, RESULTS / f"fd_{config.model}.png", title=f"{config.model}, {config.solver}")


def main(config: Config) -> None:
    """Run, show, write."""
    console = Console()
    console.width = max(console.width, 110)
    outcome = run(config, console)
    table = Table(title=f"FD on EfficientNet-Lite0 features, {config.samples} samples, {outcome['images']} real images")
    for title in ("method", *map(str, range(1, config.rounds + 1)), "parity"):
        table.add_column(title, justify="left" if title == "method" else "right")
    table.add_row("sequential", *[""] * (config.rounds - 1), f"{outcome['fd']['sequential'][0]:.2f}", "")
    for method in (*METHODS, *PREVIEWS):
        fd = outcome["fd"][method][: config.rounds]
        table.add_row(method, *(f"{value:.0f}" for value in fd), str(outcome["parity"][method]))
    console.print(table)
    write(config, outcome)


if __name__ == "__main__":
    main(tyro.cli(Config))
