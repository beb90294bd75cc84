"""A checkpoint is read on any devices, whichever wrote it; one that cannot be read is nobody's to delete."""

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from pcm_jax.checkpoint import Checkpoints
from tests.test_checkpoint import equal
from tests.training import test_trainer as trained

ROOT = Path(__file__).resolve().parents[1]


def tree(seed=0):
    # Not from jax.random, whose last bits depend on how XLA compiles.
    kernel = jnp.asarray(np.random.default_rng(seed).normal(size=(8, 3)), jnp.float32)
    return {"kernel": kernel, "half": kernel.astype(jnp.bfloat16), "key": jax.random.key(7), "step": jnp.int32(seed)}


def spread(values):
    """Over all devices; the kernel in parts."""
    mesh = Mesh(np.asarray(jax.devices()), ("data",), axis_types=(AxisType.Auto,))
    whole = jax.device_put(values, NamedSharding(mesh, PartitionSpec()))
    return whole | {"kernel": jax.device_put(values["kernel"], NamedSharding(mesh, PartitionSpec("data")))}


def processes(body, count=1, first="", **environment):
    """Python processes that run `body` with this file's names, and `first` before it touches a device."""
    script = f"{first}\nfrom tests.test_checkpoint_elsewhere import *\n{body}"
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "NUMBER": str(number)} | environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    ends = [run.communicate(timeout=300)[1] for run in runs]
    assert [run.returncode for run in runs] == [0] * count, "\n".join(ends)


def test_eight_devices_one_and_eight_again(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, spread(tree(1)), {"at": 1})
    processes(
        f"assert len(jax.devices()) == 1\ncheckpoints = Checkpoints({str(tmp_path)!r})\n"
        "found, position = checkpoints.restore(tree())\nequal(found, tree(1))\nassert position == {'at': 1}\n"
        "checkpoints.save(2, tree(2), {'at': 2})"
    )
    like = spread(tree())
    found, position = checkpoints.restore(like)
    equal(found, tree(2))
    assert position == {"at": 2}
    assert all(found[name].sharding == like[name].sharding for name in found)
    alone = jax.device_put(tree(), SingleDeviceSharding(jax.devices()[5]))
    assert checkpoints.restore(alone)[0]["kernel"].devices() == {jax.devices()[5]}


def test_a_training_goes_on_with_another_number_of_devices(tmp_path):
    trained.run(tmp_path, config={"stop_at": 3, "data_parallel": 8})
    trained.run(tmp_path, config={"stop_at": 6})
    state = trained.run(tmp_path, config={"data_parallel": 8})
    whole = trained.run()
    for name, leaf in trained.raw(state).items():
        np.testing.assert_allclose(leaf, trained.raw(whole)[name], rtol=2e-4, atol=1e-6, err_msg=name)


@pytest.mark.fast
@pytest.mark.parametrize(
    "device",
    [
        {"sharding_type": "SingleDeviceSharding", "device_str": "cuda:0"},
        {"sharding_type": "SingleDeviceSharding", "device_str": "TPU_3(process=0,(1,1,0,0))"},
        {
            "sharding_type": "NamedSharding",
            "shape": [64],
            "axis_names": ["data"],
            "axis_types": ["AxisType.Auto"],
            "partition_spec": [],
            "device_mesh": {"mesh": [{"id": number} for number in range(64)]},
        },
    ],
    ids=["gpu", "tpu", "64 devices"],
)
def test_a_checkpoint_of_another_platform(tmp_path, device):
    """As the first versions of this package wrote them, with the devices that the arrays were on."""
    checkpoints = Checkpoints(tmp_path)
    arrays = tree(1) | {"key": jax.random.key_data(tree()["key"])}
    with ocp.CheckpointManager(tmp_path) as manager:
        items = ocp.args.Composite(tree=ocp.args.StandardSave(arrays), position=ocp.args.JsonSave({}))
        manager.save(1, args=items)
    where = tmp_path / "1" / "tree" / "_sharding"
    written = json.loads(where.read_text())
    assert base64.b64encode(b"kernel").decode() in written
    where.write_text(json.dumps(dict.fromkeys(written, json.dumps(device))))
    equal(checkpoints.restore(tree())[0], tree(1))
    equal(checkpoints.restore(jax.eval_shape(tree))[0], tree(1))


