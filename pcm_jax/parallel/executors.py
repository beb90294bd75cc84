"""Who runs the SPMD body: one device, `jax.pmap`, `jax.shard_map`, or the caller's own mapped axis."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from pcm_jax.parallel.layout import Layout, dealt, everywhere, specs
from pcm_jax.parallel.spmd import WindowAxis, vary_like
from pcm_jax.types import PyTree

Body = Callable[..., Any]


class Executor(Protocol):
    """Turns `body(axis, *arrays)` into a compiled function of the whole arrays."""

    @property
    def num_devices(self) -> int | None:
        """Devices that the window is spread over; None where only a trace knows."""

    def check(self, batch: int) -> None:
        """ValueError for a batch that this executor cannot spread."""

    def compile(self, body: Body, layout: Layout) -> Callable[..., Any]: ...


@dataclasses.dataclass(frozen=True)
class Single:
    """One device, `jax.jit`."""

    num_devices: int = 1

    def check(self, batch: int) -> None:
        """Any batch."""

    def compile(self, body: Body, layout: Layout) -> Callable[..., Any]:
        return jax.jit(lambda *arrays: body(WindowAxis(), *arrays))


@dataclasses.dataclass(frozen=True)
class Pmap:
    """`jax.pmap` over `devices`."""

    devices: tuple[jax.Device, ...]
    axis_name: str = "window"

    @property
    def num_devices(self) -> int:
        return len(self.devices)

    def check(self, batch: int) -> None:
        """Any batch."""

    def compile(self, body: Body, layout: Layout) -> Callable[..., Any]:
        axis = WindowAxis(self.axis_name, self.num_devices)
        # pmap insists on one mapped argument: the lane. All others are whole on every device, and so is the result.
        mapped = jax.pmap(
            lambda lane, arrays: body(axis, *arrays), axis_name=self.axis_name, in_axes=(0, None), devices=self.devices
        )
        lanes = np.arange(self.num_devices)
        return lambda *arrays: jax.tree.map(lambda leaf: leaf[0], mapped(lanes, arrays))


@dataclasses.dataclass(frozen=True)
class ShardMap:
    """`jax.shard_map`: rows over one axis of `mesh`, samples over another; further axes repeat the work."""

    mesh: Mesh
    axis_name: str = "window"
    data_axis: str | None = None

    @property
    def num_devices(self) -> int:
        return int(self.mesh.shape[self.axis_name])

    def check(self, batch: int) -> None:
        """The batch divides over the data axis."""
        if self.data_axis is not None:
            divides(batch, int(self.mesh.shape[self.data_axis]), self.data_axis, "shard_map(.., data_axis=None)")

    def compile(self, body: Body, layout: Layout) -> Callable[..., Any]:
        if layout.one_call and self.data_axis is not None:
            raise ValueError(
                f"one call of this step takes the whole batch: samples cannot be spread over {self.data_axis!r}; "
                "pass pcm_jax.parallel.constrained(mesh), which can, or shard_map(.., data_axis=None), which repeats "
                "the work there"
            )
        rows = self.axis_name if layout.held else None
        axis = WindowAxis(self.axis_name, self.num_devices, self.data_axis, given=rows is not None)

        def run(*arrays: Any) -> Any:
            mapped = jax.shard_map(
                lambda *arrays: body(axis, *arrays),
                mesh=self.mesh,
                in_specs=specs(layout.inputs(*arrays), self.data_axis, rows),
                out_specs=specs(layout.outputs, self.data_axis),
                check_vma=False,
            )
            return mapped(*arrays)

        compiled = jax.jit(run)

        def call(*arrays: Any) -> Any:
            arrays = everywhere(self.mesh, arrays)
            if rows is not None:
                # Outside of the program, whose arguments then arrive in parts: a device is given its own rows alone.
                arrays = dealt(layout.inputs(*arrays), arrays, self.num_devices, layout.held)
            return compiled(*arrays)

        return call


@dataclasses.dataclass(frozen=True)
class InsideAxis:
    """The caller already runs under `pmap`, `shard_map` or `vmap` with this axis name; arrays are whole on each."""

    axis_name: str
    num_devices: None = None

    def check(self, batch: int) -> None:
        """Any batch."""

    def compile(self, body: Body, layout: Layout) -> Callable[..., Any]:
        def run(*arrays: Any) -> Any:
            size = self._ask(jax.lax.axis_size)
            # What goes from neighbour to neighbour is one transfer of all of the caller's mesh.
            mesh = jax.sharding.get_abstract_mesh().manual_axes
            others = tuple(name for name in mesh if name != self.axis_name) if self.axis_name in mesh else ()
            return body(WindowAxis(self.axis_name, size, others=others), *arrays)

        return run

    def own(self, tree: PyTree) -> PyTree:
        """`tree`, marked as differing between the axis's devices, as rows do that each of them evaluates."""
        return vary_like(tree, self._ask(jax.lax.axis_index))

    def _ask(self, question: Callable[[str], Any]) -> Any:
        try:
            return question(self.axis_name)
        except NameError as error:
            raise ValueError(
                f"inside({self.axis_name!r}) runs under a pmap, shard_map or vmap with that axis; there is none"
            ) from error


