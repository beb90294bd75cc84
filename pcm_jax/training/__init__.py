"""Training of denoisers."""

from pcm_jax.training.denoising import denoising_loss
from pcm_jax.training.state import OptimizerConfig, TrainState, init_state, make_step, update_ema
from pcm_jax.training.trainer import TrainConfig, read_metrics, train

__all__ = [
    "OptimizerConfig",
    "TrainConfig",
    "TrainState",
    "denoising_loss",
    "init_state",
    "make_step",
    "read_metrics",
    "train",
    "update_ema",
]
