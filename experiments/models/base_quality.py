"""How good drawn images are: does a classifier of real images read them, and are they copies of training images?"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import pcm_jax as pcm
from pcm_jax.data import ImageSource
from pcm_jax.schedules import Schedule
from pcm_jax.types import Array, ModelFn, Params, PredictionType

KNOWN = 2_000
"""Real images that the classifier learns from, and that samples are compared with: seconds, not minutes."""


def draw(
    model_fn: ModelFn,
    params: Params,
    schedule: Schedule,
    labels: np.ndarray,
    shape: tuple[int, ...],
    *,
    steps: int = 50,
    clip: float | None = 1.0,
    prediction: PredictionType = "epsilon",
    seed: int = 0,
) -> np.ndarray:
    """DDIM samples `[n, *shape]` of the labels `[n]`, about [-1, 1]."""
    noise = jax.random.normal(jax.random.key(seed), (len(labels), *shape))
    solver = pcm.solvers.ddim(schedule, steps, prediction=prediction, clip=clip)
    out = pcm.sample_sequential(model_fn, params, noise, solver, cond=jnp.asarray(labels, jnp.int32))
    return np.asarray(out.sample)


def quality(samples: np.ndarray, labels: np.ndarray, train: ImageSource, test: ImageSource) -> dict[str, Any]:
    """Numbers about samples `[n, H, W, 1]` in [-1, 1] that were drawn for `labels` `[n]`.

    accuracy: share that a support-vector classifier of real training images reads as their label; accuracy_real: the
    same for held-out real images, what to compare with. nearest: median distance to the nearest training image,
    relative to that of held-out real images: near 0 the model repeats its training data, near 1 it draws new ones.
    spread: standard deviation of the samples over that of the held-out images, both around their class means.
    The classifier sees the first KNOWN training images, and the comparisons are made with the first KNOWN held-out.
    """
    from sklearn.svm import SVC

    some = slice(KNOWN)
    known, real, drawn = (_flat(images) for images in (train.scaled(), test.scaled(some), samples))
    reader = SVC(gamma="scale", C=10.0).fit(known[some], train.labels[some])
    spread = _within(drawn, labels) / _within(real, test.labels[some])
    return {
        "accuracy": float(np.mean(reader.predict(drawn) == labels)),
        "accuracy_real": float(np.mean(reader.predict(real) == test.labels[some])),
        "nearest": float(np.median(_nearest(drawn, known)) / np.median(_nearest(real, known))),
        "spread": float(spread),
        "samples": len(labels),
    }


def heldout_loss(loss: Any, params: Params, source: ImageSource, evaluations: int = 4800) -> Array:
    """The denoising loss over `source` (its first KNOWN), about `evaluations` times and noises, always the same."""
    some = slice(KNOWN)
    draws = max(1, evaluations // min(len(source), KNOWN))
    batch = {"x": jnp.asarray(source.scaled(some)), "label": jnp.asarray(source.labels[some])}
    keys = jax.random.split(jax.random.key(2024), draws)
    return jnp.mean(jax.lax.map(lambda key: loss(params, batch, key)[0], keys))


def _flat(images: np.ndarray) -> np.ndarray:
    return np.clip(images, -1.0, 1.0).reshape(len(images), -1)


def _nearest(points: np.ndarray, known: np.ndarray) -> np.ndarray:
    squares = np.sum(points**2, 1)[:, None] + np.sum(known**2, 1)[None] - 2.0 * points @ known.T
    return np.sqrt(np.maximum(squares.min(axis=1), 0.0))


def _within(points: np.ndarray, labels: np.ndarray) -> float:
    return float(np.sqrt(np.mean([np.mean(points[labels == label].var(axis=0)) for label in np.unique(labels)])))
