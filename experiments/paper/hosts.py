"""Several hosts: each takes every n-th batch, sums are added up, one of them writes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from pcm_jax.metrics import Moments

Item = TypeVar("Item")


def begin(distributed: bool) -> None:
    """Join the others before anything else is done with JAX; addresses come from the pod, or from the environment.

    Outside of pods and clusters that JAX knows: JAX_COORDINATOR_ADDRESS, which JAX reads itself, JAX_NUM_PROCESSES and
    JAX_PROCESS_ID.
    """
    if distributed:
        count, index = (os.environ.get(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
        jax.distributed.initialize(
            num_processes=None if count is None else int(count), process_id=None if index is None else int(index)
        )


def mine(items: Sequence[Item]) -> Sequence[Item]:
    """This host's share."""
    return items[jax.process_index() :: jax.process_count()]


def writer() -> bool:
    """Whether this host writes results and shows progress."""
    return jax.process_index() == 0


def merged(moments: Sequence[Moments]) -> list[Moments]:
    """The sums of all hosts, on every host. Empty ones of the right dimensions count for nothing."""
    if jax.process_count() == 1:
        return list(moments)
    counts, means, scatters = (
        _gathered(np.stack([np.asarray(getattr(m, name), np.float64) for m in moments]))
        for name in ("count", "mean", "scatter")
    )
    out = []
    for index in range(len(moments)):
        whole = Moments.empty(means.shape[-1])
        for host in range(len(counts)):
            one = Moments(int(counts[host, index]), means[host, index], scatters[host, index])
            whole = whole.merged(one) if one.count else whole
        out.append(whole)
    return out


def _gathered(array: np.ndarray) -> np.ndarray:
    """`[hosts, ...]`. As pairs of integers: JAX would round float64 to float32."""
    bits = np.ascontiguousarray(array).view(np.uint32).reshape(-1)
    every = np.asarray(multihost_utils.process_allgather(bits))
    return every.reshape(jax.process_count(), -1).view(np.float64).reshape(-1, *array.shape)
