"""Fine-tuned adapters in files: LoRA factors, the switch measured for them, and what they were made for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from pcm_jax import lora
from pcm_jax.files import reads
from pcm_jax.lora import LoRA
from pcm_jax.networks import factored
from pcm_jax.pretrained.safetensors_io import check_finite, load_arrays, load_metadata, rounded, save_params, widened
from pcm_jax.pretrained.shipped import elsewhere
from pcm_jax.sampling.preview import MeasuredRows
from pcm_jax.switching import ParameterSpace, Switch, calibrated, never
from pcm_jax.trees import fingerprint, flatten
from pcm_jax.types import ModelFn, Params

ADAPTERS = Path(__file__).parent / "adapters"
"""The folder of the shipped adapters."""


class Adapted(Protocol):
    """What an adapter belongs to: a `Pretrained` model, a `Policy`, or the `Denoiser` of a folder."""

    @property
    def model_fn(self) -> ModelFn: ...

    @property
    def params(self) -> Params: ...


class Named(Adapted, Protocol):
    """The same with the name that the adapter's file tells."""

    @property
    def name(self) -> str: ...


@dataclasses.dataclass(frozen=True, eq=False)
class PretrainedAdapter:
    """What `sample_picard` takes: `adapter=` and `switch=`, and `preview=` for runs of a few rounds.

    lora: the factors. tables: lambda `[rounds, T]`, measured for each slope of the scan (`pcm_jax.linearization`), at
    least for "secant". previews: for the same slopes, the row whose data prediction is the best sample after 1, 2, ..
    rounds, if that was measured. about: the solver it was trained for, and how.

    Example:
        model = pcm_jax.pretrained.load("digits")
        pcm = pcm_jax.pretrained.load_adapter("digits-ddim50", model)
        pcm_jax.sample_picard(model.model_fn, model.params, noise, solver, adapter=pcm.adapter, switch=pcm.switch)
    """

    name: str
    lora: LoRA
    tables: dict[str, np.ndarray]
    previews: dict[str, MeasuredRows]
    adapter: ParameterSpace
    about: dict[str, Any]

    @property
    def from_prior(self) -> bool:
        """Whether it was trained from the model's prior: pass `prior=model.prior` too, and only then."""
        return self.about.get("prior") is not None

    @property
    def preview(self) -> MeasuredRows | None:
        """The rows for the default slope, the secant."""
        return self.previews.get("secant")

    @property
    def switch(self) -> Switch:
        """The calibrated one for the default slope, the secant."""
        return self.switch_for("secant")

    def switch_for(self, slope: str) -> Switch:
        """The calibrated one for another slope, such as "identity"."""
        if slope not in self.tables:
            raise ValueError(f"{self.name} has no table for {slope!r}, it has: {', '.join(sorted(self.tables))}")
        table = self.tables[slope]
        return calibrated(table) if table.size else never()


def available_adapters(directory: str | Path = ADAPTERS) -> tuple[str, ...]:
    """Names that `load_adapter` knows."""
    return tuple(sorted(path.stem for path in Path(directory).glob("*.safetensors")))


def save_adapter(
    path: str | Path,
    adapted: LoRA,
    tables: Mapping[str, np.ndarray],
    model: Named,
    about: dict[str, Any] | None = None,
    previews: Mapping[str, Sequence[int]] | None = None,
    *,
    storage: DTypeLike | None = None,
) -> Path:
    """Write a LoRA of `model`, with the model's fingerprint, its tables {"secant": `[rounds, T]`, ..} and previews.

    storage: of the factors, as for `save_params`. The fingerprint is of `model.params` as they are: of a model that was
    itself stored in bfloat16, give the one that was loaded.
    """
    path = Path(path)
    lora.check(model.params, adapted)
    if "secant" not in tables:
        raise ValueError(f"tables must hold one for 'secant', the default slope, got {sorted(tables)}")
    tree = {
        "factors": rounded(adapted.factors, storage),
        "tables": {name: np.asarray(table, np.float32) for name, table in tables.items()},
        "previews": {name: np.asarray(rows, np.int32) for name, rows in (previews or {}).items()},
    }
    metadata = {"scale": adapted.scale, "base": fingerprint(model.params), "model": model.name, "about": about or {}}
    save_params(path, tree, metadata)
    return path


@reads("directory", "name")
def load_adapter(name: str, model: Adapted, directory: str | Path = ADAPTERS) -> PretrainedAdapter:
    """The adapter called `name`; nothing is downloaded.

    Args:
        name: such as "digits-ddim50"; `available_adapters()` lists them.
        model: the model that it adapts.
        directory: where `<name>.safetensors` lies, by default inside the package.

    Raises:
        ValueError: an unknown name, a foreign or truncated file, or a LoRA of another model.
    """
    path = Path(directory) / f"{name}.safetensors"
    if not path.is_file():
        known = ", ".join(available_adapters(directory)) or "none"
        raise ValueError(f"there is no adapter {name!r} in {directory}; there are: {known}{elsewhere(Path(directory))}")
    metadata, arrays = load_metadata(path), load_arrays(path)
    if not {"scale", "base"} <= metadata.keys() or "tables/secant" not in arrays:
        raise ValueError(f"{path} is no adapter of this package; write one with pretrained.save_adapter")
    check_finite(path, arrays)
    kernels = flatten(model.params)
    factors: dict[str, dict[str, Any]] = {}
    for key, array in arrays.items():
        if key.startswith("factors/"):
            kernel, part = key.removeprefix("factors/").rsplit("/", 1)
            factors.setdefault(kernel, {})[part] = jnp.asarray(widened(array, kernels.get(kernel)))
    adapted = LoRA(factors, float(metadata["scale"]))
    if metadata["base"] != fingerprint(model.params):
        try:
            lora.check(model.params, adapted)  # says which kernel differs, if one does
        except ValueError as error:
            raise ValueError(f"{path}: {error}; load the model {metadata.get('model')!r} for it") from None
        raise ValueError(
            f"{path} was trained on other weights of this architecture (fingerprint {metadata['base']}, these are "
            f"{fingerprint(model.params)}); fine-tune it again, or load the model {metadata.get('model')!r}"
        )
    about, num_steps = dict(metadata.get("about", {})), int(arrays["tables/secant"].shape[1])
    return PretrainedAdapter(
        name=name,
        lora=jax.tree.map(jnp.asarray, adapted),
        tables={key.removeprefix("tables/"): value for key, value in arrays.items() if key.startswith("tables/")},
        previews={
            key.removeprefix("previews/"): MeasuredRows(value, str(about.get("solver", "")), num_steps)
            for key, value in arrays.items()
            if key.startswith("previews/")
        },
        adapter=factored(model.model_fn, adapted),
        about=about,
    )
