"""Moments of a method's features after each round, kept in a file after every batch of samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pcm_jax.files import reads, whole
from pcm_jax.metrics import Features, Moments
from pcm_jax.trees import fingerprint


def digest(about: Any) -> str:
    """Short name of all that `repr` tells."""
    return fingerprint({"about": np.array(repr(about))})


class Sums:
    """The sums so far.

    about: all that the samples depend on; another one is another file. done: where the batches start that are in it.
    """

    def __init__(self, folder: Path, name: str, about: Any) -> None:
        self._path = folder / f"{name}-{digest((name, about))}.npz".replace(" ", "_")
        self.done: list[int] = []
        self.moments: list[Moments] = []
        if self._path.exists():
            self.done, self.moments = _kept(self._path)

    def add(self, start: int, images: Sequence[np.ndarray], features: Features) -> None:
        """One batch more, its images after every round, and the file."""
        fresh = [Moments.of(features(each)) for each in images]
        self.moments = [a.merged(b) for a, b in zip(self.moments, fresh, strict=True)] if self.moments else fresh
        self.done.append(start)
        arrays: dict[str, Any] = {
            name: np.stack([getattr(m, name) for m in self.moments]) for name in ("count", "mean", "scatter")
        }
        with whole(self._path) as scratch:
            np.savez(scratch, **arrays, done=np.array(self.done))


@reads("path")
def _kept(path: Path) -> tuple[list[int], list[Moments]]:
    # Opened here: np.load leaves a damaged file to the garbage collector.
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as kept:
        done = kept["done"].tolist()
        numbers = zip(kept["count"], kept["mean"], kept["scatter"], strict=True)
        return done, [Moments(int(count), mean, scatter) for count, mean, scatter in numbers]
