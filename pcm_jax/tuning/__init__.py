"""Which window is fastest on this device, or that the sequential sampler is: measured, and kept as a plan."""

from pcm_jax.tuning.api import tune, tune_scan
from pcm_jax.tuning.cost import CostModel, RowsCurve, Run
from pcm_jax.tuning.plan import Plan

__all__ = ["CostModel", "Plan", "RowsCurve", "Run", "tune", "tune_scan"]
