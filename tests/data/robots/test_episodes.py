import json

import numpy as np
import pytest
import tensorflow_datasets as tfds

from pcm_jax.data.robots import Demonstrations, Episode, load_rlds, read_episodes, write_episodes

LENGTHS = (5, 1, 9, 4, 7)


def episode(number, length=None):
    draw = np.random.default_rng(number)
    length = LENGTHS[number] if length is None else length
    return Episode(draw.normal(size=(length, 3)), draw.normal(size=(length, 2)), draw.random(length))


def make(numbers):
    return (episode(number) for number in numbers)


def write(directory, make=make, about=None):
    write_episodes(directory, make, len(LENGTHS), (3, 2), about or {"task": "mine"}, per_shard=2)


def same(one, other):
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for a, b in zip(one, other, strict=True)
        for name in ("observation", "action", "reward")
    )


@pytest.mark.fast
def test_episodes_come_back_and_tfds_reads_their_steps(tmp_path):
    write(tmp_path / "mine")
    read = read_episodes(tmp_path / "mine")
    assert read.name == "mine" and same(read.episodes, [episode(n) for n in range(5)])
    plain = tfds.builder_from_directory(str(tmp_path / "mine")).as_data_source(split="train")
    steps = list(plain[2]["steps"])
    assert [bool(step["is_first"]) for step in steps] == [True, *[False] * 8]
    assert [bool(step["is_last"]) for step in steps] == [*[False] * 8, True]
    np.testing.assert_array_equal(steps[4]["action"], episode(2).action[4])


def test_writing_goes_on_where_it_was_stopped(tmp_path):
    asked = []

    def breaks(numbers):
        for number in numbers:
            asked.append(number)
            if asked.count(3) == 1 and number == 3:
                raise KeyboardInterrupt
            yield episode(number)

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, breaks)
    with pytest.raises(ValueError, match="is not complete, 1 of 3 shards"):
        read_episodes(tmp_path)
    write(tmp_path, breaks)
    assert asked == [0, 1, 2, 3, 2, 3, 4]
    assert same(read_episodes(tmp_path).episodes, [episode(n) for n in range(5)])


def test_another_set_in_the_folder_is_left_alone(tmp_path):
    write(tmp_path)
    with pytest.raises(ValueError, match="holds another set: its task is 'mine', not 'other'"):
        write(tmp_path, about={"task": "other"})


def test_an_episode_of_other_sizes_is_refused(tmp_path):
    def wide(numbers):
        return (Episode(np.zeros((4, 7)), np.zeros((4, 2)), np.zeros(4)) for _ in numbers)

    with pytest.raises(ValueError, match=r"episode 0 has \(7, 2\) observations and actions, the set \(3, 2\)"):
        write(tmp_path, wide)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((np.zeros((0, 3)), np.zeros((0, 2)), np.zeros(0)), "is empty"),
        ((np.zeros((4, 3)), np.zeros((5, 2)), np.zeros(4)), r"must be \[L, O\], \[L, A\] and \[L\]"),
        ((np.zeros(4), np.zeros((4, 2)), np.zeros(4)), r"must be \[L, O\]"),
        ((np.full((4, 3), np.nan), np.zeros((4, 2)), np.zeros(4)), "observation is NaN or inf at step 0"),
        ((np.zeros((2, 3)), np.array([[0, 0], [np.inf, 0]]), np.zeros(2)), "action is NaN or inf at step 1"),
    ],
)
def test_broken_episodes(arrays, message):
    with pytest.raises(ValueError, match=message):
        Episode(*arrays)


@pytest.mark.fast
def test_sets_of_nothing_or_of_several_robots():
    with pytest.raises(ValueError, match="none has no episodes"):
        Demonstrations((), "none")
    other = Episode(np.zeros((4, 5)), np.zeros((4, 2)), np.zeros(4))
    with pytest.raises(ValueError, match=r"both mixes episodes of \[\(3, 2\), \(5, 2\)\]"):
        Demonstrations((episode(0), other), "both")


def test_reading_what_is_no_set_of_episodes(tmp_path):
    with pytest.raises(ValueError, match="holds no set of records"):
        read_episodes(tmp_path)
    write(tmp_path)
    plan = json.loads((tmp_path / "records.json").read_text())
    plan["features"] = {"x": [[3], "float32"]}
    (tmp_path / "records.json").write_text(json.dumps(plan))
    with pytest.raises(ValueError, match=r"holds other records than episodes, it has \['x'\]"):
        read_episodes(tmp_path)


class Rlds(tfds.core.GeneratorBasedBuilder):
    """Two episodes as TFDS publishes them: several observations, and a last step that holds the final one alone."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        tensor = tfds.features.Tensor
        step = {
            "observation": {"arm": tensor(shape=(2,), dtype=np.float64), "cube": tensor(shape=(3,), dtype=np.float64)},
            "action": tensor(shape=(2,), dtype=np.float64),
            "reward": np.float64,
            "is_first": np.bool_,
            "is_last": np.bool_,
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({"steps": tfds.features.Dataset(step)})
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(2):
            yield number, {"steps": [self._step(number, index) for index in range(4)]}

    @staticmethod
    def _step(number, index):
        return {
            "observation": {"arm": np.full(2, index + 10.0 * number), "cube": np.full(3, -float(index))},
            "action": np.full(2, index / 10),
            "reward": float(index == 2),
            "is_first": index == 0,
            "is_last": index == 3,
        }


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds")
    builder = Rlds(data_dir=str(directory), file_format="array_record")
    builder.download_and_prepare()
    return builder.data_dir


def test_a_dataset_of_tfds_in_the_same_layout(published):
    read = load_rlds(str(published), ("cube", "arm"))
    assert [len(one) for one in read.episodes] == [3, 3], "the last step was not acted in"
    np.testing.assert_array_equal(read.episodes[1].observation[2], [-2, -2, -2, 12, 12])
    np.testing.assert_array_equal(read.episodes[0].reward, [0, 0, 1])
    whole = load_rlds(str(published), ("arm",), last_action=True)
    assert len(whole.episodes[0]) == 4 and whole.episodes[0].observation.shape == (4, 2)
    assert len(load_rlds(str(published), ("arm",), split="train[:1]").episodes) == 1


@pytest.mark.parametrize(
    ("keys", "options", "message"),
    [
        ((), {}, r"keys must be among its observations arm, cube, got \(\)"),
        (("arm", "eye"), {}, r"keys must be among its observations arm, cube, got \('arm', 'eye'\)"),
        (("arm",), {"split": "test"}, "has no split 'test'; it has train"),
    ],
)
def test_what_a_dataset_does_not_have(published, keys, options, message):
    with pytest.raises(ValueError, match=message):
        load_rlds(str(published), keys, **options)


def test_datasets_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"robomimic_ph/lift_ph_low_dim is not in .*download_and_prepare"):
        load_rlds("robomimic_ph/lift_ph_low_dim", ("object",), data_dir=tmp_path)
    with pytest.raises(ValueError, match="no_such_thing cannot be opened"):
        load_rlds("no_such_thing")
