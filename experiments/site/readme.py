"""Tables of README.md and of docs/, generated: what stands between `<!-- begin:NAME -->` and its end comes from JSON.

    python -m experiments.site.readme            # write
    python -m experiments.site.readme --check    # exit 1 when a file is stale

To add a table, add a renderer to RENDERERS and the two markers `<!-- begin:NAME -->` and `<!-- end:NAME -->` to a page.
`NAME.PART` is another view of `NAME.json`; `api.ROOM` lists the public names of a room of the package.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tyro

from experiments.common.figures import RESULTS, ROOT
from experiments.site import public, tables
from experiments.site.tables import cell as _cell
from experiments.site.tables import number as _number
from experiments.site.tables import table as _table
from pcm_jax.files import write_text

_BLOCK = re.compile(
    r"(?P<begin><!-- begin:(?P<name>[\w.]+) -->\n)(?P<body>.*?)(?P<end><!-- end:(?P=name) -->)", re.DOTALL
)
_MARKER = re.compile(r"<!-- (?:begin|end):[\w.]+ -->")


def demo(result: Mapping[str, Any]) -> str:
    """The demo's rows, and where they were measured."""
    columns: dict[str, tuple[str, Callable[[Any], str]]] = {
        "solver": ("solver", str),
        "method": ("method", str),
        "rounds": ("rounds", _number),
        "rounds_mean": ("mean", lambda value: f"{value:.1f}"),
        "evaluations": ("evaluations", _number),
        "speedup": ("fewer calls in a row", lambda value: f"{value:.1f}x"),
        "seconds": ("seconds here", _number),
        "worst_error": ("RMS error (worst)", lambda value: f"{value:.1e}" if value else "0"),
        "error_bound": ("bound", lambda value: f"{value:.1e}" if value else "0"),
        "result": ("result", str),
    }
    rows = [[_cell(row[key], show) for key, (_, show) in columns.items()] for row in result["rows"]]
    table = _table([title for title, _ in columns.values()], rows, numeric=range(2, 9))
    return f"{table}\n\n{result['device']}, commit {result['commit']}.\n"


def coverage(result: Mapping[str, Any]) -> str:
    """A line for each model, solver and method: rounds at every tolerance, and how far the worst sample was off."""
    cells = [cell for cell in result["cells"] if cell["window"] is None]
    tolerances = list(dict.fromkeys(cell["tol"] for cell in cells))
    lines: dict[tuple[str, str, str], dict[float, Mapping[str, Any]]] = {}
    for cell in cells:
        lines.setdefault((cell["model"], cell["solver"], cell["method"]), {})[cell["tol"]] = cell
    rows = [
        [
            *key,
            *(f"{found[tol]['rounds']:.2f}" for tol in tolerances),
            f"{max(cell['worst_error_over_tol'] for cell in found.values()):.2f}",
        ]
        for key, found in lines.items()
    ]
    titles = ["model", "solver", "method", *(f"tol {tol:g}" for tol in tolerances), "worst error / tol"]
    whole = result["summary"]
    about = f"All rows in the window. {whole['certified']:,} of {whole['samples']:,} samples certified, windows of 16 "
    about += f"rows included; {whole['over']:.2%} further off than tol; the bound is "
    about += f"{whole['median_bound_over_error']:.1f} times the error in the median. {result['device']}."
    return f"{_table(titles, rows, numeric=range(3, 9))}\n\n{about}\n"


def bench_solvers(result: Mapping[str, Any]) -> str:
    """A line for each solver: its network calls one after the other, and the rounds of each way to solve it."""
    ways = list(dict.fromkeys(row["way"] for row in result["rows"]))
    found = {(row["solver"], row["way"]): row for row in result["rows"]}
    lines = [
        [name, str(found[name, ways[0]]["steps"]), *(f"{found[name, way]['rounds_mean']:.1f}" for way in ways)]
        for name in dict.fromkeys(row["solver"] for row in result["rows"])
    ]
    table = _table(["solver", "calls", *ways], lines, numeric=range(1, 2 + len(ways)))
    return f"{table}\n\nMean rounds of {result['config']['batch']} samples, {result['device']}.\n"


def figures(result: Mapping[str, Any]) -> str:
    """Every headline number."""
    rows = [
        [f"`{name}`", _cell(figure["value"], _number), figure["device"], f"`{figure['command']}`", figure["commit"]]
        for name, figure in result.items()
    ]
    return _table(["figure", "value", "device", "command", "commit"], rows, numeric=[1]) + "\n"