def single() -> Single:
    """Run on one device (the default)."""
    return Single()


def pmap(num_devices: int | None = None, *, axis_name: str = "window") -> Pmap:
    """Spread the window over `num_devices` local devices (default: all of them) with `jax.pmap`."""
    return Pmap(_devices(num_devices), axis_name)


def shard_map(mesh: Mesh | int | None = None, *, axis_name: str = "window", data_axis: str | None = "data") -> ShardMap:
    """Spread the window over a mesh axis with `jax.shard_map`, and the batch over another one.

    Args:
        mesh: a number or None makes a mesh of that many of this process's devices. A mesh over several processes wants
            the same call with the same arrays in each of them; what comes back is then spread over them too.
        axis_name: of the window's rows. Any window fits; what fills the last device is reported.
        data_axis: of the batch, which it must divide: every device holds its part of the samples, of their noise and of
            the conditioning. A mesh without the default "data" spreads rows alone; None repeats the samples there.

    Raises:
        ValueError: axes that the mesh does not have, or one axis for both.
    """
    if isinstance(mesh, Mesh):
        data_axis = None if data_axis == "data" and data_axis not in mesh.axis_names else data_axis
        for keyword, name in (("axis_name", axis_name), ("data_axis", data_axis)):
            if name not in (*mesh.axis_names, *([None] if keyword == "data_axis" else [])):
                raise ValueError(f"mesh has axes {mesh.axis_names}, not {name!r}; pass {keyword}=")
        if axis_name == data_axis:
            raise ValueError(f"rows and samples cannot both be spread over {axis_name!r}; pass data_axis=None")
        return ShardMap(mesh, axis_name, data_axis)
    devices = _devices(mesh)
    return ShardMap(Mesh(np.asarray(devices), (axis_name,), axis_types=(AxisType.Auto,)), axis_name)


def inside(axis_name: str) -> InsideAxis:
    """Spread the window over an axis that the caller has mapped: use it inside your own `shard_map` or `pmap`."""
    if not isinstance(axis_name, str):
        raise ValueError(f"axis_name must be the name of a mapped axis, got {axis_name!r}")
    return InsideAxis(axis_name)


def divides(batch: int, parts: int, axis: Any, otherwise: str) -> None:
    """ValueError unless a batch falls into `parts` equal ones."""
    if batch % parts:
        raise ValueError(
            f"a batch of {batch} does not divide over the {parts} devices of axis {axis!r}: pad noise and cond to "
            f"{-(-batch // parts) * parts} samples and drop the last {-batch % parts}, or pass {otherwise}"
        )


def _devices(count: int | None) -> tuple[jax.Device, ...]:
    local = tuple(jax.local_devices())
    if count is None:
        return local
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or not 1 <= count <= len(local):
        raise ValueError(
            f"{count} devices asked for, this process has {len(local)}; choose 1..{len(local)}, or make more CPU "
            'devices with jax.config.update("jax_num_cpu_devices", n) before JAX starts'
        )
    return local[:count]
