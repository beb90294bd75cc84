"""Plans in files, and what is refused."""

import dataclasses
import json

import pytest

import pcm_jax as pcm
from pcm_jax.tuning.search import search
from tests.tuning.fake import FakeMeter

pytestmark = pytest.mark.fast

PLANS = {
    "parallel": search(FakeMeter(batch=4), None),
    "sequential": search(FakeMeter(overhead=0.0, throughput=1e3), None),
    "small calls": search(FakeMeter(batch=4), 1100),
}


@pytest.mark.parametrize("name", PLANS)
def test_round_trip(tmp_path, name):
    PLANS[name].save(tmp_path / "plan.json")
    found = pcm.Plan.load(tmp_path / "plan.json")
    assert found == PLANS[name]
    assert found.cost == PLANS[name].cost and found.options == PLANS[name].options
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def broken(key, value):
    content = {"kind": "pcm_jax plan"} | json.loads(json.dumps(dataclasses.asdict(PLANS["parallel"])))
    if value is KeyError:
        del content[key]
    else:
        content[key] = value
    return content


RUN = json.loads(json.dumps(dataclasses.asdict(PLANS["parallel"].runs[0])))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("kind", "a letter", "no plan: its key 'kind'"),
        ("kind", KeyError, "no plan: its key 'kind'"),
        ("window", KeyError, "lacks the key 'window'"),
        ("speed", 3, "unknown key 'speed'"),
        ("window", 2.5, "key 'window' must be a whole number"),
        ("window", True, "key 'window' must be a whole number"),
        ("window", 101, "key 'window' is 101 of 100 steps"),
        ("steps", 0, "key 'steps' must be a whole number"),
        ("sequential", "no", "key 'sequential' must be true or false"),
        ("seconds", -1.0, "key 'seconds' must be a number above 0"),
        ("subject", "song", "key 'subject' must be 'sample' or 'scan'"),
        ("rows", [], "key 'rows' must hold at least one pair"),
        ("rows", [[4, 1.0], [2, 1.0]], "key 'rows' must hold at least one pair, of ascending"),
        ("rows", [[1]], "key 'rows' must hold pairs"),
        ("runs", [3], "key 'runs' an entry must be an object"),
        ("runs", [RUN | {"rounds": "six"}], "key 'runs' an entry: the key 'rounds' must be a number above 0"),
        ("runs", 3, "key 'runs' must be a list"),
    ],
)
def test_a_file_that_is_no_plan_names_itself_and_the_key(tmp_path, key, value, message):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(broken(key, value)))
    with pytest.raises(ValueError, match=message) as error:
        pcm.Plan.load(path)
    assert "mine.json" in str(error.value)


@pytest.mark.parametrize("content", ["", "[1, 2]", "{", "null"])
def test_a_file_that_is_no_json_object(tmp_path, content):
    (tmp_path / "mine.json").write_text(content)
    with pytest.raises(ValueError, match=r"mine\.json"):
        pcm.Plan.load(tmp_path / "mine.json")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"there is no plan .*none\.json"):
        pcm.Plan.load(tmp_path / "none.json")


@pytest.mark.parametrize("name", PLANS)
def test_plots(tmp_path, name):
    figure = PLANS[name].plot(tmp_path / "plan.png")
    left, right = figure.axes
    assert (tmp_path / "plan.png").read_bytes().startswith(b"\x89PNG")
    assert left.get_xlabel() == "window" and right.get_xlabel() == "network rows"
    _, seconds = right.get_lines()[0].get_data()
    assert list(seconds) == [1e3 * each for _, each in PLANS[name].rows]


def test_without_matplotlib_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        PLANS["parallel"].plot()
