"""Orbax checkpoints that say what is wrong with them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from pcm_jax.trees import first_mismatch, flatten, unflatten
from pcm_jax.types import PyTree


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run: `directory/<step>/` holds a pytree of arrays and a JSON position.

    A checkpoint appears under its name only when it is whole (Orbax writes elsewhere and renames), so a killed run
    leaves its last whole checkpoint. The newest `keep` are kept. Saving blocks, because the trainer gives the state's
    buffers away right after. Among several hosts each keeps its own, in a directory of its own, and waits for no other.
    """

    directory: str | Path
    keep: int = 2

    def save(self, step: int, tree: PyTree, position: dict[str, Any]) -> None:
        """Write `tree` (typed PRNG keys are allowed) and `position` as step `step`."""
        items = {"tree": ocp.args.StandardSave(_storable(tree)), "position": ocp.args.JsonSave(position)}
        self._root.mkdir(parents=True, exist_ok=True)
        with self._manager() as manager:
            manager.save(step, args=ocp.args.Composite(**items), force=True)
            manager.wait_until_finished()

    def latest(self) -> int | None:
        """The last whole step, or None."""
        if not Path(self.directory).is_dir():
            return None
        with self._manager() as manager:
            step: int | None = manager.latest_step()
            return step

    def restore(self, like: PyTree, step: int | None = None) -> tuple[PyTree, dict[str, Any]]:
        """(tree of `like`'s structure, position) of `step`, by default the latest.

        Args:
            like: arrays or `jax.ShapeDtypeStruct`s.

        Raises:
            ValueError: nothing there; another architecture (names the first leaf that differs); damaged files.
        """
        step = self.latest() if step is None else step
        if step is None or not (self._root / str(step)).is_dir():
            raise ValueError(f"there is no checkpoint{'' if step is None else f' of step {step}'} in {self._root}")
        wanted = _storable(like, abstract=True)
        with self._manager() as manager:
            try:
                stored = {name: leaf for name, leaf in manager.item_metadata(step)["tree"].items()}
            # Damage surfaces as whatever the layer that met it raises: JSON, TensorStore, Orbax, the file system.
            except Exception as error:
                raise self._damaged(step, error) from error
            problem = first_mismatch(wanted, stored)
            if problem:
                raise ValueError(
                    f"the checkpoint {self._root / str(step)} is of another architecture: {problem}. Restore it with "
                    "the configuration that it was trained with, or train into another directory"
                )
            try:
                items = {"tree": ocp.args.StandardRestore(wanted), "position": ocp.args.JsonRestore()}
                restored = manager.restore(step, args=ocp.args.Composite(**items))
            except Exception as error:
                raise self._damaged(step, error) from error
        return _like(restored["tree"], like), dict(restored["position"])

    @property
    def _root(self) -> Path:
        return Path(self.directory).absolute()

    def _manager(self) -> ocp.CheckpointManager:
        tree = ocp.StandardCheckpointHandler(multiprocessing_options=_alone())
        handlers = {"tree": tree, "position": ocp.JsonCheckpointHandler()}
        options = ocp.CheckpointManagerOptions(
            max_to_keep=self.keep, enable_async_checkpointing=False, create=False, multiprocessing_options=_alone()
        )
        return ocp.CheckpointManager(self._root, options=options, item_handlers=handlers)

    def _damaged(self, step: int, error: Exception) -> ValueError:
        others = [path.name for path in self._root.iterdir() if path.name.isdigit() and path.name != str(step)]
        remedy = f"delete it to go on from step {max(others, key=int)}" if others else "delete it and start again"
        reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
        return ValueError(f"the checkpoint {self._root / str(step)} is incomplete or damaged ({reason}); {remedy}")


def _alone() -> ocp.options.MultiprocessingOptions:
    """This host reads and writes by itself."""
    here = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"host_{here}"
    )


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _storable(tree: PyTree, abstract: bool = False) -> dict[str, Any]:
    """Flat, with PRNG keys as the integers inside them. The flat names survive any change of container classes."""

    def raw(leaf: Any) -> Any:
        if abstract:
            known = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
            return jax.ShapeDtypeStruct(known.shape, known.dtype)
        known = jax.random.key_data(leaf) if _is_key(leaf) else leaf
        # Orbax refuses arrays of one host's devices where there are several hosts.
        return np.asarray(known) if jax.process_count() > 1 else known

    return {name: raw(leaf) for name, leaf in flatten(tree).items()}


def _like(flat: dict[str, Any], like: PyTree) -> PyTree:
    def wrap(leaf: Any, known: Any) -> Any:
        return jax.random.wrap_key_data(leaf) if _is_key(known) else leaf

    return jax.tree.map(wrap, unflatten(flat, like), like)
