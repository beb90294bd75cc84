"""Fine-tuning, study and ablation as commands, on a few noises and steps."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from experiments.pcm import ablation, train
from experiments.pcm import study as pcm_study
from experiments.site import readme

CONSOLE = Console(file=io.StringIO(), width=160)


@pytest.fixture
def written(monkeypatch, tmp_path):
    """What would have gone to experiments/results."""
    found = {"records": {}}

    def result(name, payload, **about):
        found[name] = payload | {"config": vars(about["config"]), "device": "cpu", "command": about["command"]}

    for module in (pcm_study, ablation):
        monkeypatch.setattr(module, "write_result", result)
        monkeypatch.setattr(module, "record", lambda name, value, **_: found["records"].update({name: value}))
    monkeypatch.setattr(pcm_study, "RESULTS", tmp_path)
    return found


@pytest.mark.fast
def test_the_command_on_the_card_makes_the_adapter_again():
    assert train.Train().command == "python -m experiments.pcm train --model digits --solver DDIM-50"
    other = train.Train(model="fashion", phases=(40, 120), learning_rate=1e-3, ship=False)
    assert other.command.endswith("--model fashion --solver DDIM-50 --phases 40 120 --learning-rate 0.001")
    assert other.name == "fashion-ddim50"


@pytest.mark.slow
def test_training_goes_on_where_it_was_and_counts_its_cost(tmp_path):
    config = train.Train(phases=(3,), solved=200, heldout=200, batch_size=2, rows=2, rank=2, out=tmp_path, ship=False)
    first = train.run_train(config, CONSOLE)
    # 4 solutions to train on and one solved again as a check, 3 steps of 2 trajectories with 2 rows, 4 + 4 held out,
    # 3 rounds of the evaluation curve, 4 rounds for the previews of two slopes, and the calibrations.
    calibrations = sum(calibration.evaluations for calibration in first["calibration"].values())
    assert first["evaluations"] == 250 + 3 * 2 * 2 * 3 + 400 + (3 + 2 * 4) * 4 * 50 + calibrations
    assert first["share_of_base_training"] == first["evaluations"] / train.base_evaluations("digits")
    again = train.run_train(config, CONSOLE)
    for name in ("secant", "identity"):
        np.testing.assert_array_equal(first["calibration"][name].error, again["calibration"][name].error)


@pytest.mark.slow
def test_study(written, tmp_path):
    config = pcm_study.Study(
        solvers=("DDIM-50",), noises=3, seeds=(0,), batch=2, windows=(16,), early=4, out=tmp_path / "cells"
    )
    payload = pcm_study.run_study(config, CONSOLE)
    numbers = payload["summary"]["DDIM-50"]
    assert numbers["error"]["PCM + secant"][1] < 0.6 * numbers["error"]["Picard + secant"][1]
    for cell in payload["cells"]:
        early = cell["method"] in pcm_study.PREVIEWS
        assert "MAX_ROUNDS" in cell["result"] if early else cell["result"] == "CONVERGED"
        assert early or cell["max_difference"] < 0.05
    # The trajectory is the same, what is shown of it is nearer.
    assert numbers["error"]["PCM + secant, preview"][1] < 0.9 * numbers["error"]["PCM + secant"][1]
    # The calibrated switch costs no round, in any window.
    assert numbers["figures"]["certified_rounds_ratio_worst"] <= 1.0
    assert set(written["records"]) == {f"digits.ddim50.{name}" for name in numbers["figures"]}
    assert (tmp_path / "pcm_study_digits.png").stat().st_size > 5_000
    assert "| DDIM-50 | PCM + secant |" in readme.pcm_study(written["pcm_study_digits"])
    cells = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    assert len(cells) == 9
    pcm_study.run_study(config, CONSOLE)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()} == cells, "nothing is run again"


@pytest.mark.fast
def test_visual_rounds_are_counted_for_each_sample():
    error = np.array([[1.0, 0.04], [0.2, 0.2], [0.05, 0.01], [0.01, 0.01]])
    assert pcm_study._visual(error, 0.1) == 3.0
    assert pcm_study._visual(error[:, :1], 0.001) == 4.0, "the last round is exact"


@pytest.mark.slow
def test_ablation(written, tmp_path, monkeypatch):
    names = (ablation.DEFAULT, "full fine-tuning", "feature space", "switch always", "the paper's recipe, 6 rounds")
    names += (ablation.FROM_PRIOR, "from the prior, switch never", "from the prior, round 1 from row 40")
    monkeypatch.setattr(ablation, "LINES", {name: ablation.LINES[name] for name in names})
    config = ablation.Ablation(steps=2, noises=2, batch=2, out=tmp_path)
    lines = ablation.run_ablation(config, CONSOLE)
    assert list(lines) == list(names)
    assert lines["switch always"]["rounds"] is None and lines["switch always"]["converged"] == 0.0
    assert lines[ablation.DEFAULT]["rounds"] > 5
    np.testing.assert_allclose(lines["feature space"]["error"], lines[ablation.DEFAULT]["error"], atol=1e-3)
    assert lines["full fine-tuning"]["parameters"] > 2 * lines[ablation.DEFAULT]["parameters"]
    assert json.loads((tmp_path / "feature_space.json").read_text())["outcome"] == lines["feature space"]
    assert lines["from the prior, switch never"]["rounds"] < lines[ablation.DEFAULT]["rounds"]
    assert written["records"]["digits.ddim50.rounds.pcm_over_secant"] > 0.8
    assert "| switch always |" in readme.ablation(written["pcm_ablation"])
