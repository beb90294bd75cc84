"""The tracked tree stays small, what ships is bfloat16, and the command that says so."""

import io
import json
import shutil

import jax
import pytest
from rich.console import Console

from experiments.common.figures import RESULTS, ROOT, STORAGE
from experiments.models import storage
from pcm_jax import pretrained
from pcm_jax.pretrained import ADAPTERS, FOLDERS, POLICIES, PRIORS, WEIGHTS

LIMIT = 48
QUIET = Console(file=io.StringIO())
BESIDE = {WEIGHTS: set(), FOLDERS: set(), POLICIES: {"F32"}, PRIORS: {"F32"}, ADAPTERS: {"F32", "I32"}}
"""What else a file may hold: ranges of normalisers, variances of priors, tables of switches, rows of previews."""
SHIPPED = [path for folder in BESIDE for path in sorted(folder.rglob("*.safetensors"))]


@pytest.mark.fast
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="an unpacked archive has no tracked tree")
def test_the_tracked_tree_is_small():
    sizes = storage.tracked()
    assert sum(sizes.values()) / storage.MIB <= LIMIT
    assert len(sizes) > 200 and set(storage.numbers(ROOT / "pcm_jax/pretrained/weights/digits.safetensors")) == {"BF16"}


def test_outside_a_checkout(tmp_path):
    with pytest.raises(ValueError, match="is no git checkout"):
        storage.tracked(tmp_path)


@pytest.mark.fast
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(WEIGHTS.parent)))
def test_every_shipped_weight_is_bfloat16(path):
    found = storage.numbers(path)
    half = found.pop("BF16")
    allowed = next(extra for folder, extra in BESIDE.items() if folder in path.parents)
    assert set(found) <= allowed and sum(found.values()) < 0.05 * half


def test_the_cost_is_small():
    """Of every model that was float32 once, from the results: half a percent of the loss, a few percent of a sample."""
    result = json.loads((RESULTS / "storage.json").read_text())
    shipped = {str(path.relative_to(ROOT)) for path in SHIPPED}
    assert set(result["weights"]) == shipped, f"the list is stale; write it again: {storage.COMMAND}"
    for name, cost in result["cost"].items():
        if "float32_heldout_loss" in cost:
            assert cost["stored_heldout_loss"] < 1.005 * cost["float32_heldout_loss"], name
        if "float32_error" in cost:
            for stored, whole in zip(cost["stored_error"], cost["float32_error"], strict=True):
                assert stored < 1.05 * whole + 1e-3, name
        assert cost.get("sample_difference", 0.0) < 0.05, name


@pytest.mark.slow
def test_what_rounding_changes_is_measured(tmp_path, monkeypatch):
    before, now = tmp_path / "before", tmp_path / "now"
    for folder in ("weights", "policies", "adapters", "folders"):
        (before / folder).mkdir(parents=True)
    now.mkdir()
    digits = pretrained.load("digits")
    exact = jax.tree.map(lambda leaf: 1.0001 * leaf, digits.params)
    pretrained.export(exact, digits.config, digits.card, before / "weights")
    pretrained.export(exact, digits.config, digits.card, now, storage=STORAGE)
    for name in ("WEIGHTS", "POLICIES", "ADAPTERS", "FOLDERS"):
        monkeypatch.setattr(pretrained, name, now if name == "WEIGHTS" else tmp_path / "none")
    monkeypatch.setattr(pretrained, "load", lambda name, where=now: load(name, where))
    load = pretrained.models.load
    monkeypatch.setattr(storage, "load_source", lambda *_: (_ for _ in ()).throw(ValueError("no data")))
    config = storage.Config(noises=3, results=tmp_path)
    cost = storage.measure(before, config, QUIET)
    assert set(cost) == {"digits"} and set(cost["digits"]) == {"sample_difference"}
    assert 1e-5 < cost["digits"]["sample_difference"] < 0.05
    shutil.rmtree(before / "weights")
    (before / "weights").mkdir()
    assert storage.measure(before, config, QUIET) == {}


def test_the_figure_is_recorded_and_what_was_measured_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "tracked", lambda: {"pcm_jax/pretrained/weights/digits.safetensors": 3 * 2**20})
    wheel = tmp_path / "a.whl"
    wheel.write_bytes(b"1" * 2_000_000)
    monkeypatch.setattr(storage, "build_wheel", lambda folder: wheel)
    (tmp_path / "storage.json").write_text(json.dumps({"cost": {"digits": {"sample_difference": 0.01}}}))
    outcome = storage.run(storage.Config(results=tmp_path), QUIET)
    assert outcome["cost"]["digits"] == {"sample_difference": 0.01} and outcome["tree_mib"] == 3
    figures = json.loads((tmp_path / "figures.json").read_text())
    figure = figures["tree.mib"]
    assert (
        figures["wheel.mb"]["value"] == outcome["wheel_mb"] == 2
        and figure["value"] == 3
        and figure["command"] == "python -m experiments.models.storage"
    )
