"""Sets of arrays larger than memory: array_record shards in the layout of TensorFlow Datasets.

A finished folder is an ordinary TFDS dataset, `tfds.builder_from_directory(folder)` reads it. Shards are written one at
a time under another name and renamed when they are whole, so a set whose making was stopped goes on at the first shard
that is missing. `records.json` beside them says what the set holds, for readers that must not take another for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pcm_jax.data import layout
from pcm_jax.data.layout import Example, Feature
from pcm_jax.files import read_json, reads, whole, write_text, writing

_ABOUT = "records.json"


def write_records(
    directory: str | Path,
    features: Mapping[str, Feature],
    lengths: Sequence[int],
    make: Callable[[int], Iterable[Example]],
    about: Mapping[str, Any],
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Write the shards that are not there yet.

    Args:
        directory: of the set, made if need be.
        features: name -> (shape, dtype) of an example's arrays, or -> such a mapping for a sequence of steps.
        lengths: examples in each shard.
        make: shard index -> its examples. It must give the same ones whenever it is asked.
        about: JSON that says what the set holds; kept in `records.json`.
        notes: JSON that is kept beside it and may differ when the writing goes on, such as versions.

    Raises:
        ValueError: the folder holds, or has begun to hold, another set; or a shard came out with another length.
    """
    from array_record.python.array_record_module import ArrayRecordWriter

    if not lengths or min(lengths) < 1:
        raise ValueError(f"a set needs at least one shard and every shard an example, got lengths {list(lengths)}")
    directory = Path(directory)
    plan = {"about": dict(about), "features": dict(features)}
    plan = json.loads(json.dumps(plan | {"lengths": list(lengths), "notes": dict(notes or {})}))
    kept = _read_plan(directory)
    if kept is not None and (difference := _difference(kept, plan)):
        raise ValueError(f"{directory} holds another set: {difference}; delete the folder or choose another")
    directory.mkdir(parents=True, exist_ok=True)
    if kept is None:
        _replace(directory / _ABOUT, plan)
    described, serialize = layout.codec(features)
    paths = layout.paths(directory, len(lengths))
    for index, path in enumerate(paths):
        if path.exists():
            continue
        with whole(path) as scratch:
            # One record a group: reading one does not decode its neighbours.
            writer, count = ArrayRecordWriter(str(scratch), "group_size:1"), 0
            try:
                for example in make(index):
                    writer.write(serialize(example))
                    count += 1
            finally:
                writer.close()
            if count != lengths[index]:
                raise ValueError(f"shard {index} has {count} examples, {lengths[index]} were announced")
    # Every time: it costs nothing, and mends a description that was lost.
    with writing(directory):
        layout.describe(directory, described, lengths, paths)
    if kept is None or "bytes" not in kept:
        _replace(directory / _ABOUT, (kept or plan) | {"bytes": [path.stat().st_size for path in paths]})


def finished_shards(directory: str | Path) -> int:
    """How many there are so far."""
    return len([path for path in Path(directory).glob(f"{layout.NAME}-train.*")])


class Records:
    """A finished set, read example by example.

    Raises:
        ValueError: nothing there, not finished, a shard that is missing or was cut, or a damaged description.
    """

    @reads("directory")
    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        plan = _read_plan(self.directory)
        if plan is None:
            raise ValueError(f"{self.directory} holds no set of records ({_ABOUT} is not there); check the path")
        paths = layout.paths(self.directory, len(plan["lengths"]))
        missing = [path.name for path in paths if not path.is_file()]
        if "bytes" not in plan or missing:
            done = len(paths) - len(missing)
            raise ValueError(
                f"{self.directory} is not complete, {done} of {len(paths)} shards are there"
                + (f" and {missing[0]} is not" if missing else "")
                + "; give the command that makes it again, it goes on where it was"
            )
        for path, size in zip(paths, plan["bytes"], strict=True):
            if path.stat().st_size != size:
                raise ValueError(
                    f"{path} has {path.stat().st_size} bytes instead of {size}: truncated or changed. Delete it and "
                    "give the command that makes the set again, which writes that shard anew"
                )
        self.about: dict[str, Any] = plan["about"]
        self.features: dict[str, Feature] = {name: _feature(of) for name, of in plan["features"].items()}
        self._source = layout.open_set(self.directory, plan["lengths"])

    def __len__(self) -> int:
        return len(self._source)

    def batches(self, batch_size: int, seed: int) -> Sequence[np.ndarray]:
        """Indices of batch 0, 1, ..: every epoch in a new order, batches run across the border of two epochs."""
        import grain

        order = grain.MapDataset.range(len(self)).shuffle(seed=seed).repeat()
        indices: Sequence[np.ndarray] = order.batch(batch_size, drop_remainder=True)
        return indices

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One example; a sequence of steps is an iterable of dictionaries."""
        return dict(self._source[index])

    def rows(self, index: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """The examples at `index`, stacked: name -> `[len(index), ...]`, without sequences of steps."""
        try:
            examples = [self._source[int(place)] for place in index]
            return {
                name: np.stack([np.asarray(example[name], feature[1]) for example in examples])
                for name, feature in self.features.items()
                if not isinstance(feature, Mapping)
            }
        # array_record and protobuf meet a damaged record with exceptions of their own.
        except Exception as error:
            raise ValueError(
                f"{self.directory} holds a damaged record ({type(error).__name__}: {error}); delete its shard and give "
                "the command that makes the set again"
            ) from error


def _read_plan(directory: Path) -> dict[str, Any] | None:
    path = directory / _ABOUT
    if not path.is_file():
        return None
    try:
        plan = read_json(path)
    except ValueError:
        plan = {}
    if not {"about", "features", "lengths"} <= plan.keys():
        raise ValueError(
            f"{path} is damaged or describes something else; if a set was made here, delete {directory} and give the "
            "command that makes it again"
        )
    return plan


def _feature(of: Any) -> Feature:
    """From JSON, which knows no tuples."""
    return {name: _feature(inner) for name, inner in of.items()} if isinstance(of, dict) else (tuple(of[0]), of[1])


def _difference(kept: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    for name, value in wanted["about"].items():
        if kept["about"].get(name) != value:
            return f"its {name} is {kept['about'].get(name)!r}, not {value!r}"
    return next(
        (f"its {n} are {kept[n]}, not {wanted[n]}" for n in ("features", "lengths") if kept[n] != wanted[n]), None
    )


def _replace(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")
