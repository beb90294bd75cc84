import pytest

from pcm_jax.data import load_source


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Where the digits get prepared, once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def train_set(data_dir):
    return load_source("digits", "train", data_dir)