def test_one_process_reads_what_each_of_two_hosts_wrote(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    Checkpoints(tmp_path / "one").save(3, tree(3), {})
    processes(
        f"""
here = jax.process_index()
Checkpoints(f"{tmp_path}/host_{{here}}").save(1, tree(1 + here), {{}})
equal(Checkpoints("{tmp_path}/one").restore(tree())[0], tree(3))
""",
        count=2,
        first=f"import jax, os\njax.distributed.initialize({address!r}, 2, int(os.environ['NUMBER']))",
        XLA_FLAGS="",
    )
    for host in range(2):
        equal(Checkpoints(tmp_path / f"host_{host}").restore(tree())[0], tree(1 + host))


@pytest.fixture
def damaged(tmp_path):
    """Steps 1, 2, 3, of which only 1 can be read."""
    checkpoints = Checkpoints(tmp_path / "run", keep=3)
    for step in (1, 2, 3):
        checkpoints.save(step, tree(step), {"at": step})
    (tmp_path / "run" / "2" / "position" / "metadata").write_text("{")
    (tmp_path / "run" / "3" / "tree" / "_METADATA").unlink()
    return checkpoints


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_error_says_what_is_missing_and_which_step_can_be_read(damaged):
    before = sorted(path for path in damaged.directory.rglob("*"))
    wanted = r"3 cannot be read here \(missing or empty: tree/_METADATA\).*Step 1 can be read: pass fall_back=True"
    with pytest.raises(ValueError, match=wanted) as error:
        damaged.restore(tree())
    assert "delete" not in str(error.value)
    with pytest.raises(ValueError, match=r"2 cannot be read here \(.*JSON.*Step 1 can be read"):
        damaged.restore(tree(), step=2)
    assert before == sorted(path for path in damaged.directory.rglob("*"))
    shutil.rmtree(damaged.directory / "1")
    with pytest.raises(ValueError, match="No older step here can be read either"):
        damaged.restore(tree(), fall_back=True)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_falling_back_keeps_what_could_not_be_read(damaged):
    found, position = damaged.restore(tree(), fall_back=True)
    equal(found, tree(1))
    assert position == {"at": 1} and damaged.latest() == 1
    assert {"2.unread", "3.unread"} <= {path.name for path in damaged.directory.iterdir()}
    damaged.save(2, tree(4), {"at": 4})
    damaged.save(3, tree(5), {"at": 5})
    equal(damaged.restore(tree(), fall_back=True)[0], tree(5))
    assert {"1", "2", "3", "2.unread", "3.unread"} == {path.name for path in damaged.directory.iterdir()}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_training_falls_back_only_when_told_to(tmp_path):
    trained.run(tmp_path, config={"stop_at": 8})
    (tmp_path / "checkpoints" / "8" / "tree" / "manifest.ocdbt").unlink()
    with pytest.raises(ValueError, match="Step 6 can be read: pass fall_back=True"):
        trained.run(tmp_path)
    trained.equal(trained.run(tmp_path, fall_back=True), trained.run())


@pytest.mark.fast
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda at: Checkpoints(None), "directory must be a path, got None"),
        (lambda at: Checkpoints(at, keep=-1), "keep must be a whole number of at least 1, got -1"),
        (lambda at: Checkpoints(at, keep=True), "keep must be a whole number of at least 1, got True"),
        (lambda at: Checkpoints(at).save(-1, tree(), {}), "step must be a whole number of at least 0, got -1"),
        (lambda at: Checkpoints(at).save(1.5, tree(), {}), "step must be a whole number of at least 0, got 1.5"),
        (lambda at: Checkpoints(at).save(1, tree(), {"at": object()}), "position must be a dict that fits into JSON"),
        (lambda at: Checkpoints(at).save(1, {"a": "b"}, {}), "holds arrays: 'a' is a str, make it"),
    ],
)
def test_wrong_calls(tmp_path, call, message):
    with pytest.raises(ValueError, match=message):
        call(tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.fast
def test_what_a_killed_run_was_writing_is_removed_by_the_next_save(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, tree(1), {})
    shutil.copytree(tmp_path / "1", tmp_path / "2.orbax-checkpoint-tmp")
    checkpoints.save(3, tree(3), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "3"]


@pytest.mark.parametrize(
    "said",
    [
        OSError(28, "No space left on device"),
        ValueError("RESOURCE_EXHAUSTED: Error writing " + 40 * "a/long/path/of/a/leaf: " + "No space left on device"),
    ],
)
def test_a_disk_that_is_full_leaves_the_last_whole_checkpoint(tmp_path, monkeypatch, said):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, tree(1), {})

    def full(*args, **kwargs):
        (tmp_path / "2.orbax-checkpoint-tmp").mkdir()
        raise said

    with monkeypatch.context() as patch:
        patch.setattr("orbax.checkpoint.CheckpointManager.save", full)
        with pytest.raises(
            OSError, match=r"step 2 could not be written to .*No space left on device\); step 1 is the last"
        ):
            checkpoints.save(2, tree(2), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1"]
    equal(checkpoints.restore(tree())[0], tree(1))
