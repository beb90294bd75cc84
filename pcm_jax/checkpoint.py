"""Orbax checkpoints that are read on any device, and say what is wrong with them."""

from __future__ import annotations

import dataclasses
import errno
import json
import operator
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import tensorstore

from pcm_jax.trees import first_mismatch, flatten, unflatten
from pcm_jax.types import PyTree

FULL = os.strerror(errno.ENOSPC)
"""What the system says of a disk without room."""


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run: `directory/<step>/` holds a pytree of arrays and a JSON position.

    A checkpoint appears under its name only when it is whole (Orbax writes elsewhere and renames), so a killed run
    leaves its last whole checkpoint. The newest `keep` are kept. Saving blocks, because the trainer gives the state's
    buffers away right after. Among several hosts each keeps its own, in a directory of its own, and waits for no other.

    What is stored are numbers, not places: a checkpoint of a GPU, of eight devices or of another host is read on
    whatever devices there are here.
    """

    directory: str | Path
    keep: int = 2

    def __post_init__(self) -> None:
        if not isinstance(self.directory, (str, os.PathLike)):
            raise ValueError(f"directory must be a path, got {self.directory!r}")
        if _not_whole(self.keep) or self.keep < 1:
            raise ValueError(f"keep must be a whole number of at least 1, got {self.keep!r}")

    def save(self, step: int, tree: PyTree, position: dict[str, Any]) -> None:
        """Write `tree` (typed PRNG keys are allowed) and `position` as step `step`.

        Raises:
            ValueError: a step below 0, leaves that are no arrays, a position that is no JSON.
            OSError: the disk is full or gone; the checkpoints that were there are whole.
        """
        if _not_whole(step) or step < 0:
            raise ValueError(f"step must be a whole number of at least 0, got {step!r}")
        try:
            json.dumps(position)
        except TypeError as error:
            raise ValueError(f"position must be a dict that fits into JSON: {error}") from error
        arrays = {name: np.asarray(leaf) for name, leaf in _storable(tree).items()}
        items = {"tree": ocp.args.PyTreeSave(arrays), "position": ocp.args.JsonSave(position)}
        self._sweep()
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            with self._manager() as manager:
                manager.save(step, args=ocp.args.Composite(**items), force=True)
                manager.wait_until_finished()
        # TensorStore and Orbax report a full disk each in their own way.
        except Exception as error:
            self._sweep()
            found = self.latest()
            left = "there is none before it" if found is None else f"step {found} is the last whole one"
            raise OSError(
                f"the checkpoint of step {step} could not be written to {self._root} ({_reason(error)}); {left}. Make "
                "room, or mend the disk, and start again: the run goes on from there"
            ) from error

    def latest(self) -> int | None:
        """The last step, or None."""
        return max(self.steps(), default=None)

    def steps(self) -> list[int]:
        """All steps, in order. Half written ones do not count."""
        if not self._root.is_dir():
            return []
        with self._manager() as manager:
            return sorted(manager.all_steps())

    def restore(
        self, like: PyTree, step: int | None = None, *, fall_back: bool = False
    ) -> tuple[PyTree, dict[str, Any]]:
        """(tree of `like`'s structure, position) of `step`, by default the latest.

        Args:
            like: arrays or `jax.ShapeDtypeStruct`s. A leaf is placed as its namesake there is, on the default device
                where that says nothing.
            fall_back: where the latest step cannot be read, take the newest older one that can. Those passed over are
                renamed to `<step>.unread`, so that the run may write these steps again; nothing is deleted.

        Raises:
            ValueError: nothing there; another architecture (names the first leaf that differs); files that cannot be
                read (says what is missing, and which older step can be read).
        """
        steps = self.steps()
        if step is None and steps:
            step = steps[-1]
        if step is None or not (self._root / str(step)).is_dir():
            raise ValueError(f"there is no checkpoint{'' if step is None else f' of step {step}'} in {self._root}")
        try:
            return self._read(step, like)
        except _Unreadable as error:
            older, found = self._older(step, like)
            if older is None or found is None or not fall_back:
                raise ValueError(self._advice(step, error, older)) from error
        for each in steps:
            if older < each <= step:
                (self._root / str(each)).rename(self._free(f"{each}.unread"))
        return found

    def _read(self, step: int, like: PyTree) -> tuple[PyTree, dict[str, Any]]:
        wanted = _storable(like, abstract=True)
        with self._manager() as manager:
            try:
                stored = {name: leaf for name, leaf in manager.item_metadata(step)["tree"].items()}
            # Damage surfaces as whatever the layer that met it raises: JSON, TensorStore, Orbax, the file system.
            except Exception as error:
                raise _Unreadable(self._missing(step) or _reason(error)) from error
            problem = first_mismatch(wanted, stored)
            if problem:
                raise ValueError(
                    f"the checkpoint {self._root / str(step)} is of another architecture: {problem}. Restore it with "
                    "the configuration that it was trained with, or train into another directory"
                )
            # Restored as host arrays: Orbax would look for the devices of the process that wrote them.
            hosted = {name: ocp.RestoreArgs(restore_type=np.ndarray, dtype=leaf.dtype) for name, leaf in wanted.items()}
            try:
                items = {
                    "tree": ocp.args.PyTreeRestore(wanted, restore_args=hosted),
                    "position": ocp.args.JsonRestore(),
                }
                restored = manager.restore(step, args=ocp.args.Composite(**items))
                position = dict(restored["position"])
            except Exception as error:
                raise _Unreadable(self._missing(step) or _reason(error)) from error
        return _like(restored["tree"], like), position

    def _older(self, step: int, like: PyTree) -> tuple[int | None, tuple[PyTree, dict[str, Any]] | None]:
        """The newest step before `step` that can be read, and what is in it."""
        for each in reversed([each for each in self.steps() if each < step]):
            try:
                return each, self._read(each, like)
            except ValueError:
                continue
        return None, None

    def _advice(self, step: int, error: Exception, older: int | None) -> str:
        path = self._root / str(step)
        if older is None:
            way = "No older step here can be read either: bring the files back from a copy, or train into another one"
        else:
            way = f"Step {older} can be read: pass fall_back=True, or move {path.name} elsewhere, to go on from there"
        return f"the checkpoint {path} cannot be read here ({error}). It is left as it is. {way}"

    def _missing(self, step: int) -> str | None:
        """Of the files that every checkpoint has, those that are not there."""
        path = self._root / str(step)
        wanted = ("tree/_METADATA", "tree/manifest.ocdbt", "position/metadata")
        gone = [name for name in wanted if not (path / name).is_file() or not (path / name).stat().st_size]
        return f"missing or empty: {', '.join(gone)}" if gone else None

    def _sweep(self) -> None:
        """Remove what killed runs were writing; it never had a step's name."""
        for path in self._root.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(path, ignore_errors=True)

    def _free(self, name: str) -> Path:
        taken = 0
        while (self._root / (name + (f".{taken}" if taken else ""))).exists():
            taken += 1
        return self._root / (name + (f".{taken}" if taken else ""))

    @property
    def _root(self) -> Path:
        return Path(self.directory).absolute()

    def _manager(self) -> ocp.CheckpointManager:
        tree = ocp.PyTreeCheckpointHandler(multiprocessing_options=_alone(), type_handler_registry=_KINDS)
        handlers = {"tree": tree, "position": ocp.JsonCheckpointHandler(multiprocessing_options=_alone())}
        options = ocp.CheckpointManagerOptions(
            max_to_keep=self.keep, enable_async_checkpointing=False, create=False, multiprocessing_options=_alone()
        )
        return ocp.CheckpointManager(self._root, options=options, item_handlers=handlers)


class _OwnArrays(ocp.type_handlers.NumpyHandler):
    """Every host writes its arrays; Orbax's own handler leaves that to host 0, and the others' checkpoints empty."""

    async def serialize(self, values: Any, infos: Any, args: Any = None) -> list[Any]:
        for index, (value, info) in enumerate(zip(values, infos, strict=True)):
            await info.await_path_creation()
            spec = ocp.type_handlers.get_json_tspec_write(
                info,
                use_ocdbt=info.is_ocdbt_checkpoint,
                global_shape=value.shape,
                local_shape=value.shape,
                dtype=value.dtype,
                process_index=jax.process_index(),
                arg=None if args is None else args[index],
            )
            array = await tensorstore.open(tensorstore.Spec(spec), create=True, open=True, context=info.ts_context)
            await array.write(value)
        return []


_KINDS = ocp.type_handlers.create_type_handler_registry(
    (np.ndarray, _OwnArrays()), (jax.Array, ocp.type_handlers.ArrayHandler())
)
"""What is written, and what earlier versions wrote."""


class _Unreadable(ValueError):
    """Why a step's files cannot be read."""


def _reason(error: Exception) -> str:
    # TensorStore says it at the end of a list of files that is longer than a message.
    if FULL in str(error):
        return FULL
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:600]}"


