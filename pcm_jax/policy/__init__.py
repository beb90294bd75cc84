"""Diffusion policies: observations in, a chunk of actions out, by any sampler."""

from pcm_jax.data.robots import Normalizer
from pcm_jax.policy.controller import Controller
from pcm_jax.policy.decision import Decision
from pcm_jax.policy.policy import Policy
from pcm_jax.policy.vision import Vision

__all__ = ["Controller", "Decision", "Normalizer", "Policy", "Vision"]
