"""Who runs the SPMD body: one device, `jax.pmap`, `jax.shard_map`, or the caller's own mapped axis."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, PartitionSpec

from pcm_jax.parallel.spmd import WindowAxis, vary_like
from pcm_jax.types import PyTree

Body = Callable[..., Any]


class Executor(Protocol):
    """Turns `body(axis, *arrays)` into a compiled function of arrays that are whole on every device."""

    @property
    def num_devices(self) -> int | None:
        """Devices that the window is spread over; None where only a trace knows."""

    def compile(self, body: Body) -> Callable[..., Any]: ...


@dataclasses.dataclass(frozen=True)
class Single:
    """One device, `jax.jit`."""

    num_devices: int = 1

    def compile(self, body: Body) -> Callable[..., Any]:
        return jax.jit(lambda *arrays: body(WindowAxis(), *arrays))


@dataclasses.dataclass(frozen=True)
class Pmap:
    """`jax.pmap` over `devices`."""

    devices: tuple[jax.Device, ...]
    axis_name: str = "window"

    @property
    def num_devices(self) -> int:
        return len(self.devices)

    def compile(self, body: Body) -> Callable[..., Any]:
        axis = WindowAxis(self.axis_name, self.num_devices)
        # pmap insists on one mapped argument: the lane. All others are whole on every device, and so is the result.
        mapped = jax.pmap(
            lambda lane, arrays: body(axis, *arrays), axis_name=self.axis_name, in_axes=(0, None), devices=self.devices
        )
        lanes = np.arange(self.num_devices)
        return lambda *arrays: jax.tree.map(lambda leaf: leaf[0], mapped(lanes, arrays))


@dataclasses.dataclass(frozen=True)
class ShardMap:
    """`jax.shard_map` over one axis of `mesh`; the mesh's other axes repeat the work."""

    mesh: Mesh
    axis_name: str = "window"

    @property
    def num_devices(self) -> int:
        return int(self.mesh.shape[self.axis_name])

    def compile(self, body: Body) -> Callable[..., Any]:
        axis = WindowAxis(self.axis_name, self.num_devices)
        everywhere = PartitionSpec()
        return jax.jit(
            jax.shard_map(
                lambda *arrays: body(axis, *arrays),
                mesh=self.mesh,
                in_specs=everywhere,
                out_specs=everywhere,
                check_vma=False,
            )
        )


@dataclasses.dataclass(frozen=True)
class InsideAxis:
    """The caller already runs under `pmap`, `shard_map` or `vmap` with this axis name; arrays are whole on each."""

    axis_name: str
    num_devices: None = None

    def compile(self, body: Body) -> Callable[..., Any]:
        def run(*arrays: Any) -> Any:
            return body(WindowAxis(self.axis_name, self._ask(jax.lax.axis_size)), *arrays)

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


def shard_map(mesh: Mesh | int | None = None, *, axis_name: str = "window") -> ShardMap:
    """Spread the window over a mesh axis with `jax.shard_map`; a number or None makes a mesh of that many devices."""
    if isinstance(mesh, Mesh):
        if axis_name not in mesh.axis_names:
            raise ValueError(f"mesh has axes {mesh.axis_names}, not {axis_name!r}; pass axis_name=")
        return ShardMap(mesh, axis_name)
    devices = _devices(mesh)
    return ShardMap(Mesh(np.asarray(devices), (axis_name,), axis_types=(AxisType.Auto,)), axis_name)


def inside(axis_name: str) -> InsideAxis:
    """Spread the window over an axis that the caller has mapped: use it inside your own `shard_map` or `pmap`."""
    if not isinstance(axis_name, str):
        raise ValueError(f"axis_name must be the name of a mapped axis, got {axis_name!r}")
    return InsideAxis(axis_name)


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
