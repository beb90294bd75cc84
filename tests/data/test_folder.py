"""Folders of image files."""

import numpy as np
import PIL.Image
import pytest

from pcm_jax.data import load_folder


def write(path, size, colour):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", size, colour).save(path)


def test_sizes_formats_and_order(tmp_path):
    write(tmp_path / "b.png", (8, 8), "red")
    write(tmp_path / "a.jpg", (20, 12), "blue")
    write(tmp_path / "sub" / "c.webp", (6, 10), "white")
    (tmp_path / "notes.txt").write_text("no image")
    first, second = load_folder(tmp_path, batch_size=2)
    assert first.shape == (2, 12, 12, 3) and second.shape == (1, 12, 12, 3) and first.dtype == np.uint8
    np.testing.assert_allclose(first[0].mean((0, 1)), [0, 0, 255], atol=3)
    np.testing.assert_array_equal(first[1, 0, 0], [255, 0, 0])
    assert next(load_folder(tmp_path, size=4)).shape == (3, 4, 4, 3)


def test_a_broken_file_is_named(tmp_path):
    write(tmp_path / "a.png", (8, 8), "red")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"b\.png is broken or no image .*; copy it again"):
        list(load_folder(tmp_path))
    (tmp_path / "b.png").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"b\.png is broken"):
        list(load_folder(tmp_path))


def test_no_folder_and_no_images(tmp_path):
    with pytest.raises(ValueError, match="there is no folder"):
        load_folder(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no images"):
        load_folder(tmp_path)
