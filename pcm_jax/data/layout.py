"""A set of arrays in the layout of TensorFlow Datasets: names of shards, bytes of an example, the description."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Example = Mapping[str, Any]
Feature = tuple[tuple[int, ...], str] | Mapping[str, Any]
"""Shape and dtype; or the features of a step, for a sequence of steps of any length (RLDS)."""

NAME = "records"


def open_set(directory: Path, lengths: Sequence[int]) -> Any:
    """The set as TFDS reads it, its shards opened and counted."""
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordReader

    try:
        counts = []
        for path in paths(directory, len(lengths)):
            reader = ArrayRecordReader(str(path))
            counts.append(reader.num_records())
            reader.close()
        source = tfds.builder_from_directory(str(directory)).as_data_source(split="train")
    # Damaged files fail with exceptions of many unrelated classes.
    except Exception as error:
        raise ValueError(
            f"{directory} is damaged ({type(error).__name__}: {error}). Give the command that makes the set again, "
            "which mends its description; if that does not help, delete the folder before"
        ) from error
    if counts != list(lengths) or len(source) != sum(lengths) or not counts:
        raise ValueError(
            f"{directory} promises {sum(lengths)} examples and holds {sum(counts)}, {len(source)} of them described; "
            "delete the folder and give the command that makes the set again"
        )
    return source


def codec(features: Mapping[str, Feature]) -> tuple[Any, Callable[[Example], bytes]]:
    """TFDS's description of an example, and example -> bytes, the same bytes in every process."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.example_serializer import ExampleSerializer

    def feature(of: Feature) -> Any:
        if isinstance(of, Mapping):
            return tfds.features.Dataset({name: feature(inner) for name, inner in of.items()})
        return tfds.features.Tensor(shape=tuple(of[0]), dtype=np.dtype(of[1]))

    described = tfds.features.FeaturesDict({name: feature(of) for name, of in features.items()})
    serializer = ExampleSerializer(described.get_serialized_info())

    def serialize(example: Example) -> bytes:
        # `described.serialize_example` leaves the order of the names to a hash that each process seeds anew.
        message = serializer.get_tf_example(described.encode_example(dict(example)))
        return bytes(message.SerializeToString(deterministic=True))

    return described, serialize


def template(directory: Path) -> Any:
    """TFDS's rule for the names of shards."""
    import tensorflow_datasets as tfds

    return tfds.core.ShardedFileTemplate(
        data_dir=directory, dataset_name=NAME, split="train", filetype_suffix="array_record"
    )


def paths(directory: Path, shards: int) -> list[Path]:
    """Of all shards, there or not."""
    named = template(directory)
    return [Path(named.sharded_filepath(shard_index=index, num_shards=shards)) for index in range(shards)]


def describe(directory: Path, described: Any, lengths: Sequence[int], paths: Sequence[Path]) -> None:
    """TFDS's own description of the folder."""
    import tensorflow_datasets as tfds

    named = template(directory)
    split = tfds.core.SplitInfo(
        name="train",
        shard_lengths=list(lengths),
        num_bytes=sum(path.stat().st_size for path in paths),
        filename_template=named,
    )
    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        features=described,
        split_infos=[split],
        filename_template=named,
        check_data=False,
        description="Written by pcm_jax.data.records; see records.json.",
    )
