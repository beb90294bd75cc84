"""Training of denoisers, and of the fine-tuned models that parallel sampling switches to."""

from pcm_jax.training.calibration import Calibration, calibrate
from pcm_jax.training.consistency import Consistency, consistency
from pcm_jax.training.denoising import denoising_loss
from pcm_jax.training.finetune import FinetuneConfig, Finetuned, finetune
from pcm_jax.training.gaussian_prior import fit_prior_from_model
from pcm_jax.training.previews import Preview, measure_preview
from pcm_jax.training.rounds import Base, error_per_round
from pcm_jax.training.state import OptimizerConfig, TrainState, init_state, make_step, update_ema
from pcm_jax.training.stored import StoredTrajectories, collect
from pcm_jax.training.trainer import TrainConfig, read_metrics, train
from pcm_jax.training.trajectories import Drawn, Labels, OnlineTrajectories, solve_batch

__all__ = [
    "Base",
    "Calibration",
    "Consistency",
    "Drawn",
    "FinetuneConfig",
    "Finetuned",
    "Labels",
    "OnlineTrajectories",
    "OptimizerConfig",
    "Preview",
    "StoredTrajectories",
    "TrainConfig",
    "TrainState",
    "calibrate",
    "collect",
    "consistency",
    "denoising_loss",
    "error_per_round",
    "finetune",
    "fit_prior_from_model",
    "init_state",
    "make_step",
    "measure_preview",
    "read_metrics",
    "solve_batch",
    "train",
    "update_ema",
]
