"""The choice of preview rows by KID, on a few digits with features of three numbers."""

import io
import json
import shutil

import numpy as np
import pytest
from rich.console import Console

from experiments.common.figures import RESULTS
from experiments.pcm import fd_study, previews
from experiments.pcm.previews import Previews, run_previews
from pcm_jax.pretrained import ADAPTERS, available_adapters, load, load_adapter
from tests.experiments.test_fd_study import few

CONSOLE = Console(file=io.StringIO())


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture
def written(monkeypatch, tmp_path):
    """In place of the package's files and experiments/results."""
    shutil.copy(RESULTS / "pcm_digits_ddim50.json", tmp_path)
    for module in (previews, fd_study):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr(previews, "ADAPTERS", tmp_path)
    write = previews.write_result
    monkeypatch.setattr(previews, "write_result", lambda *args, **how: write(*args, **how, results=tmp_path))
    return tmp_path


@pytest.mark.slow
def test_rows_go_into_the_adapter_its_card_and_the_study(written, digits):
    config = Previews("digits", "DDIM-50", noises=6, rounds=2, every=10)
    outcome = run_previews(config, CONSOLE, few)
    before, after = load_adapter("digits-ddim50", digits), load_adapter("digits-ddim50", digits, written)
    rows = outcome["rows"]["PCM + secant"]
    assert after.previews["secant"] == rows and after.previews["identity"] == before.previews["identity"]
    assert after.about == before.about
    np.testing.assert_array_equal(after.tables["secant"], before.tables["secant"])
    assert outcome["candidates"] == (9, 19, 29, 39, 49, 50) and len(rows) == 3 and rows[-1] == 50
    for method, kid in outcome["kid"].items():
        assert kid.shape == (2, 6)
        assert outcome["rows"][method][:2] == tuple(outcome["candidates"][best] for best in kid.argmin(axis=1))
    card = (written / "digits-ddim50.md").read_text()
    assert f"secant {', '.join(map(str, rows))}; identity" in card and f"`{config.command}`" in card
    assert list(outcome["rows"]) == ["Picard + secant", "secant + prior", "PCM + secant"]
    assert (outcome["kid"]["secant + prior"][0] != outcome["kid"]["Picard + secant"][0]).all()
    for method in ("Picard + secant", "secant + prior"):
        assert fd_study.base_rows("digits", "DDIM-50", method) == outcome["rows"][method]
    assert fd_study.base_rows("digits", "DDIM-100", "secant + prior") is None
    result = json.loads((written / "pcm_previews_digits_ddim50.json").read_text())
    assert result["command"] == config.command and result["config"]["noises"] == 6


@pytest.mark.fast
def test_the_command_names_what_differs_from_the_default():
    assert Previews().command == "python -m experiments.pcm previews --model emoji32 --solver DDIM-100"
    assert Previews(noises=8).command.endswith("--noises 8")


CHOSEN = [name for name in available_adapters() if (RESULTS / f"{fd_study.previews_name(name)}.json").exists()]


@pytest.mark.fast
@pytest.mark.parametrize("name", CHOSEN)
def test_the_shipped_rows_are_those_of_the_study(name):
    result = json.loads((RESULTS / f"{fd_study.previews_name(name)}.json").read_text())
    shipped = load_adapter(name, load(name.split("-")[0]))
    assert tuple(result["rows"]["PCM + secant"]) == shipped.preview
    assert result["command"] in (ADAPTERS / f"{name}.md").read_text()
