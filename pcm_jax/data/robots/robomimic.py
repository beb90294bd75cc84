"""Robomimic's low-dimensional demonstrations, in the HDF5 files that the benchmark publishes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pcm_jax.data.robots.episodes import Demonstrations, Episode
from pcm_jax.files import reads

LOW_DIM = ("object", "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")
"""What Diffusion Policy reads of one arm."""


@reads("path")
def load_robomimic(path: str | Path, keys: Sequence[str] = LOW_DIM, *, mask: str | None = None) -> Demonstrations:
    """Episodes of a file such as `low_dim_v141.hdf5`.

    Args:
        path: HDF5 file with data/demo_*/{obs/<key>, actions, rewards}.
        keys: observations, joined in this order; two arms need the keys of robot1 too.
        mask: a subset that the file names, such as "train" or "valid"; None takes every demonstration.

    Raises:
        ValueError: no such file, another layout, a key or mask that it lacks, or a broken episode.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}; download a low_dim file of robomimic and give its path")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path} is no HDF5 file ({error})") from error
    with file:
        if "data" not in file:
            raise ValueError(f"{path} has no group data; is it a robomimic file?")
        names = sorted(file["data"], key=lambda name: (len(name), name))
        if mask is not None:
            masks = file.get("mask", {})
            if mask not in masks:
                raise ValueError(f"{path} has no mask {mask!r}; it has {', '.join(sorted(masks)) or 'none'}")
            chosen = {name.decode() for name in np.asarray(masks[mask])}
            names = [name for name in names if name in chosen]
        return Demonstrations(tuple(_episode(file["data"][name], keys, f"{path}, {name}") for name in names), path.stem)


def _episode(group: object, keys: Sequence[str], where: str) -> Episode:
    import h5py

    assert isinstance(group, h5py.Group)
    seen = group.get("obs", {})
    missing = [name for name in ("actions", "rewards") if name not in group] + [k for k in keys if k not in seen]
    if missing:
        raise ValueError(f"{where} has no {missing[0]!r}; its observations are {', '.join(sorted(seen)) or 'missing'}")
    parts = [np.asarray(seen[key]) for key in keys]
    try:
        observation = np.concatenate([part.reshape(len(part), math.prod(part.shape[1:])) for part in parts], axis=1)
        return Episode(observation, np.asarray(group["actions"]), np.asarray(group["rewards"]))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
