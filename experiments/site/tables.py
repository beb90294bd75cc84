"""Tables of the documentation's pages, and the three helpers that every table is made with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

FEW = ("sequential", "Picard", "Picard + secant", "secant + prior")


def table(titles: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[int]) -> str:
    """Markdown; `numeric` columns are set to the right."""
    rule = ["---:" if column in numeric else "---" for column in range(len(titles))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (titles, rule, *rows))


def cell(value: Any, show: Callable[[Any], str]) -> str:
    """Empty for what was not measured."""
    return "" if value is None else show(value).replace("|", "\\|")


def number(value: Any) -> str:
    """Three digits of a float, all of an int."""
    return f"{value:.3g}" if isinstance(value, float) and not value.is_integer() else str(value).removesuffix(".0")


def source(result: Mapping[str, Any]) -> str:
    """How a result was made."""
    return f"`{result['command']}`, {result['device']}, commit {result['commit']}."


def demo_short(result: Mapping[str, Any]) -> str:
    """README's one table: rounds, evaluations of one sample, and the worst sample's error beside its bound."""
    images = result["config"]["images"]
    rows = [
        [
            row["solver"],
            row["method"],
            f"{row['rounds_mean']:.1f}",
            f"{row['evaluations'] / images:.0f}",
            f"{row['worst_error']:.4f}",
            f"{row['error_bound']:.4f}",
        ]
        for row in result["rows"]
        if row["method"] in FEW and row["solver"] in ("DDIM-50", "DDPM-100")
    ]
    rows += [
        [
            row["solver"],
            f"fewer steps than {row['instead_of']}",
            f"{row['rounds_mean']:.1f}",
            f"{row['evaluations'] / images:.0f}",
            f"{row['worst_error']:.4f}",
            "none",
        ]
        for row in result.get("few", ())
    ]
    titles = ["sampler", "method", "calls in a row (mean)", "evaluations a sample", "RMS error (worst)", "its bound"]
    about = f"{images} digits, `tol={result['config']['tol']:g}`. {source(result)}"
    return f"{table(titles, rows, numeric=range(2, 6))}\n\n{about}\n"


def overhead(result: Mapping[str, Any]) -> str:
    """A round beside the network's bare call on the same rows."""
    rows = [
        [row["case"], row["slope"], f"{row['call_ms']:.2f}", f"{row['round_ms']:.2f}", f"{row['ratio']:.2f}"]
        for row in result["rows"]
    ]
    titles = ["network", "slope", "call, ms", "round, ms", "round / call"]
    return f"{table(titles, rows, numeric=range(2, 5))}\n\n{source(result)}\n"


def spmd(result: Mapping[str, Any]) -> str:
    """What each device computes, holds and sends, and how far the samples are from one device's."""
    rows = [
        [
            row["executor"],
            str(row["devices"]),
            str(row["window"]),
            f"{row['cost_ratio']:.3f}",
            f"{row['state_ratio']:.3f}",
            str(row["collectives"]),
            f"{sum(row['collective_bytes'].values()):,}",
            f"{row['max_difference']:.1e}",
            "yes" if row["rounds_equal"] else "no",
        ]
        for row in result["rows"]
    ]
    titles = ["executor", "devices", "window", "operations", "states held", "collectives", "bytes sent"]
    titles += ["largest difference", "same rounds"]
    about = (
        "Operations: of all devices together, over one device's. States held: on one device, over one device's alone. "
    )
    about += f"Collectives and bytes sent: of a round. {source(result)}"
    return f"{table(titles, rows, numeric=range(1, 8))}\n\n{about}\n"


def random_networks(result: Mapping[str, Any]) -> str:
    """The record of the bound on networks made to break it, and the samples on which it failed."""
    counts = result["counts"]
    rows = [
        ["samples", f"{counts['samples']:,}"],
        ["certified", f"{counts['certified']:,}"],
        ["certified and further off than `tol`", f"{counts['over']:,} of {counts['judged']:,} judged"],
        ["certified and further off than 3 `tol`", f"{counts['over_3']:,}"],
        ["largest error / tol of a certified sample", f"{result['worst_ratio']:.2f}"],
    ]
    if "median_bound_over_error" in result:  # random scans keep errors, no bounds
        rows.append(["bound / error, median", f"{result['median_bound_over_error']:.1f}"])
    return f"{table(['', ''], rows, numeric=[1])}\n\n{source(result)}\n"


def failures(result: Mapping[str, Any]) -> str:
    """Certified samples that were further off than tol, with what makes them again; the worst first."""
    rows = [
        [
            f"{each['seed']}, {each['index']}, {each['sample']}",
            f"{each['tol']:.1e}",
            f"{each['ratio']:.2f}",
            _named(each["program"]),
            _named(each.get("network", {})),
        ]
        for each in sorted(result["failures"], key=lambda each: -each["ratio"])
    ]
    titles = ["seed, index, sample", "tol", "error / tol", "program", "network"]
    return f"{table(titles, rows, numeric=range(1, 3))}\n"


