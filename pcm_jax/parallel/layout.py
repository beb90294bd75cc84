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
    """The axis of an array that counts the batch's samples; None where it has none, and every device needs it whole."""

    batch: int | None = None

    def spec(self, axis: str | tuple[str, ...] | None, fill: Any = None) -> PartitionSpec:
        """With the batch over the mesh axis `axis`; `fill` stands for the axes before it."""
        if self.batch is None or axis is None:
            return PartitionSpec()
        return PartitionSpec(*(fill,) * self.batch, axis)


WHOLE = Along()


@dataclasses.dataclass(frozen=True)
class Layout:
    """Of a body's arrays.

    inputs: (arrays) -> for each a tree of `Along`, a prefix of its own tree. outputs: such a tree of the result.
    one_call: a step of the body takes all samples in one call and other arrays with them, so that no device can do with
    a part of the batch on its own.
    """

    inputs: Callable[..., tuple[PyTree, ...]]
    outputs: PyTree
    one_call: bool = False


def specs(tree: PyTree, axis: str | None) -> PyTree:
    """`PartitionSpec`s of a tree of `Along`."""
    return jax.tree.map(lambda along: along.spec(axis), tree)


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
