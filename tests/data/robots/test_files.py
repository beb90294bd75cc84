"""Files of other projects: Push-T's zarr, robomimic's HDF5, written here in the same layout."""

import h5py
import numpy as np
import pytest
import zarr

from pcm_jax.data.robots import load_pusht, load_robomimic


def write_zarr(path, ends=(3, 7), state=None, action=None, names=("state", "action")):
    """As Diffusion Policy's ReplayBuffer writes it: zarr of the second format."""
    draw = np.random.default_rng(0)
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    state = draw.random((7, 5)).astype(np.float32) if state is None else state
    action = draw.random((7, 2)).astype(np.float32) if action is None else action
    group.create_array(f"data/{names[0]}", data=state)
    group.create_array(f"data/{names[1]}", data=action)
    group.create_array("meta/episode_ends", data=np.asarray(ends, np.int64))
    return path


@pytest.mark.fast
def test_push_t(tmp_path):
    found = load_pusht(write_zarr(tmp_path / "small.zarr"))
    assert found.name == "small" and [len(one) for one in found.episodes] == [3, 4]
    group = zarr.open_group(str(tmp_path / "small.zarr"), mode="r")
    np.testing.assert_array_equal(found.episodes[1].observation, group["data/state"][3:7])
    np.testing.assert_array_equal(found.episodes[1].action, group["data/action"][3:7])


@pytest.mark.parametrize("ends", [(3, 6), (3, 8), (3, 3, 7), (5, 3, 7), (0, 7), ()])
def test_push_t_with_ends_that_do_not_fit(tmp_path, ends):
    with pytest.raises(ValueError, match=r"episode_ends must grow, from 1 at least, to the number of steps: 7 states"):
        load_pusht(write_zarr(tmp_path / "small.zarr", ends))


def test_push_t_that_is_broken(tmp_path):
    state = np.zeros((7, 5), np.float32)
    state[4, 2] = np.nan
    with pytest.raises(ValueError, match=r"small.zarr, episode 1: observation is NaN or inf at step 1"):
        load_pusht(write_zarr(tmp_path / "small.zarr", state=state))
    with pytest.raises(ValueError, match="must grow"):
        load_pusht(write_zarr(tmp_path / "small.zarr", action=np.zeros((6, 2), np.float32)))
    with pytest.raises(ValueError, match="is no zarr with data/state"):
        load_pusht(write_zarr(tmp_path / "small.zarr", names=("img", "action")))
    with pytest.raises(ValueError, match=r"no Push-T demonstrations at .*; unpack"):
        load_pusht(tmp_path / "nowhere.zarr")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(ValueError, match="is no zarr with"):
        load_pusht(tmp_path / "empty.zarr")


def write_hdf5(path, lengths=(4, 6, 5), drop=None, nan=False):
    """As robomimic's dataset_states_to_obs.py writes it."""
    draw = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = sum(lengths)
        for number, length in enumerate(lengths):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = length
            arrays = {
                "actions": draw.random((length, 7)),
                "rewards": (np.arange(length) == length - 1).astype(float),
                "dones": (np.arange(length) == length - 1).astype(int),
                "states": draw.random((length, 32)),
                "obs/object": draw.random((length, 10)),
                "obs/robot0_eef_pos": draw.random((length, 3)),
                "obs/robot0_eef_quat": draw.random((length, 4)),
                "obs/robot0_gripper_qpos": draw.random((length, 2)),
            }
            if nan and number == 1:
                arrays["actions"][2, 3] = np.nan
            for name, array in arrays.items():
                if name != drop:
                    demo.create_dataset(name, data=array)
        file.create_dataset("mask/train", data=np.array([b"demo_2", b"demo_0"]))
    return path


@pytest.mark.fast
def test_robomimic(tmp_path):
    path = write_hdf5(tmp_path / "low_dim.hdf5", lengths=(4, 6, 5, *[2] * 9))
    found = load_robomimic(path)
    assert [len(one) for one in found.episodes] == [4, 6, 5, *[2] * 9], "demo_10 comes after demo_9"
    assert found.episodes[0].observation.shape == (4, 10 + 3 + 4 + 2) and found.episodes[0].action.shape == (4, 7)
    with h5py.File(path) as file:
        np.testing.assert_allclose(found.episodes[1].observation[:, 10:13], file["data/demo_1/obs/robot0_eef_pos"])
        np.testing.assert_allclose(found.episodes[1].action, file["data/demo_1/actions"])
    assert [len(one) for one in load_robomimic(path, mask="train").episodes] == [4, 5]
    assert load_robomimic(path, ("robot0_eef_pos",)).episodes[0].observation.shape == (4, 3)


def test_robomimic_that_is_broken(tmp_path):
    path = tmp_path / "low_dim.hdf5"
    with pytest.raises(ValueError, match="there is no file"):
        load_robomimic(path)
    path.write_bytes(b"not this")
    with pytest.raises(ValueError, match="is no HDF5 file"):
        load_robomimic(path)
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match="has no group data"):
        load_robomimic(path)
    write_hdf5(path)
    with pytest.raises(ValueError, match="has no mask 'valid'; it has train"):
        load_robomimic(path, mask="valid")
    with pytest.raises(ValueError, match=r"demo_0 has no 'robot1_eef_pos'; its observations are object, robot0"):
        load_robomimic(path, ("object", "robot1_eef_pos"))
    write_hdf5(path, drop="actions")
    with pytest.raises(ValueError, match="demo_0 has no 'actions'"):
        load_robomimic(path)
    write_hdf5(path, nan=True)
    with pytest.raises(ValueError, match=r"low_dim.hdf5, demo_1: action is NaN or inf at step 2"):
        load_robomimic(path)
    write_hdf5(path, lengths=(4, 0))
    with pytest.raises(ValueError, match="demo_1: an episode is empty"):
        load_robomimic(path)
