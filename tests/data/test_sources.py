import gzip
import io
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from pcm_jax.data import data_directory, load_source
from pcm_jax.data.idx import FILES, read_idx
from pcm_jax.data.sources import ImageSource


def test_both_splits_together_are_exactly_the_digits_of_scikit_learn(data_dir, train_set):
    from sklearn.datasets import load_digits  # a second that a selection without this test does not need

    test_set = load_source("digits", "test", data_dir)
    images = np.concatenate([train_set.images, test_set.images])
    labels = np.concatenate([train_set.labels, test_set.labels])
    bunch = load_digits()

    def rows(images, labels):
        return sorted(
            (*image.ravel().astype(int).tolist(), int(label)) for image, label in zip(images, labels, strict=True)
        )

    assert rows(images, labels) == rows(bunch.images, bunch.target)
    assert (len(train_set), len(test_set)) == (1498, 299)
    assert np.bincount(test_set.labels).min() >= 20
    assert (train_set.images.dtype, train_set.labels.dtype) == (np.uint8, np.int32)
    assert (train_set.num_classes, train_set.max_value) == (10, 16)


@pytest.mark.fast
def test_scaling_is_float32_in_minus_one_to_one_and_has_an_inverse():
    values = np.arange(256, dtype=np.uint8).reshape(256, 1, 1, 1)
    source = ImageSource("all", values, np.zeros(256, np.int32), 1, 255)
    scaled = source.scaled()
    assert scaled.dtype == np.float32 and (scaled.min(), scaled.max()) == (-1, 1)
    np.testing.assert_array_equal(source.pixels(scaled), values)
    np.testing.assert_array_equal(source.pixels(3 * scaled)[[0, -1]], values[[0, -1]])


def test_a_second_load_reads_what_the_first_prepared(data_dir, train_set, monkeypatch):
    monkeypatch.setattr("sklearn.datasets.load_digits", lambda: pytest.fail("prepared again"))
    np.testing.assert_array_equal(load_source("digits", "train", data_dir).images, train_set.images)


def test_tfds_slices_are_splits(data_dir, train_set):
    np.testing.assert_array_equal(load_source("digits", "train[:10]", data_dir).images, train_set.images[:10])


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_a_dataset_that_is_not_there_is_an_error_with_the_remedy_and_nothing_is_downloaded(name, tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", lambda *a, **k: pytest.fail("a download"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("pcm_jax.data.idx.PLACES", {})
    with pytest.raises(ValueError, match=f"{name} is not in .*Remedy: .*tfds.builder\\('{name}'.*PCM_JAX_DATA"):
        load_source(name, "train", tmp_path)


def png(image):
    """What `features.Image` takes where there is no TensorFlow to encode an array."""
    file = io.BytesIO()
    PIL.Image.fromarray(image[..., 0]).save(file, format="PNG")
    file.seek(0)
    return file


def test_a_prepared_dataset_of_that_name_is_read_by_the_same_path(tmp_path):
    """As if mnist had been copied here: eight records of its features, in array_record files."""
    builder = tfds.builder("mnist", data_dir=str(tmp_path), file_format="array_record")
    images = np.random.default_rng(0).integers(0, 256, (8, 28, 28, 1), dtype=np.uint8)
    examples = [{"image": png(image), "label": index} for index, image in enumerate(images)]
    builder._split_generators = lambda dl_manager: {"train": ((i, e) for i, e in enumerate(examples))}
    builder.download_and_prepare()
    source = load_source("mnist", "train", tmp_path)
    order = np.argsort(source.labels)
    np.testing.assert_array_equal(source.images[order], images)
    assert (source.max_value, source.num_classes) == (255, 10)


def test_a_failing_preparation_is_named(tmp_path, monkeypatch):
    def fail(*args, **options):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(
        ValueError, match=r"could not be prepared \(ConnectionError: no route to host\). Remedy: install"
    ):
        load_source("digits", "train", tmp_path)


def test_unknown_names_and_splits_list_what_there_is(data_dir, train_set):
    with pytest.raises(ValueError, match="choose one of digits, mnist, fashion_mnist, cifar10, emoji32, emoji64"):
        load_source("imagenet")
    with pytest.raises(ValueError, match="digits has no split 'validation'; it has test, train"):
        load_source("digits", "validation", data_dir)


def test_the_cache_is_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("PCM_JAX_DATA", "/somewhere")
    assert data_directory() == Path("/somewhere")
    monkeypatch.delenv("PCM_JAX_DATA")
    assert data_directory() == Path.home() / ".cache" / "pcm_jax"


def test_tensorflow_is_never_asked_for(data_dir, train_set):
    """A stand-in TensorFlow that notes its import: not installed is not the same as not used."""
    script = f"""
import importlib.machinery, sys, traceback
class Trap:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tensorflow":
            return importlib.machinery.ModuleSpec(name, self)
    def create_module(self, spec):
        traceback.print_stack()
        raise SystemExit("tensorflow was imported")
    def exec_module(self, module): pass
sys.meta_path.insert(0, Trap())
from pcm_jax import data
source = data.load_source("digits", "test", {str(data_dir)!r})
batch = next(data.batch_iterator(source, 16, seed=0))
assert batch["x"].shape == (16, 8, 8, 1) and "tensorflow" not in sys.modules
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def idx(folder, count):
    """The four files of a small Fashion-MNIST."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    made = {}
    for split, (images, labels) in FILES.items():
        pixels = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        classes = (np.arange(count) % 10).astype(np.uint8)
        made[split] = pixels, classes
        head = b"\0\0\x08\x03" + struct.pack(">3I", count, 28, 28)
        (folder / images).write_bytes(gzip.compress(head + pixels.tobytes()))
        (folder / labels).write_bytes(gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", count) + classes.tobytes()))
    return made


def test_fashion_mnist_is_made_from_idx_files_and_then_needs_them_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr("pcm_jax.data.idx.PLACES", {})
    made = idx(tmp_path / "idx" / "fashion_mnist", 12)
    source = load_source("fashion_mnist", "train", tmp_path)
    shutil.rmtree(tmp_path / "idx")
    again = load_source("fashion_mnist", "train", tmp_path)
    np.testing.assert_array_equal(source.images, again.images)
    pixels, classes = made["train"]
    found = {image.tobytes(): label for image, label in zip(source.images, source.labels, strict=True)}
    assert found == {image.tobytes(): label for image, label in zip(pixels, classes, strict=True)}
    assert (source.max_value, source.num_classes, source.images.shape[1:]) == (255, 10, (28, 28, 1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 5) + b"abc"), "promises .* and holds 3 bytes"),
        (gzip.compress(b"PK\3\4 something else"), "is no IDX file"),
        (gzip.compress(b"\0\0\x08\x01" * 100)[:20], "truncated or not gzipped"),
        (b"not gzip", "truncated or not gzipped"),
    ],
    ids=["short", "another file", "cut", "not gzip"],  # gzip writes the time: two test processes would disagree
)
def test_bad_idx_files(tmp_path, content, message):
    path = tmp_path / "labels.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_idx(path)