def _named(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def rounds(result: Mapping[str, Any]) -> str:
    """Under the site's figure: error of the sample and bound after each round, of each method."""
    methods = result["methods"]
    count = max(len(each["rounds"]) for each in methods.values())
    rows = [[name, *(_at(each["rounds"], k) for k in range(count)), each["result"]] for name, each in methods.items()]
    titles = ["method", *(f"round {k}" for k in range(1, count + 1)), "result"]
    about = f"Error of the sample, and in brackets its bound; `tol={result['config']['tol']:g}`. {source(result)}"
    return f"{table(titles, rows, numeric=range(1, count + 1))}\n\n{about}\n"


def _at(after: Sequence[Mapping[str, Any]], k: int) -> str:
    if k >= len(after):
        return ""
    bound = after[k]["bound"]
    return f"{after[k]['error'][-1]:.2g} ({'none' if bound is None else f'{bound:.2g}'})"


def soak(result: Mapping[str, Any]) -> str:
    """Thousands of calls in one process."""
    rows = [
        [
            what,
            f"{result[what]['calls']:,}",
            str(result[what]["compiled"]),
            f"{result[what]['growth_mb']:.2f}",
            str(result["different_in_threads"][what]),
        ]
        for what in ("samples", "decisions")
    ]
    titles = ["", "calls", "compilations after the first call", "memory grown, MB", "different in threads"]
    return f"{table(titles, rows, numeric=range(1, 5))}\n\n{source(result)}\n"


def files(result: Mapping[str, Any]) -> str:
    """Damaged files, read."""
    counts = result["counts"]
    rows = [
        ["damaged files", f"{counts['cases']:,}"],
        ["an error that names the file", f"{counts['named']:,}"],
        ["read all the same: the damage changes nothing that is read", f"{counts['read']:,}"],
        ["any other error", f"{counts['unnamed']:,}"],
    ]
    return f"{table(['', ''], rows, numeric=[1])}\n\n{source(result)}\n"


def kills(result: Mapping[str, Any]) -> str:
    """Runs that were killed and went on."""
    counts = result["counts"]
    rows = [
        ["runs", str(counts["runs"])],
        ["times that one was killed", str(counts["kills"])],
        ["runs that lost work", str(counts["lost"])],
        ["full disks", str(counts["full_disks"])],
        ["of them without a clear error, or not gone on with to the same bits", str(counts["unclean_disks"])],
    ]
    return f"{table(['', ''], rows, numeric=[1])}\n\n{source(result)}\n"


def parity(result: Mapping[str, Any]) -> str:
    """Imported networks beside PyTorch's outputs: the worst output of each kind."""
    worst: dict[str, float] = {}
    for name, error in result["errors"].items():
        kind = name.split("/")[0]
        worst[kind] = max(worst.get(kind, 0.0), error)
    rows = [[f"`{kind}`", f"{error:.1e}"] for kind, error in worst.items()]
    about = ", ".join(f"{name} {version}" for name, version in result["reference"].items())
    return f"{table(['network', 'largest relative error'], rows, numeric=[1])}\n\n{about}. {source(result)}\n"


def schedulers(result: Mapping[str, Any]) -> str:
    """Configurations of every scheduler class, and how many give diffusers' own samples."""
    kinds = ("same", "same as float64", "differs")
    rows = [[f"`{name}`", *(f"{counts.get(kind, 0):,}" for kind in kinds)] for name, counts in result["counts"].items()]
    about = f"Relative to a bound of {result['config']['bound']:g}. {source(result)}"
    return f"{table(['class', *kinds], rows, numeric=range(1, 4))}\n\n{about}\n"


def prior(result: Mapping[str, Any]) -> str:
    """Mean rounds to each error, with every first guess."""
    guesses = {name: each for name, each in result.items() if isinstance(each, Mapping) and "rounds" in each}
    guesses.pop("config", None)
    rows = [
        [name, f"{each['error'][0]:.3f}", *("-" if value is None else f"{value:.1f}" for value in each["rounds"])]
        for name, each in guesses.items()
    ]
    titles = ["first guess", "its own error", *(f"rounds to {level:g}" for level in result["levels"])]
    about = f"{result['config']['model']}, {result['solver']}, {result['config']['samples']} samples. {source(result)}"
    return f"{table(titles, rows, numeric=range(1, len(titles)))}\n\n{about}\n"


def slopes(result: Mapping[str, Any]) -> str:
    """A line for each first guess and choice of slopes, a column for each model and sampler."""
    found = {(one["variant"], f"{one['model']} {one['solver']}"): one for one in result["cells"]}
    settings = dict.fromkeys(setting for _, setting in found)

    def means(one: Mapping[str, Any]) -> str:
        return " / ".join(cell(at["calls"], "{:.1f}".format) or "-" for at in one["reached"].values())

    lines = dict.fromkeys(variant for variant, _ in found)
    rows = [[variant, *(means(found[variant, setting]) for setting in settings)] for variant in lines]
    samples = ", ".join(f"{found[next(iter(lines)), setting]['samples']} samples of {setting}" for setting in settings)
    titles = ["first guess, slopes", *settings]
    return f"{table(titles, rows, range(1, len(titles)))}\n\n{samples}. {source(result)}\n"


RENDERERS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "demo.short": demo_short,
    "bench_overhead_cpu": overhead,
    "bench_spmd": spmd,
    "coverage_random": random_networks,
    "coverage_random.failures": failures,
    "rounds": rounds,
    "campaign_exactness": random_networks,
    "campaign_exactness.failures": failures,
    "campaign_recurrences": random_networks,
    "campaign_recurrences.failures": failures,
    "campaign_soak": soak,
    "campaign_files": files,
    "campaign_kills": kills,
    "import_parity": parity,
    "schedulers": schedulers,
    "slopes": slopes,
    **{f"prior_{model}": prior for model in ("digits", "fashion", "emoji32", "pusht", "metaworld")},
}
"""More of `experiments.site.readme.RENDERERS`."""
