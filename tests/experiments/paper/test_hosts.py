"""Two processes on this machine, as two hosts of a pod would be."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console

from experiments.campaigns import latent as folders
from experiments.common.figures import ROOT
from experiments.paper import hosts, images
from experiments.paper.config import LDMCelebA
from pcm_jax.metrics import Moments


@pytest.mark.slow
def test_two_hosts_find_what_one_does(tmp_path):
    model, data = folders.pipeline(tmp_path / "ldm"), folders.pictures(tmp_path / "data")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    pod = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tests.experiments.paper.one_host", str(model), str(data), str(tmp_path / "pod")]
    (tmp_path / "pod").mkdir()
    runs = [
        subprocess.Popen(
            command, cwd=ROOT, env=os.environ | pod | {"JAX_PROCESS_ID": str(number)}, stderr=subprocess.PIPE
        )
        for number in range(2)
    ]
    ends = [run.communicate(timeout=500)[1].decode() for run in runs]
    assert [run.returncode for run in runs] == [0, 0], "\n".join(ends)
    both = [json.loads((tmp_path / "pod" / f"found_{number}.json").read_text()) for number in range(2)]
    assert [one["hosts"] for one in both] == [2, 2] and [one["writer"] for one in both] == [True, False]
    assert both[0]["fd"] == both[1]["fd"] and both[0]["grid"] and not both[1]["grid"]
    alone = LDMCelebA(model=model, data=str(data), out=tmp_path / "alone", full=False, **folders.tiny())
    found = images.run(alone, Console(quiet=True), folders.few)["fd"]
    for name, curve in found.items():
        np.testing.assert_allclose(both[0]["fd"][name], curve, rtol=1e-4)


@pytest.mark.fast
def test_a_host_takes_every_nth_batch_and_sums_are_merged(monkeypatch):
    monkeypatch.setattr(hosts.jax, "process_count", lambda: 3)
    monkeypatch.setattr(hosts.jax, "process_index", lambda: 1)
    assert list(hosts.mine(range(0, 80, 10))) == [10, 40, 70] and not hosts.writer()
    # What the other two hosts have: nothing, and the same as this one.
    features = np.random.default_rng(0).normal(size=(6, 3))
    own = Moments.of(features)

    def everyone(mine):
        return np.stack([np.zeros_like(mine), mine, mine])

    monkeypatch.setattr(hosts, "_gathered", everyone)
    (whole,) = hosts.merged([own])
    twice = Moments.of(np.concatenate([features, features]))
    assert whole.count == 12
    np.testing.assert_allclose(whole.mean, twice.mean)
    np.testing.assert_allclose(whole.scatter, twice.scatter)


@pytest.mark.fast
def test_more_hosts_than_batches(monkeypatch, tmp_path):
    monkeypatch.setattr(images.jax, "process_count", lambda: 9)
    config = LDMCelebA(out=tmp_path, samples=64, batch=32)
    with pytest.raises(ValueError, match="there are 9 hosts and fewer batches; lower --batch"):
        images.run(config, Console(quiet=True))
