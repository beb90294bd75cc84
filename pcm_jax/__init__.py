"""Exact parallel sampling of diffusion models in JAX."""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from pcm_jax import parallel, priors, schedules, solvers, switching
from pcm_jax.recurrence import certificate as certificates
from pcm_jax.recurrence import linearization, norms
from pcm_jax.results import ResultCode, SampleOutput, ScanOutput, Stats
from pcm_jax.sampling import guess, sample_picard, sample_sequential
from pcm_jax.scanning import scan
from pcm_jax.tuning import Plan, tune, tune_scan
from pcm_jax.types import Shared

if TYPE_CHECKING:
    from pcm_jax import checkpoint, data, guidance, lora, metrics, networks, policy, pretrained, training

__version__ = "0.1.0"

_ON_FIRST_USE = ("checkpoint", "data", "guidance", "lora", "metrics", "networks", "policy", "pretrained", "training")

__all__ = [
    "Plan",
    "ResultCode",
    "SampleOutput",
    "ScanOutput",
    "Shared",
    "Stats",
    "certificates",
    "checkpoint",
    "data",
    "guess",
    "guidance",
    "linearization",
    "lora",
    "metrics",
    "networks",
    "norms",
    "parallel",
    "policy",
    "pretrained",
    "priors",
    "sample_picard",
    "sample_sequential",
    "scan",
    "schedules",
    "solvers",
    "switching",
    "training",
    "tune",
    "tune_scan",
]


def __getattr__(name: str) -> ModuleType:
    """Rooms that need Flax, Orbax or the data libraries are imported on first use: the samplers need none of them."""
    if name in _ON_FIRST_USE:
        return importlib.import_module(f"pcm_jax.{name}")
    raise AttributeError(f"module 'pcm_jax' has no attribute {name!r}")