def pcm_study(result: Mapping[str, Any]) -> str:
    """Error after the first rounds, and rounds, of every method."""
    titles = ["solver", "method", *(f"round {k}" for k in range(1, 7)), "visually exact", "certified"]
    rows = []
    for solver, numbers in result["summary"].items():
        for method, curve in numbers["error"].items():
            errors = [f"{error:.3f}" for error in (curve + 6 * [curve[-1]])[:6]]
            certified = numbers["rounds"].get(method)
            ends = [f"{numbers['visual'][method]:.2f}", "" if certified is None else f"{certified:.2f}"]
            rows.append([solver, method, *errors, *ends])
    config = result["config"]
    noises = f"{len(config['seeds'])} seeds of {config['noises']} noises"
    return f"{_table(titles, rows, numeric=range(2, 10))}\n\n{config['model']}, {noises}, {result['device']}.\n"


def fd(result: Mapping[str, Any]) -> str:
    """FD after every round."""
    values = result["fd"]
    count = max(map(len, values.values()))
    rows = []
    for method, curve in values.items():
        # The sequential sampler has one value, and stands where the others end.
        empty = [""] * (count - len(curve))
        cells = [f"{value:.0f}" for value in curve]
        rows.append([method, *([*empty, *cells] if method == "sequential" else [*cells, *empty])])
    config = result["config"]
    about = f"{config['solver']}, {config['samples']} samples, {result['images']} real images, {result['device']}."
    titles = ["method", *(f"round {k}" for k in range(1, count + 1))]
    return f"{_table(titles, rows, numeric=range(1, count + 1))}\n\n{about}\n"


def ablation(result: Mapping[str, Any]) -> str:
    """A line for each variant."""
    titles = ["", "parameters", "evaluations", "borders", *(f"round {k}" for k in range(1, 7)), "certified"]
    rows = [
        [name, f"{line['parameters']:,}", f"{line['evaluations']:,.0f}", ", ".join(map(str, line["borders"]))]
        + [f"{error:.3f}" for error in line["error"][:6]]
        + [f"{line['rounds']:.2f}" if line["rounds"] else f"{line['converged']:.0%} of the samples"]
        for name, line in result["lines"].items()
    ]
    return _table(titles, rows, numeric=range(1, 11)) + "\n"


def paper_images(result: Mapping[str, Any]) -> str:
    """FD after every round, and what a sample takes where it is as good as the sequential one."""
    count = max(map(len, result["fd"].values()))
    titles = ["method", *(f"round {k}" for k in range(1, count + 1)), "as good after", "latency / sequential"]
    rows = []
    for method, curve in result["fd"].items():
        at, cost = result["parity"].get(method), result["latency"].get(method)
        ends = ["" if at is None else f"{at} rounds", "" if cost is None else f"{cost['over_sequential']:.2f}"]
        rows.append([method, *(f"{value:.0f}" for value in curve), *ends])
    config = result["config"]
    about = f"{config['model']}, {config['steps']} steps, {config['samples']} samples, {result['metric']} to "
    about += f"{result['reference']}; the sequential sampler ends at {result['sequential']:.0f}. {result['device']}."
    return f"{_table(titles, rows, numeric=range(1, count + 3))}\n\n{about}\n"


def peers(result: Mapping[str, Any]) -> str:
    """A line for each method, a column for each model and sampler."""
    cells = {(cell["model"], cell["solver"], cell["method"]): cell for cell in result["cells"]}
    settings = list(dict.fromkeys(key[:2] for key in cells))
    methods = dict.fromkeys(key[2] for key in cells)
    rows = [[name, *(_reached(cells.get((*setting, name))) for setting in settings)] for name in methods]
    titles = ["method", *(" ".join(setting) for setting in settings)]
    counts = {
        setting: max(cell["samples"] for key, cell in cells.items() if key[:2] == setting) for setting in settings
    }
    fewer = {key[2]: cell["samples"] for key, cell in cells.items() if cell["samples"] < counts[key[:2]]}
    samples = ", ".join(f"{count} samples of {' '.join(setting)}" for setting, count in counts.items())
    samples += "".join(f"; {name} on the first {count} of them" for name, count in fewer.items())
    return f"{_table(titles, rows, numeric=range(1, len(titles)))}\n\n{samples}, seed {result['config']['seed']}.\n"


def _reached(cell: Mapping[str, Any] | None) -> str:
    """Calls to each error, and evaluations to the middle one; the last error of a method that has but one estimate."""
    if cell is None:
        return ""
    if len(cell["calls"]) == 1:
        return f"off by {cell['error'][0]:.3f}"
    means = ["-" if at["calls"] is None else f"{at['calls']:.1f}" for at in cell["reached"].values()]
    rows = cell["reached"]["0.01"]["evaluations"]
    return " / ".join(means) + ("" if rows is None else f" ({rows:,.0f})")


