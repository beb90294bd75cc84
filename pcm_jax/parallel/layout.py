"""Which axes of what a body takes and returns count samples and trajectory rows: what executors may shard."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pcm_jax.types import Array, PyTree


@dataclasses.dataclass(frozen=True)
class Along:
    """The axis of an array that counts the batch's samples; None where it has none, and every device needs it whole.

    rows: whether the first axis counts the trajectory's rows, of which a device may hold its own.
    """

    batch: int | None = None
    rows: bool = False

    def spec(self, samples: Any, rows: str | None = None, fill: Any = None) -> PartitionSpec:
        """With the batch and the rows over these mesh axes; `fill` stands for other axes."""
        axes = [fill] * (0 if self.batch is None or samples is None else self.batch + 1)
        if axes:
            axes[-1] = samples
        if self.rows and rows is not None:
            axes = [rows, *axes[1:]]
        return PartitionSpec(*axes)


WHOLE = Along()
"""Nothing is split: every device holds all of it."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """Of a body's arrays.

    inputs: (arrays) -> for each a tree of `Along`, a prefix of its own tree. outputs: such a tree of the result.
    one_call: a step of the body takes all samples in one call and other arrays with them, so that no device can do with
    a part of the batch on its own. held: W where devices hold the states of their own rows, else 0.
    """

    inputs: Callable[..., tuple[PyTree, ...]]
    outputs: PyTree
    one_call: bool = False
    held: int = 0


def specs(tree: PyTree, samples: str | None, rows: str | None = None) -> PyTree:
    """`PartitionSpec`s of a tree of `Along`."""
    return jax.tree.map(lambda along: along.spec(samples, rows), tree)


def dealt(tree: PyTree, arrays: PyTree, count: int, window: int) -> PyTree:
    """`arrays` with the rows of one device after those of the other where they have rows, filled up with the last one.

    W rows go round `count` devices, S = W / D to each, and so do the next ones: see `WindowAxis.part`.
    """
    share = -(-window // count)

    def leaf(value: Array) -> Array:
        missing = -value.shape[0] % (share * count)
        value = jnp.concatenate([value, *[value[-1:]] * missing]) if missing else value
        if len(value) == share * count:
            return value
        blocks = value.reshape(-1, count, share, *value.shape[1:])
        return jnp.swapaxes(blocks, 0, 1).reshape(value.shape)

    return jax.tree.map(lambda along, part: jax.tree.map(leaf, part) if along.rows else part, tree, arrays)


def everywhere(mesh: Mesh, arrays: PyTree, spec: PartitionSpec = WHOLE.spec(None)) -> PyTree:  # noqa: B008 - immutable
    """`arrays` on the devices of a mesh that other processes have a part in; each process holds the same values.

    On a mesh of this process alone, and arrays that are spread over processes already, they stay as they are.
    """
    here = jax.process_index()
    if all(device.process_index == here for device in mesh.devices.flat):
        return arrays
    sharding = NamedSharding(mesh, spec)

    def leaf(value: Any) -> Any:
        if isinstance(value, jax.core.Tracer) or (isinstance(value, jax.Array) and not value.is_fully_addressable):
            return value
        if hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(leaf(jax.random.key_data(value)), impl=jax.random.key_impl(value))
        host = np.asarray(value)
        made: Array = jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])
        return made

    return jax.tree.map(leaf, arrays)
