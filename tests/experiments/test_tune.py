"""A plan that is shown, and the study of what plans lose: its figure, and that it goes on where it was stopped."""

import dataclasses
import json

import pytest

import pcm_jax as pcm
from experiments.models.cases import case
from experiments.tune import __main__ as tune
from experiments.tune import study as tune_study
from pcm_jax.tuning.search import search
from tests.tuning.fake import FakeMeter


@pytest.mark.slow
def test_a_plan_is_shown_and_written(tmp_path):
    plan = tune.main(tune.Config(model="digits", seconds=0.1, out=tmp_path))
    assert pcm.Plan.load(tmp_path / "digits_1.json") == plan and plan.steps == 50
    assert (tmp_path / "digits_1.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.fast
def test_the_table_has_every_measurement():
    plan = search(FakeMeter(batch=4), None)
    table = tune.show(plan, "")
    assert table.row_count == len(plan.rows) + 1 + len(plan.runs) + 1


@pytest.mark.fast
def test_the_study_records_the_worst_and_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    losses = {("digits", 1): 1.0, ("digits", 4): 1.04}
    asked = []

    def measure(config, model, batch):
        asked.append((model, batch))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return {"model": model, "batch": batch, "loss": losses[model, batch], "advice": ""}

    monkeypatch.setattr(tune_study, "measure", measure)
    config = tune_study.Config(("digits",), (1, 4), out=tmp_path / "out", results=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        tune_study.main(config)
    assert not (tmp_path / "figures.json").exists()
    tune_study.main(config)
    assert asked == [("digits", 1), ("digits", 4), ("digits", 4)], "the first cell is kept"
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["tune.worst_loss"]["value"] == 1.04
    assert len(json.loads((tmp_path / "tune_study.json").read_text())["cells"]) == 2


@pytest.mark.slow
def test_the_study_times_the_choice_beside_the_others():
    subject = case("digits", batch=1)
    base = search(FakeMeter(steps=50), None)
    parallel = dataclasses.replace(base, sequential=False, window=10, microbatch=None, sequential_seconds=1.0)
    seconds, ended = tune_study.compare(subject, parallel, {"tol": 1e-2, "prior": subject.prior}, repeats=1)
    assert seconds.keys() == {"sequential", "full window", "plan"} and all(each > 0 for each in seconds.values())
    assert ended, "1 s of 1 ms calls is more than all rounds"


@pytest.mark.fast
def test_unknown_cases():
    with pytest.raises(ValueError, match="there is no case 'cats'; choose one of digits, fashion"):
        case("cats", batch=1)
