"""The human demonstrations of Push-T, in Diffusion Policy's file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pcm_jax.data.robots.episodes import Demonstrations, Episode
from pcm_jax.files import check_regular, reads


@reads("path")
def load_pusht(path: str | Path) -> Demonstrations:
    """Episodes of a zarr folder with data/state, data/action and meta/episode_ends.

    Observations are states `[L, 5]`: agent x, y, block x, y in pixels and the block's angle; actions `[L, 2]` are where
    the agent shall go. Nothing was rewarded.

    Raises:
        ValueError: no such folder, arrays that are missing or do not fit, or NaN.
    """
    import zarr

    path = Path(path)
    if not path.is_dir():
        raise ValueError(
            f"there are no Push-T demonstrations at {path}; unpack pusht_cchi_v7_replay.zarr and give its path"
        )
    check_regular(path)
    try:
        group = zarr.open_group(str(path), mode="r")
        state, action = np.asarray(group["data/state"]), np.asarray(group["data/action"])
        ends = np.asarray(group["meta/episode_ends"])
    except (KeyError, FileNotFoundError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is no zarr with data/state, data/action and meta/episode_ends ({error})") from error
    if len(state) != len(action) or not len(ends) or ends[-1] != len(state) or ends[0] < 1 or np.any(np.diff(ends) < 1):
        raise ValueError(
            f"{path}: episode_ends must grow, from 1 at least, to the number of steps: {len(state)} states, "
            f"{len(action)} actions, ends {ends.tolist()[:3]} .. {ends.tolist()[-3:]}"
        )
    episodes = []
    for number, (begin, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        try:
            episodes.append(Episode(state[begin:end], action[begin:end], np.zeros(end - begin)))
        except ValueError as error:
            raise ValueError(f"{path}, episode {number}: {error}") from error
    return Demonstrations(tuple(episodes), path.stem)
