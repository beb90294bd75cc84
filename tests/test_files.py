import pytest

from pcm_jax.files import whole, write_text

pytestmark = pytest.mark.fast


def test_a_file_is_replaced_in_one_step(tmp_path):
    path = tmp_path / "new" / "kept.json"
    write_text(path, "first")
    with whole(path) as scratch:
        scratch.write_text("second")
        assert path.read_text() == "first" and scratch.parent == path.parent
    assert path.read_text() == "second"
    assert [each.name for each in path.parent.iterdir()] == ["kept.json"]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "kept.json"
    write_text(path, "first")
    for error in (OSError(28, "No space left on device"), KeyboardInterrupt()):
        with pytest.raises(type(error)), whole(path) as scratch:
            scratch.write_text("half")
            raise error
        assert path.read_text() == "first"
        assert [each.name for each in tmp_path.iterdir()] == ["kept.json"]


def test_what_a_killed_writer_left_is_taken_over(tmp_path):
    path = tmp_path / "kept.json"
    with whole(path) as scratch:
        pass_over = scratch
        scratch.write_text("first")
    pass_over.write_text("of a killed process")
    write_text(path, "second")
    assert path.read_text() == "second"
    assert [each.name for each in tmp_path.iterdir()] == ["kept.json"]