def recipes(result: Mapping[str, Any]) -> str:
    """Every loop of the recipes."""
    rows = [
        [
            each["name"],
            str(each["steps"]),
            f"{each['rounds']:.1f}",
            f"{each['bound']:.1e}",
            f"{each['error']:.1e}",
            f"{each['converged']:.0%}",
        ]
        for each in result["recipes"]
    ]
    titles = ["loop", "steps", "rounds", "bound", "RMS error (worst)", "certified"]
    table = _table(titles, rows, numeric=range(1, len(titles)))
    return f"{table}\n\nMean rounds at a tolerance of {result['recipes'][0]['tol']:g}.\n"


def accelerator(result: Mapping[str, Any]) -> str | None:
    """Seconds of the sequential sampler, and times faster of every method. None for a run without an accelerator."""
    if result["platform"] not in ("gpu", "tpu"):
        return None
    methods = ("Picard", "secant", "secant + prior", "PCM", "tuned")
    cells: dict[tuple[str, str, int], dict[str, Mapping[str, Any]]] = {}
    for row in (row for part in ("samplers", "tuned") for row in result["parts"].get(part, ())):
        cells.setdefault((row["model"], row["solver"], row["batch"]), {})[row["method"]] = row
    rows = []
    for (model, solver, batch), found in cells.items():
        base = found.get("sequential")
        line = [model, solver, str(batch), f"{1e3 * base['seconds']:.1f}" if base else ""]
        for method in methods:
            each = found.get(method)
            # A dash: not every sample was certified.
            line.append("" if each is None else f"{each['speedup']:.1f}x" if each["certified"] == 1 else "-")
        rows.append(line)
    titles = ["model", "solver", "batch", "sequential, ms", *methods]
    about = f"Times faster than the sequential sampler of the same program, {result['device']}, commit "
    about += f"{result['commit']}, {result['took']:.0f} s in all"
    left_out = len(result["skipped"]) + len(result["failed"])
    about += f"; {left_out} measurements were left out and are named in the JSON." if left_out else "."
    return f"{_table(titles, rows, numeric=range(2, 9))}\n\n{about}\n"


RENDERERS: dict[str, Callable[[Mapping[str, Any]], str | None]] = {
    "accelerator": accelerator,
    "demo": demo,
    "coverage_shipped": coverage,
    "bench_solvers": bench_solvers,
    "figures": figures,
    "pcm_study_digits": pcm_study,
    "pcm_study_fashion": pcm_study,
    "fd_fashion": fd,
    "fd_emoji32": fd,
    "paper_ldm_celeba": paper_images,
    "pcm_ablation": ablation,
    "peers": peers,
    "recipes": recipes,
    **tables.RENDERERS,
}
"""NAME -> what makes block NAME from the JSON called as NAME is up to its first dot; None leaves it as it is."""


def pages(root: Path = ROOT) -> list[Path]:
    """The files that may hold blocks."""
    return [root / "README.md", *sorted(path for path in (root / "docs").rglob("*.md") if "_build" not in path.parts)]


def render(text: str, results: Path = RESULTS) -> str:
    """`text` with every block written anew; a block whose JSON does not exist yet stays as it is.

    Raises:
        ValueError: a block without a renderer, or a marker without its partner.
    """

    def block(match: re.Match[str]) -> str:
        name = match["name"]
        if name.startswith("api."):
            return match["begin"] + public.reference(name.removeprefix("api.")) + match["end"]
        if name not in RENDERERS:
            raise ValueError(f"block {name!r} has no renderer; known: {', '.join(sorted(RENDERERS))}")
        source = results / f"{name.split('.')[0]}.json"
        body = RENDERERS[name](json.loads(source.read_text())) if source.exists() else None
        return match["begin"] + (match["body"] if body is None else body) + match["end"]

    stray = _MARKER.findall(_BLOCK.sub("", text))
    if stray:
        raise ValueError(f"{stray[0]} has no partner; a block is <!-- begin:NAME --> on a line, then <!-- end:NAME -->")
    return _BLOCK.sub(block, text)


def main(check: bool = False, files: Sequence[Path] = (), results: Path = RESULTS) -> None:
    """Write the tables of README and docs anew from experiments/results.

    Args:
        check: write nothing; exit 1 when a table is stale.
        files: only these.
        results: the folder with the JSON.
    """
    stale = []
    for file in files or pages():
        old = file.read_text()
        new = render(old, results)
        if new == old:
            continue
        stale.append(file.name)
        if not check:
            write_text(file, new)
    if check and stale:
        sys.exit(f"{', '.join(stale)} is stale: run python -m experiments.site.readme")


if __name__ == "__main__":
    tyro.cli(main)