def _not_whole(value: Any) -> bool:
    try:
        operator.index(value)
    except TypeError:
        return True
    return isinstance(value, bool)


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

    def raw(name: str, leaf: Any) -> Any:
        if not hasattr(leaf, "dtype") or not hasattr(leaf, "shape"):
            raise ValueError(f"a checkpoint holds arrays: {name!r} is a {type(leaf).__name__}, make it jnp.asarray(..)")
        if abstract:
            known = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
            return jax.ShapeDtypeStruct(known.shape, known.dtype)
        return jax.random.key_data(leaf) if _is_key(leaf) else leaf

    return {name: raw(name, leaf) for name, leaf in flatten(tree).items()}


def _like(flat: dict[str, Any], like: PyTree) -> PyTree:
    """Keys as keys, and every leaf where its namesake is."""

    def place(leaf: Any, known: Any) -> Any:
        # Copied: on a CPU the array would otherwise be the host's buffer, which the trainer's step gives away.
        array = jnp.array(leaf)
        if _is_key(known):
            impl = jax.random.key_impl(known) if isinstance(known, jax.Array) else None
            array = jax.random.wrap_key_data(array, impl=impl)
        sharding = getattr(known, "sharding", None) if getattr(known, "committed", True) else None
        return array if sharding is None else jax.device_put(array, sharding)

    return jax.tree.map(place, unflatten(flat, like), like)
