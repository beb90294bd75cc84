import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pcm_jax.pretrained import available_policies, export_policy, load_arrays, load_policy
from tests.policy.policies import CONFIG, histories, small


@pytest.fixture
def shipped(tmp_path):
    export_policy(small(), CONFIG, "# small\n", tmp_path)
    return tmp_path


@pytest.mark.fast
def test_a_policy_comes_back_whole(shipped):
    assert available_policies(shipped) == ("small",)
    keys = jax.random.split(jax.random.key(3), 3)
    found = load_policy("small", shipped)
    np.testing.assert_array_equal(found.act(histories(), keys).actions, small().act(histories(), keys).actions)
    assert found.horizon == 8 and len(found.solver) == 20 and found.name == "small"


@pytest.mark.fast
def test_the_network_is_stored_in_bfloat16_and_the_normalisers_are_not(tmp_path):
    path = export_policy(small(), CONFIG, "# small\n", tmp_path, storage=jnp.bfloat16)
    dtypes = {(key.split("/")[0], str(value.dtype)) for key, value in load_arrays(path).items()}
    assert dtypes == {("params", "bfloat16"), ("observation", "float32"), ("action", "float32")}
    found = load_policy("small", tmp_path)
    assert {leaf.dtype for leaf in jax.tree.leaves(found.params)} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(found.observation.high, small().observation.high)


@pytest.mark.fast
def test_rows_for_decisions_that_end_early_come_back_and_belong_to_the_solver(tmp_path):
    export_policy(small(), dataclasses.replace(CONFIG, preview=(5, 9, 20)), "# small\n", tmp_path)
    found, key = load_policy("small", tmp_path), jax.random.key(3)
    assert found.preview == (5, 9, 20) and small().preview is None
    early = found.picard(max_rounds=2, preview=found.preview, prior=None).act(histories()[0], key)
    plain = found.picard(max_rounds=2, preview=(5, 9, 20), prior=None).act(histories()[0], key)
    np.testing.assert_array_equal(early.actions, plain.actions)
    assert not bool(early.out.converged)
    assert np.abs(early.actions - found.picard(max_rounds=2, prior=None).act(histories()[0], key).actions).max() > 0
    other = found.with_solver(dataclasses.replace(CONFIG, num_steps=30).build_solver())
    with pytest.raises(ValueError, match=r"these preview rows were measured on ddpm-20 of 20 rows, this is ddpm-30"):
        other.picard(max_rounds=2, preview=found.preview, prior=None).act(histories()[0], key)
    with pytest.raises(ValueError, match=r"small: preview must be a whole number, 0..20"):
        dataclasses.replace(CONFIG, preview=(5, 21))


@pytest.mark.fast
def test_policies_that_are_not_there_or_not_theirs(shipped):
    with pytest.raises(ValueError, match=r"there is no policy 'other' in .*; there are: small"):
        load_policy("other", shipped)
    about = dataclasses.asdict(CONFIG)
    (shipped / "small.json").write_text(json.dumps(about | {"network": about["network"] | {"width": 32}}))
    with pytest.raises(ValueError, match=r"small\.safetensors"):
        load_policy("small", shipped)
    (shipped / "small.json").write_text(json.dumps({"name": "small"}))
    with pytest.raises(ValueError, match=r"small.json is no policy configuration .*; write it with export_policy"):
        load_policy("small", shipped)
    (shipped / "small.json").write_text("{")
    with pytest.raises(ValueError, match=r"small.json is no JSON"):
        load_policy("small", shipped)
