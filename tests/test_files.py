import errno

import pytest

from pcm_jax.files import check_regular, read_json, reads, whole, write_text

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


@pytest.mark.parametrize(
    "full",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EFBIG, "File too large"),
        RuntimeError("write() failed: No space left on device; at byte 3"),
    ],
)
def test_a_full_disk_names_the_file_and_the_remedy(tmp_path, full):
    said = r"kept\.json could not be written: .*Make room, and start again"
    with pytest.raises(OSError, match=said) as raised, whole(tmp_path / "kept.json"):
        raise full
    assert raised.value.errno == getattr(full, "errno", errno.ENOSPC) and raised.value.__cause__ is full
    with pytest.raises(RuntimeError, match=r"^other$"), whole(tmp_path / "kept.json"):
        raise RuntimeError("other")


def test_what_a_killed_writer_left_is_taken_over(tmp_path):
    path = tmp_path / "kept.json"
    with whole(path) as scratch:
        pass_over = scratch
        scratch.write_text("first")
    pass_over.write_text("of a killed process")
    write_text(path, "second")
    assert path.read_text() == "second"
    assert [each.name for each in tmp_path.iterdir()] == ["kept.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "kept.json is no JSON .*recursion"),
        (b'{"a": 1, "b": 2, "a": 3}', "kept.json is no JSON .*the key 'a' is there twice"),
        (b'{"a": {"b": 1, "b": 2}}', "the key 'b' is there twice"),
        (b"\xff\xfe", "kept.json is no JSON"),
        (b"[1]", "kept.json holds a JSON list instead of an object"),
        (b"", "kept.json is no JSON"),
    ],
)
def test_json_that_is_none(tmp_path, content, message):
    path = tmp_path / "kept.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json(path)
    path.write_text('{"a": [1, {"a": 2}]}')
    assert read_json(path) == {"a": [1, {"a": 2}]}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), r"here/name cannot be read \(MemoryError: \); copy it again"),
        (KeyError("a"), r"here/name cannot be read \(KeyError: 'a'\); copy it again"),
        (ValueError("odd"), r"here/name cannot be read \(odd\); copy it again"),
        (ValueError("here/other is odd"), "^here/other is odd"),
    ],
)
def test_readers_name_the_file_whatever_happens(error, message):
    @reads("directory", "name")
    def load(name, directory="here"):
        raise error

    with pytest.raises(ValueError, match=message) as found:
        load("name")
    assert found.value is error or found.value.__cause__ is error


def test_what_is_no_file_in_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "good").write_text("")
    check_regular(tmp_path)
    (tmp_path / "a" / "endless").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="endless is neither a file nor a folder"):
        check_regular(tmp_path)
