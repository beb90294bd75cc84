"""No committed table says CONVERGED of a sample that is further off than its tolerance."""

import json

import numpy as np
import pytest

from experiments.common.figures import RESULTS

pytestmark = pytest.mark.fast
SLACK = 1e-5
"""Of float32 numbers that are compared."""


def converged_rows(content, tol=None, where=""):
    """(place, row, its tolerance) of every object that says CONVERGED and nothing else; a row's own tol comes first."""
    if isinstance(content, dict):
        tol = content.get("tol", content.get("config", {}).get("tol", tol) if where == "" else tol)
        if content.get("result") == "CONVERGED":
            yield where, content, tol
        for name, entry in content.items():
            yield from converged_rows(entry, tol, f"{where}/{name}")
    elif isinstance(content, list):
        for index, entry in enumerate(content):
            yield from converged_rows(entry, tol, f"{where}/{index}")


def error_of(row):
    """RMS error of the worst sample if it is there, else of all samples; of a curve its last point."""
    for name in ("worst_error", "rms_error"):
        if row.get(name) is not None:
            return row[name]
    curve = row.get("error")
    return curve[-1] if isinstance(curve, list) and curve and np.isscalar(curve[-1]) else None


def too_far(content):
    """(rows judged, those further off than their tolerance)."""
    judged = [(where, error_of(row), tol) for where, row, tol in converged_rows(content) if tol is not None]
    judged = [line for line in judged if line[1] is not None]
    return len(judged), [line for line in judged if not line[1] <= line[2] + SLACK]


FILES = sorted(path for path in RESULTS.glob("*.json"))
TABLES = {"bench_sweep": 300, "demo": 14, "pcm_study_digits": 24, "pcm_study_fashion": 10}
"""Results that hold such rows, and at least how many."""


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_what_is_called_converged_is_as_near_as_its_tolerance(path):
    judged, wrong = too_far(json.loads(path.read_text()))
    assert not wrong, f"{path.name}: {wrong[:3]}"
    assert judged >= TABLES.get(path.stem, 0)


def test_every_table_is_there():
    assert TABLES.keys() <= {path.stem for path in FILES}


def test_the_coverage_study_has_no_sample_over_its_tolerance():
    cells = json.loads((RESULTS / "coverage_shipped.json").read_text())["cells"]
    assert len(cells) > 100
    over = [cell for cell in cells if cell["over"] or not (cell["worst_error_over_tol"] or 0.0) <= 1.0]
    assert not over, over[:3]


def test_a_row_that_lies_is_found():
    row = {"result": "CONVERGED", "rms_error": 1e-3, "worst_error": 2e-2, "max_difference": 0.1}
    assert too_far({"config": {"tol": 1e-2}, "rows": [row]}) == (1, [("/rows/0", 2e-2, 1e-2)])
    assert too_far({"config": {"tol": 1e-2}, "rows": [row | {"tol": 0.1}]}) == (1, [])
    assert too_far({"config": {"tol": 1e-2}, "rows": [row | {"result": "MAX_ROUNDS"}]}) == (0, [])
    assert too_far({"tol": 1e-2, "cells": [{"result": "CONVERGED", "error": [0.5, 0.011]}]})[1]
    assert too_far({"tol": 1e-2, "cells": [{"result": "CONVERGED", "error": [0.5, float("nan")]}]})[1]
