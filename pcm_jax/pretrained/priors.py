"""Gaussian priors in files: mean and basis in bfloat16, variances in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import jax.numpy as jnp

from pcm_jax.files import reads
from pcm_jax.pretrained.safetensors_io import check_finite, load_arrays, load_metadata, save_params
from pcm_jax.pretrained.shipped import elsewhere
from pcm_jax.priors import GaussianPrior
from pcm_jax.priors.gaussian import Kind
from pcm_jax.trees import fingerprint
from pcm_jax.types import Params

PRIORS = Path(__file__).parent / "priors"
"""The folder of the shipped priors."""

_DTYPES = {
    "mean": jnp.bfloat16,
    "basis": jnp.bfloat16,
    "weights": jnp.bfloat16,
    "variances": jnp.float32,
    "remainder": jnp.float32,
}
"""A guess is off by more than bfloat16's round-off before the network is asked; a variance spans many decades."""


def available_priors(directory: str | Path = PRIORS) -> tuple[str, ...]:
    """Names that `load_prior` knows."""
    return tuple(sorted(path.stem for path in Path(directory).glob("*.safetensors")))


def save_prior(
    path: str | Path, prior: GaussianPrior, base: Params | None = None, about: dict[str, Any] | None = None
) -> Path:
    """Write `prior` to a safetensors file.

    Args:
        base: parameters of the network whose samples it was fitted to; their fingerprint is written too.
        about: how it was fitted, for people.
    """
    path = Path(path)
    arrays = {
        name: jnp.asarray(getattr(prior, name), dtype)
        for name, dtype in _DTYPES.items()
        if getattr(prior, name) is not None
    }
    metadata = {"prior": prior.kind, "base": None if base is None else fingerprint(base), "about": about or {}}
    save_params(path, arrays, metadata)
    return path


def find_prior(name: str, directory: Path) -> GaussianPrior | None:
    """The one that ships with the model called `name` in `directory`, if any does: in a folder "priors" beside it."""
    priors = directory.parent / PRIORS.name
    return load_prior(name, directory=priors) if (priors / f"{name}.safetensors").is_file() else None


@reads("name")
def load_prior(name: str | Path, base: Params | None = None, directory: str | Path = PRIORS) -> GaussianPrior:
    """The prior called `name`, in float32; nothing is downloaded.

    Args:
        name: such as "digits", `available_priors()` lists them; or the path of a .safetensors file.
        base: parameters of the network that it is to guess for. Another network's prior still leaves every sample
            exact, but saves fewer rounds.
        directory: where `<name>.safetensors` lies, by default inside the package.

    Raises:
        ValueError: an unknown name, a file of something else or a truncated one, or a prior of another `base`.
    """
    path = Path(name) if Path(name).suffix == ".safetensors" else Path(directory) / f"{name}.safetensors"
    if not path.is_file():
        known = ", ".join(available_priors(directory)) or "none"
        raise ValueError(
            f"there is no prior {str(name)!r} in {path.parent}; there are: {known}{elsewhere(path.parent)}"
        )
    metadata, arrays = load_metadata(path), load_arrays(path)
    kind: Kind = metadata.get("prior", "")
    required = _DTYPES.keys() - (set() if kind == "observation" else {"weights"})
    if (
        kind not in get_args(Kind)
        or arrays.keys() != required
        or any(arrays[each].dtype != _DTYPES[each] for each in required)
    ):
        raise ValueError(f"{path} is no prior of this package; write one with pretrained.save_prior")
    check_finite(path, arrays)
    if base is not None and metadata.get("base") not in (None, fingerprint(base)):
        raise ValueError(
            f"{path} was fitted to samples of other weights (fingerprint {metadata['base']}, these are "
            f"{fingerprint(base)}); fit it again with training.fit_prior_from_model"
        )
    return GaussianPrior(**{each: jnp.asarray(arrays[each], jnp.float32) for each in arrays}, kind=kind)
