"""Models that come with the package: weights, the configuration that rebuilds them, and a card."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from pcm_jax import checks, networks, schedules
from pcm_jax.files import read_json, reads, write_text
from pcm_jax.pretrained.priors import find_prior
from pcm_jax.pretrained.safetensors_io import load_params, save_params
from pcm_jax.pretrained.shipped import elsewhere
from pcm_jax.priors import GaussianPrior
from pcm_jax.schedules import Schedule
from pcm_jax.types import ModelFn, Params, PredictionType

WEIGHTS = Path(__file__).parent / "weights"
"""The folder of the shipped models."""

_SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "linear_vp": schedules.linear_vp,
    "scaled_linear_vp": schedules.scaled_linear_vp,
    "cosine_vp": schedules.cosine_vp,
    "rectified_flow": schedules.rectified_flow,
    "edm": schedules.edm,
}


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """What `<name>.json` holds: enough to rebuild the network and to sample with it.

    network, schedule: {"name": .., its keyword arguments}. sample_shape: without the batch axis. num_classes: 0 for an
    unconditional model, else also the null label of classifier-free guidance. data_std: standard deviation of the
    training data, the unit of errors. clip: bound on the predicted data that samples are best drawn with, or None.
    """

    name: str
    network: dict[str, Any]
    schedule: dict[str, Any]
    prediction: PredictionType
    sample_shape: tuple[int, ...]
    num_classes: int
    data_std: float
    clip: float | None
    parameters: int

    def __post_init__(self) -> None:
        if not isinstance(self.sample_shape, (tuple, list)) or not self.sample_shape:
            raise ValueError(f"{self.name}: sample_shape must be of one sample, got {checks.shown(self.sample_shape)}")
        object.__setattr__(self, "sample_shape", tuple(self.sample_shape))
        for size in self.sample_shape:
            checks.whole(f"{self.name}: sample_shape", size)
        checks.whole(f"{self.name}: num_classes", self.num_classes, 0)
        checks.number(f"{self.name}: data_std", self.data_std, 0, above=True)
        if self.clip is not None:
            checks.number(f"{self.name}: clip", self.clip, 0, above=True)
        if self.prediction not in get_args(PredictionType):
            raise ValueError(f"{self.name}: unknown prediction {self.prediction!r}")

    def build(self) -> tuple[networks.LinenModel, Params]:
        """(model_fn, shapes and dtypes of its parameters)."""
        model_fn = networks.linen(networks.by_name(**self.network))
        x = jax.ShapeDtypeStruct((1, *self.sample_shape), jnp.float32)
        t = jax.ShapeDtypeStruct((1,), jnp.float32)
        label = jax.ShapeDtypeStruct((1,), jnp.int32) if self.num_classes else None
        return model_fn, jax.eval_shape(model_fn.init, jax.eval_shape(lambda: jax.random.key(0)), x, t, label)

    def build_schedule(self) -> Schedule:
        """The schedule that the model was trained with."""
        options = dict(self.schedule)
        name = options.pop("name", None)
        if name not in _SCHEDULES:
            raise ValueError(f"{self.name}: unknown schedule {name!r}; choose one of {', '.join(_SCHEDULES)}")
        return _SCHEDULES[name](**options)


@dataclasses.dataclass(frozen=True, eq=False)
class Pretrained:
    """A trained model and how to sample with it; fields as in `ModelConfig`.

    card: its model card, Markdown. prior: the Gaussian first guess that comes with it, or None.

    Example:
        model = pcm_jax.pretrained.load("digits")
        solver = pcm_jax.solvers.ddim(model.schedule, 50, prediction=model.prediction, clip=model.clip)
        pcm_jax.sample_picard(model.model_fn, model.params, noise, solver, cond=labels, prior=model.prior)
    """

    name: str
    model_fn: ModelFn
    params: Params
    schedule: Schedule
    prediction: PredictionType
    sample_shape: tuple[int, ...]
    num_classes: int
    data_std: float
    clip: float | None
    config: ModelConfig
    card: str
    prior: GaussianPrior | None = None


def available(directory: str | Path = WEIGHTS) -> tuple[str, ...]:
    """Names that `load` knows."""
    return tuple(sorted(path.stem for path in Path(directory).glob("*.safetensors")))


@reads("directory", "name")
def load(name: str, directory: str | Path = WEIGHTS) -> Pretrained:
    """The model called `name`, from the files `<name>.safetensors`, `.json` and `.md`; nothing is downloaded.

    Args:
        name: such as "digits"; `available()` lists them.
        directory: where the files lie, by default inside the package.

    Raises:
        ValueError: an unknown name, a foreign or truncated file, or weights that are not this network's.
    """
    directory = Path(directory)
    path, weights = directory / f"{name}.json", directory / f"{name}.safetensors"
    if not path.is_file() or not weights.is_file():
        known = ", ".join(available(directory)) or "none"
        raise ValueError(f"there is no model {name!r} in {directory}; choose one of {known}{elsewhere(directory)}")
    content = read_json(path)
    try:
        config = ModelConfig(**content)
    except TypeError as error:
        raise ValueError(f"{path} is no model configuration ({error}); write it with pretrained.export") from error
    model_fn, like = config.build()
    card = directory / f"{name}.md"
    return Pretrained(
        name=name,
        model_fn=model_fn,
        params=load_params(weights, like),
        schedule=config.build_schedule(),
        prediction=config.prediction,
        sample_shape=config.sample_shape,
        num_classes=config.num_classes,
        data_std=config.data_std,
        clip=config.clip,
        config=config,
        card=card.read_text() if card.is_file() else "",
        prior=find_prior(name, directory),
    )


def export(
    params: Params,
    config: ModelConfig,
    card: str,
    directory: str | Path = WEIGHTS,
    *,
    storage: DTypeLike | None = None,
) -> Path:
    """Write the three files that `load` reads, storage as for `save_params`; returns the path of the weights."""
    directory = Path(directory)
    path = directory / f"{config.name}.safetensors"
    save_params(path, params, metadata={"name": config.name}, storage=storage)
    write_text(directory / f"{config.name}.json", json.dumps(dataclasses.asdict(config), indent=2) + "\n")
    write_text(directory / f"{config.name}.md", card)
    return path
