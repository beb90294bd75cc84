import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from pcm_jax.data.records import Records, finished_shards, write_records

FEATURES = {"x": ((3, 2), "float32"), "label": ((), "int32")}
LENGTHS = (4, 4, 2)


def make(shard):
    for row in range(LENGTHS[shard]):
        yield {"x": np.full((3, 2), shard + row / 10, np.float32), "label": np.int32(row)}


def write(directory, make=make, about=None, lengths=LENGTHS):
    write_records(directory, FEATURES, lengths, make, about or {"solver": "mine"})


@pytest.mark.fast
def test_what_is_written_is_read_by_us_and_by_tfds_alone(tmp_path):
    write(tmp_path)
    records = Records(tmp_path)
    assert len(records) == 10 and records.about == {"solver": "mine"} and records.features == FEATURES
    rows = records.rows([9, 0, 5])
    assert rows["x"].dtype == np.float32 and rows["x"].shape == (3, 3, 2)
    np.testing.assert_allclose(rows["x"][:, 0, 0], [2.1, 0.0, 1.1])
    np.testing.assert_array_equal(rows["label"], [1, 0, 1])
    plain = tfds.builder_from_directory(str(tmp_path)).as_data_source(split="train")
    assert len(plain) == 10
    np.testing.assert_allclose(plain[5]["x"], 1.1)


def test_a_stopped_writer_goes_on_to_the_same_bytes(tmp_path):
    write(tmp_path / "whole")
    calls = []

    def breaks(shard):
        calls.append(shard)
        for row, example in enumerate(make(shard)):
            if (shard, row) == (1, 2) and calls.count(1) == 1:
                raise KeyboardInterrupt
            yield example

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "stopped", breaks)
    assert finished_shards(tmp_path / "stopped") == 1
    with pytest.raises(ValueError, match=r"is not complete, 1 of 3 shards are there and records-train.*00001.* is not"):
        Records(tmp_path / "stopped")
    write(tmp_path / "stopped", breaks)
    assert calls == [0, 1, 1, 2], "finished shards are not made again"
    for path in sorted((tmp_path / "whole").iterdir()):
        assert (tmp_path / "stopped" / path.name).read_bytes() == path.read_bytes(), path.name
    assert {p.name for p in (tmp_path / "whole").iterdir()} == {p.name for p in (tmp_path / "stopped").iterdir()}


KILLED = """
import os, signal, sys
from tests.data import test_records as t
def make(shard):
    for row, example in enumerate(t.make_many(shard)):
        if (shard, row) == (1, 2):
            os.kill(os.getpid(), signal.SIGKILL)
        yield example
t.write_many(sys.argv[1], make)
"""
MANY = {name: ((2,), "float32") for name in "abcdefgh"}


def make_many(shard):
    for row in range(LENGTHS[shard]):
        yield {name: np.full(2, shard + row / 10 + ord(name), np.float32) for name in MANY}


def write_many(directory, make=make_many):
    write_records(directory, MANY, LENGTHS, make, {"solver": "mine"})


def test_a_killed_process_and_another_one_write_the_same_bytes(tmp_path):
    # protobuf orders names by a hash that each process seeds anew: what one process alone writes always agrees.
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "killed")], cwd=root, check=False)
    assert done.returncode == -signal.SIGKILL
    assert finished_shards(tmp_path / "killed") == 1 and list((tmp_path / "killed").glob("unfinished-*"))
    write_many(tmp_path / "killed")
    write_many(tmp_path / "whole")
    assert {p.name for p in (tmp_path / "whole").iterdir()} == {p.name for p in (tmp_path / "killed").iterdir()}
    for path in sorted((tmp_path / "whole").iterdir()):
        assert (tmp_path / "killed" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_damaged_description_is_named_and_mended(tmp_path):
    write(tmp_path)
    for name in ("dataset_info.json", "features.json"):
        (tmp_path / name).unlink()
        with pytest.raises(ValueError, match=r"is damaged .* which mends its description"):
            Records(tmp_path)
        write(tmp_path)
        assert len(Records(tmp_path)) == 10
    kept = (tmp_path / "records.json").read_text()
    for text in (kept[:-9], "{}", "[]"):
        (tmp_path / "records.json").write_text(text)
        for work in (Records, write):
            with pytest.raises(ValueError, match="is damaged or describes something else; if a set was made here, del"):
                work(tmp_path)
    empty = json.loads(kept) | {"lengths": [], "bytes": []}
    (tmp_path / "records.json").write_text(json.dumps(empty))
    with pytest.raises(ValueError, match="promises 0 examples and holds 0, 10 of them described; delete the folder"):
        Records(tmp_path)


def test_a_shard_changed_without_another_size(tmp_path):
    write(tmp_path)
    path = sorted(tmp_path.glob("*.array_record*"))[0]
    content = bytearray(path.read_bytes())
    # The footer, in the last 64 KiB block.
    content[-(1 << 16)] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged \(RuntimeError"):
        Records(tmp_path)


def test_notes_are_those_of_the_first_writer(tmp_path):
    def breaks(shard):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_records(tmp_path, FEATURES, LENGTHS, breaks, {}, {"version": 1})
    write_records(tmp_path, FEATURES, LENGTHS, make, {}, {"version": 2})
    assert json.loads((tmp_path / "records.json").read_text())["notes"] == {"version": 1}


def test_bad_sets(tmp_path):
    with pytest.raises(ValueError, match="holds no set of records"):
        Records(tmp_path / "nowhere")
    for lengths in ((), (3, 0)):
        with pytest.raises(ValueError, match="at least one shard and every shard an example"):
            write(tmp_path / "empty", lengths=lengths)
    with pytest.raises(ValueError, match="shard 0 has 4 examples, 5 were announced"):
        write(tmp_path / "short", lengths=(5,))
    write(tmp_path / "set")
    with pytest.raises(ValueError, match="holds another set: its solver is 'mine', not 'yours'; delete the folder"):
        write(tmp_path / "set", about={"solver": "yours"})
    with pytest.raises(ValueError, match="its lengths are"):
        write(tmp_path / "set", lengths=(4, 4))
    cut = sorted((tmp_path / "set").glob("*.array_record*"))[1]
    cut.write_bytes(cut.read_bytes()[:-7])
    with pytest.raises(ValueError, match=r"truncated or changed\. Delete it and give the command"):
        Records(tmp_path / "set")
    cut.unlink()
    with pytest.raises(ValueError, match="2 of 3 shards are there"):
        Records(tmp_path / "set")
    write(tmp_path / "set")
    assert len(Records(tmp_path / "set")) == 10


def test_a_shuffled_epoch_holds_everything_once(tmp_path):
    write(tmp_path)
    batches = Records(tmp_path).batches(5, seed=1)
    first, second, third = (sorted(np.concatenate([batches[2 * e], batches[2 * e + 1]])) for e in range(3))
    assert first == second == third == list(range(10))
    assert not np.array_equal(batches[0], batches[2])
    np.testing.assert_array_equal(batches[3], Records(tmp_path).batches(5, seed=1)[3])


def test_the_plan_is_json(tmp_path):
    write(tmp_path)
    kept = json.loads((tmp_path / "records.json").read_text())
    assert kept["lengths"] == list(LENGTHS) and len(kept["bytes"]) == 3
