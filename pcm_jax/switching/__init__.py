"""Who evaluates a row: the base model, the fine-tuned one, or a blend; and how the two are combined."""

from pcm_jax.switching.schedules import (
    Switch,
    SwitchInput,
    adaptive,
    after,
    always,
    calibrated,
    frontier,
    linear,
    never,
)
from pcm_jax.switching.spaces import Adapter, FeatureSpace, ParameterSpace

__all__ = [
    "Adapter",
    "FeatureSpace",
    "ParameterSpace",
    "Switch",
    "SwitchInput",
    "adaptive",
    "after",
    "always",
    "calibrated",
    "frontier",
    "linear",
    "never",
]
