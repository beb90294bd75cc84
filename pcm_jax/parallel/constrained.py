"""Executor for programs that GSPMD partitions: the user's own `jit` over a mesh, with parameters sharded as they like.

Nothing here moves a parameter. A round's rows and the samples are constrained to mesh axes; what the model's own
sharding needs between devices (the sums of a tensor-parallel layer, the weights of a fully sharded one) XLA adds as it
does in a training step.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from pcm_jax.parallel.executors import Body, divides
from pcm_jax.parallel.layout import Along, Layout, everywhere
from pcm_jax.parallel.spmd import WindowAxis
from pcm_jax.types import Array, PyTree

Names = str | tuple[str, ...] | None
"""Mesh axes of one array axis, as an entry of a `PartitionSpec`."""

_ANY = PartitionSpec.UNCONSTRAINED


@dataclasses.dataclass(frozen=True)
class ConstrainedAxis(WindowAxis):
    """Rows over the mesh axes `over`. The program is one for all devices: nothing is local, so nothing is reduced."""

    mesh: Mesh = dataclasses.field(kw_only=True)
    over: Names = None
    samples: Names = None

    @property
    def blocks(self) -> tuple[int, int]:
        return self.size, _size(self.mesh, self.samples)

    def map_rows(self, function: Callable[..., PyTree], *rows: PyTree) -> PyTree:
        """`function(*rows)` with the leading axis constrained to `over`, whole on every device afterwards."""
        count = jax.tree.leaves(rows)[0].shape[0]
        lanes = jnp.minimum(jnp.arange(self.padded(count)), count - 1)

        def spread(leaf: Array) -> Array:
            # Padded lanes repeat the last row, as in WindowAxis.
            whole = self._constrain(leaf if len(lanes) == count else leaf[lanes], None)
            return self._constrain(whole, self.over)

        out = function(*jax.tree.map(spread, rows))
        return jax.tree.map(lambda leaf: self._constrain(self._constrain(leaf, self.over), None)[:count], out)

    def take(self, values: Array, index: Array) -> Array:
        """As a gather with a batch axis, which partitioners know to be each device's own."""
        if index.shape[1] == 1:
            return values[index[:, 0]]
        return jax.vmap(lambda column, row: column[row], in_axes=1, out_axes=1)(values, index)

    def afresh(self, tree: PyTree, x: PyTree) -> PyTree:
        """Read anew: XLA would move the gathers of fully sharded weights out of the loop, and keep them whole."""
        held: PyTree = lax.optimization_barrier((tree, x))[0]
        return held

    def settled(self, tree: PyTree) -> PyTree:
        """All rows, and a part of the samples, on each device."""
        return jax.tree.map(lambda leaf: self._constrain(leaf, None, self.samples), tree)

    def _constrain(self, leaf: Array, *names: Any) -> Array:
        spec = PartitionSpec(*names, *(_ANY,) * (leaf.ndim - len(names)))
        return lax.with_sharding_constraint(leaf, NamedSharding(self.mesh, spec))


@dataclasses.dataclass(frozen=True)
class Constrained:
    """See `constrained`. samples, over: mesh axes of the batch and of the window's rows."""

    mesh: Mesh
    samples: Names
    over: Names

    @property
    def num_devices(self) -> int:
        return _size(self.mesh, self.over)

    def check(self, batch: int) -> None:
        """The batch divides over its axes."""
        every = tuple(name for entry in (self.samples, self.over) for name in _names(entry))
        divides(batch, _size(self.mesh, self.samples), self.samples, f"constrained(mesh, rows=(None, {every!r}))")

    def compile(self, body: Body, layout: Layout) -> Callable[..., Any]:
        axis = ConstrainedAxis(size=self.num_devices, mesh=self.mesh, over=self.over, samples=self.samples)

        def place(along: Along, tree: PyTree) -> PyTree:
            if along.batch is None or self.samples is None:
                return tree
            return jax.tree.map(lambda leaf: self._samples(leaf, along), tree)

        def run(*arrays: Any) -> Any:
            arrays = jax.tree.map(place, layout.inputs(*arrays), arrays)
            out = body(axis, *arrays)
            return jax.tree.map(place, layout.outputs, out)

        compiled = jax.jit(run)
        return lambda *arrays: compiled(*everywhere(self.mesh, arrays))

    def _samples(self, leaf: Array, along: Along) -> Array:
        spec = (*along.spec(self.samples, fill=_ANY), *(_ANY,) * leaf.ndim)[: leaf.ndim]
        return lax.with_sharding_constraint(leaf, NamedSharding(self.mesh, PartitionSpec(*spec)))


def constrained(mesh: Mesh, rows: Sequence[Names] = ("data", "window")) -> Constrained:
    """Let GSPMD partition the rounds over `mesh`, for a model whose parameters are sharded over it.

    The W x B rows of a round's network call are constrained to `rows`, the samples of every state to its first entry.
    Parameters stay as they are sharded, tensor-parallel or fully sharded, and so do the model's own constraints: use it
    in your own `jit`, or directly with sharded parameters.

    Args:
        mesh: with axes of type Auto, as `jax.sharding.Mesh` makes them; further axes, such as a "model" axis of the
            parameters, are left to the model.
        rows: (mesh axes of the batch, mesh axes of the window's rows), each as in a `PartitionSpec`: a name, a tuple of
            names, or None for neither. The batch must divide over its axes; any window fits.

    Raises:
        ValueError: axes that the mesh does not have, named twice, or of type Explicit or Manual.

    Example:
        >>> mesh = Mesh(np.reshape(jax.devices(), (2, 2, 2)), ("data", "window", "model"))
        >>> sample_picard(model_fn, sharded_params, noise, solver, executor=parallel.constrained(mesh))

    Reference: GSPMD, arXiv 2105.04663.
    """
    if not isinstance(mesh, Mesh):
        raise ValueError(f"mesh must be a jax.sharding.Mesh of devices, got {type(mesh).__name__}")
    if isinstance(rows, str) or len(rows) != 2:
        raise ValueError(
            f"rows must name two entries, (mesh axes of the batch, mesh axes of the window's rows), got {rows!r}; "
            "None leaves one of them whole: (None, 'window')"
        )
    names = [name for entry in rows for name in _names(entry)]
    for name in names:
        if name not in mesh.axis_names:
            raise ValueError(f"mesh has axes {mesh.axis_names}, not {name!r}; name its axes in rows=(batch, window)")
        if mesh.axis_types[mesh.axis_names.index(name)] != AxisType.Auto:
            raise ValueError(
                f"axis {name!r} of the mesh is not of type Auto, which constraints need: make it with "
                "jax.sharding.Mesh(devices, names), or jax.make_mesh(.., axis_types=(AxisType.Auto,) * n)"
            )
    if len(set(names)) < len(names):
        raise ValueError(f"a mesh axis carries samples or rows, not both: rows={tuple(rows)!r} names one twice")
    samples, over = (tuple(entry) if isinstance(entry, list) else entry for entry in rows)
    return Constrained(mesh, samples, over)


def _names(entry: Names) -> tuple[str, ...]:
    return () if entry is None else (entry,) if isinstance(entry, str) else tuple(entry)


def _size(mesh: Mesh, entry: Names) -> int:
    return math.prod(int(mesh.shape[name]) for name in _names(entry))
