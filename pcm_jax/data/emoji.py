"""Emoji of three vendors as a TFDS dataset of colour images, from the archives that `npm pack` writes."""

from __future__ import annotations

import io
import json
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

PACKAGES = {
    "emoji-datasource-google@16.0.0": ("emoji-datasource-google-16.0.0.tgz", "package/img/google/64/{}.png"),
    "emoji-datasource-twitter@16.0.0": ("emoji-datasource-twitter-16.0.0.tgz", "package/img/twitter/64/{}.png"),
    "@lobehub/fluent-emoji-3d@1.1.0": ("lobehub-fluent-emoji-3d-1.1.0.tgz", "package/assets/{}.webp"),
}
"""The archive that `npm pack` writes for each, and the names of pictures in it."""

CLASSES = (
    "faces", "hands", "people", "animals", "food", "travel", "activities", "objects", "symbols", "flags",
)  # fmt: skip
_CATEGORIES = {
    "Smileys & Emotion": "faces",
    "People & Body": "people",
    "Animals & Nature": "animals",
    "Food & Drink": "food",
    "Travel & Places": "travel",
    "Activities": "activities",
    "Objects": "objects",
    "Symbols": "symbols",
    "Flags": "flags",
}
"""Unicode's, without its components, which are parts of others; "hands" are those of `_HANDS` among people."""

_HANDS = ("hand", "body-parts")
PER_CLASS = 500
TEST_EVERY = 10
"""Every tenth picture of a class is a test image."""


def find(directory: Path) -> Path | None:
    """`directory`/emoji, if all three archives are there."""
    folder = directory / "emoji"
    return folder if all((folder / file).is_file() for file, _ in PACKAGES.values()) else None


def remedy(directory: Path) -> str:
    """How to get the archives."""
    return (
        f"Remedy: mkdir -p {directory / 'emoji'} && cd {directory / 'emoji'} && npm pack {' '.join(PACKAGES)} (150 MB)"
    )


class EmojiBuilder(tfds.core.GeneratorBasedBuilder):
    """Emoji by Google (Apache-2.0), Twitter (CC-BY-4.0) and Microsoft (Fluent 3D, MIT), composited on white.

    image: uint8 `[size, size, 3]`. label: 0..9, see `CLASSES`. 450 training and 50 test images of each class: without
    their skin tones first, then those with, then mirrored ones where a class has fewer.
    """

    VERSION = tfds.core.Version("1.0.0")
    MAX_VALUE = 255

    def __init__(self, *, size: int, folder: Path | None = None, **options: Any) -> None:
        self._size, self._folder = size, folder
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        # dataset_info_from_configs looks for metadata files beside the module and fails inside scripts.
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            homepage="https://github.com/iamcal/emoji-data",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(shape=(self._size, self._size, 3), dtype=np.uint8),
                    "label": tfds.features.ClassLabel(names=list(CLASSES)),
                }
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager
        assert self._folder is not None, "the archives are needed to prepare the dataset, not to read it"
        pictures = _pictures(self._folder, self._size)
        return {"train": self._generate_examples(pictures, False), "test": self._generate_examples(pictures, True)}

    def _generate_examples(self, pictures: Mapping[str, list[np.ndarray]], test: bool) -> Iterator[tuple[str, Any]]:
        for label in CLASSES:
            for index, image in enumerate(pictures[label]):
                if (index % TEST_EVERY == TEST_EVERY - 1) == test:
                    yield f"{label}-{index:04d}", {"image": image, "label": label}


class Emoji32Builder(EmojiBuilder):
    """At 32 x 32 pixels."""

    name = "pcm_emoji32"

    def __init__(self, **options: Any) -> None:
        super().__init__(size=32, **options)


class Emoji64Builder(EmojiBuilder):
    """At 64 x 64 pixels."""

    name = "pcm_emoji64"

    def __init__(self, **options: Any) -> None:
        super().__init__(size=64, **options)


def _pictures(folder: Path, size: int) -> dict[str, list[np.ndarray]]:
    """PER_CLASS images of every class, the same ones every time."""
    chosen: dict[str, list[tuple[str, str, bool]]] = defaultdict(list)
    names = {package: _names(folder / file, pattern) for package, (file, pattern) in PACKAGES.items()}
    index = json.loads(_member(folder / PACKAGES["emoji-datasource-google@16.0.0"][0], "package/emoji.json"))
    for mirrored in (False, True):
        for toned in (False, True):
            for entry in sorted(index, key=lambda each: each["sort_order"]):
                if (label := _label(entry)) is None:
                    continue
                tones = sorted(each["unified"].lower() for each in entry.get("skin_variations", {}).values())
                for code in tones if toned else [entry["unified"].lower()]:
                    chosen[label] += [(package, code, mirrored) for package in PACKAGES if code in names[package]]
    kept = {label: chosen[label][:PER_CLASS] for label in CLASSES}
    if few := [label for label in CLASSES if len(kept[label]) < PER_CLASS]:
        raise ValueError(f"{folder} has only {len(kept[few[0]])} pictures of {few[0]}; pack the archives again")
    wanted: dict[str, set[str]] = defaultdict(set)
    for entries in kept.values():
        for package, code, _ in entries:
            wanted[package].add(code)
    images = {package: _decode(folder, package, wanted[package], size) for package in PACKAGES}
    return {
        label: [
            images[package][code][:, ::-1] if mirrored else images[package][code] for package, code, mirrored in part
        ]
        for label, part in kept.items()
    }


def _label(entry: Mapping[str, Any]) -> str | None:
    label = _CATEGORIES.get(entry["category"])
    return "hands" if label == "people" and entry["subcategory"].startswith(_HANDS) else label


def _names(path: Path, pattern: str) -> set[str]:
    """Codes of the pictures in an archive."""
    before, after = pattern.split("{}")
    with _opened(path) as archive:
        names = archive.getnames()
    return {name[len(before) : -len(after)] for name in names if name.startswith(before) and name.endswith(after)}


def _member(path: Path, name: str) -> bytes:
    with _opened(path) as archive:
        file = archive.extractfile(name)
        assert file is not None
        return file.read()


def _decode(folder: Path, package: str, codes: set[str], size: int) -> dict[str, np.ndarray]:
    """uint8 `[size, size, 3]` of every code, on white."""
    name, pattern = PACKAGES[package]
    members = {pattern.format(code): code for code in codes}
    images = {}
    with _opened(folder / name) as archive:
        for member in archive:
            if member.name not in members:
                continue
            file = archive.extractfile(member)
            try:
                with PIL.Image.open(io.BytesIO(file.read() if file else b"")) as picture:
                    drawn = picture.convert("RGBA")
            except (OSError, SyntaxError) as error:
                raise ValueError(
                    f"{folder / name}: {member.name} is broken ({error}); pack the archive again"
                ) from error
            white = PIL.Image.new("RGBA", drawn.size, "white")
            shown = PIL.Image.alpha_composite(white, drawn).convert("RGB")
            images[members[member.name]] = np.asarray(shown.resize((size, size), PIL.Image.Resampling.BOX))
    return images


def _opened(path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(path)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{path} is no archive or truncated ({error}); pack it again") from error
