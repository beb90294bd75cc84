"""Demonstrations in the layout of RLDS, from any TFDS dataset: robomimic_ph, Open X-Embodiment, your own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pcm_jax.data.robots.episodes import Demonstrations, read_steps
from pcm_jax.files import reads


@reads("name")
def load_rlds(
    name: str,
    keys: Sequence[str] = (),
    *,
    split: str = "train",
    data_dir: str | Path | None = None,
    last_action: bool = False,
) -> Demonstrations:
    """Episodes of a prepared TFDS dataset whose examples have `steps`; TensorFlow is not imported.

    Args:
        name: of TFDS, such as "robomimic_ph/lift_ph_low_dim", or the folder of a prepared version.
        keys: observations to join, in this order, where the dataset has several; empty where it has one.
        split: "train", or a slice such as "train[:10%]".
        data_dir: where TFDS keeps its datasets.
        last_action: whether the action of an episode's last step was carried out. RLDS leaves it open, and the
            last step holds the final observation alone.

    Raises:
        ValueError: a dataset that is not there or holds no episodes, an observation that it lacks, a broken episode.
    """
    builder = _prepared(name, data_dir)
    if "steps" not in builder.info.features:
        raise ValueError(f"{name} holds no episodes (no `steps`); it has {', '.join(sorted(builder.info.features))}")
    try:
        source = builder.as_data_source(split=split)
    except ValueError as error:
        raise ValueError(f"{name} has no split {split!r}; it has {', '.join(sorted(builder.info.splits))}") from error
    return read_steps(source, keys, name, last_action=last_action)


def _prepared(name: str, data_dir: str | Path | None) -> Any:
    import tensorflow_datasets as tfds

    try:
        if Path(name).is_dir():
            return tfds.builder_from_directory(name)
        builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    # Unknown names, missing parts of TFDS and damaged folders fail with exceptions of many unrelated classes.
    except Exception as error:
        raise ValueError(f"{name} cannot be opened ({type(error).__name__}: {str(error).splitlines()[0]})") from error
    if not builder.is_prepared():
        raise ValueError(
            f"{name} is not in {builder.data_dir}. On a machine with a network and TensorFlow run "
            f'tfds.builder({name!r}, data_dir=DIR, file_format="array_record").download_and_prepare(), copy DIR here '
            "and give it as data_dir"
        )
    return builder
