"""Emoji from archives as `npm pack` writes them: which pictures, on what ground, in which class."""

import io
import json
import tarfile

import numpy as np
import PIL.Image
import pytest

from pcm_jax.data import emoji, load_source

CATEGORIES = {label: category for category, label in emoji._CATEGORIES.items()}


def picture(colour, kind, size=64):
    """A square of one colour, transparent around it."""
    image = PIL.Image.new("RGBA", (size, size), (0, 0, 0, 0))
    image.paste((*colour, 255), (0, 0, size // 2, size))
    file = io.BytesIO()
    image.save(file, format=kind, **({"lossless": True} if kind == "WEBP" else {}))
    return file.getvalue()


def write(folder, members):
    for package, (file, _) in emoji.PACKAGES.items():
        with tarfile.open(folder / file, "w:gz") as archive:
            for name, content in members[package].items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))


@pytest.fixture
def members():
    """Two emoji of each class, the first with a skin tone; component and a vendor's gap beside them."""
    index, found = [], {package: {} for package in emoji.PACKAGES}
    for number, label in enumerate(emoji.CLASSES):
        for which in range(2):
            code = f"1F{number}{which}0"
            entry = {"unified": code, "sort_order": 10 * number + which, "subcategory": "x"}
            entry["category"] = CATEGORIES["people" if label == "hands" else label]
            if label == "hands":
                entry["subcategory"] = "hand-prop"
            codes = [code.lower()]
            if which == 0:
                codes.append(f"{code.lower()}-1f3fb")
                entry["skin_variations"] = {"1F3FB": {"unified": codes[-1].upper()}}
            index.append(entry)
            for package, (_, pattern) in emoji.PACKAGES.items():
                kind = "WEBP" if pattern.endswith("webp") else "PNG"
                for code in codes:
                    colour = (20 * number, 100 * which, 200 if "-" in code else 0)
                    found[package][pattern.format(code)] = picture(colour, kind, 256 if kind == "WEBP" else 64)
    index.append({"unified": "1F3FB", "sort_order": 0, "category": "Component", "subcategory": "skin-tone"})
    google = found["emoji-datasource-google@16.0.0"]
    google["package/emoji.json"] = json.dumps(index[::-1]).encode()
    return found


@pytest.fixture
def folder(tmp_path, members, monkeypatch):
    monkeypatch.setattr(emoji, "PER_CLASS", 12)
    (tmp_path / "emoji").mkdir()
    write(tmp_path / "emoji", members)
    return tmp_path


def test_classes_are_balanced_and_pictures_lie_on_white(folder):
    train, test = load_source("emoji32", "train", folder), load_source("emoji32", "test", folder)
    assert train.images.shape == (110, 32, 32, 3) and train.images.dtype == np.uint8
    assert np.bincount(train.labels).tolist() == [11] * 10 and np.bincount(test.labels).tolist() == [1] * 10
    both = np.concatenate([train.images, test.images]), np.concatenate([train.labels, test.labels])
    mine = both[0][both[1] == emoji.CLASSES.index("hands")]
    # Three vendors' two emoji, then the first one's skin tone, then the first three mirrored.
    left, right = mine[:, :, 4], mine[:, :, -4]
    mirrored = np.all(left == 255, axis=(1, 2))
    assert mirrored.sum() == 3 and np.all(right[~mirrored] == 255), "transparent is white"
    np.testing.assert_allclose(right[mirrored], np.broadcast_to([20, 0, 0], (3, 32, 3)), atol=2)
    colours = sorted(tuple(int(v) for v in np.round(row[0] / 100) * 100) for row in left[~mirrored])
    assert colours == sorted([(0, 0, 0)] * 3 + [(0, 100, 0)] * 3 + [(0, 0, 200)] * 3)
    assert train.num_classes == 10 and train.scaled().max() == 1.0
    assert load_source("emoji64", "train", folder).images.shape == (110, 64, 64, 3)


def test_a_prepared_set_needs_no_archives(folder):
    first = load_source("emoji32", "train", folder).images
    for path in (folder / "emoji").glob("*.tgz"):
        path.unlink()
    np.testing.assert_array_equal(load_source("emoji32", "train", folder).images, first)


@pytest.mark.fast
def test_archives_that_are_not_there_are_named_with_the_command(tmp_path):
    with pytest.raises(ValueError, match=r"emoji32 is not in .*npm pack emoji-datasource-google@16\.0\.0"):
        load_source("emoji32", "train", tmp_path)


def test_archives_that_are_broken(folder, members):
    _, (path, pattern) = list(emoji.PACKAGES.items())[1]
    broken = {package: dict(files) for package, files in members.items()}
    name = pattern.format("1f000")
    broken["emoji-datasource-twitter@16.0.0"][name] = b"no picture"
    write(folder / "emoji", broken)
    with pytest.raises(ValueError, match=rf"{path}: {name} is broken"):
        load_source("emoji32", "train", folder)
    (folder / "emoji" / path).write_bytes(b"nothing")
    with pytest.raises(ValueError, match=f"{path} is no archive or truncated"):
        load_source("emoji32", "train", folder)


def test_a_class_with_too_few(folder, monkeypatch):
    monkeypatch.setattr(emoji, "PER_CLASS", 40)
    with pytest.raises(ValueError, match="has only 18 pictures of faces; pack the archives again"):
        load_source("emoji32", "train", folder)
