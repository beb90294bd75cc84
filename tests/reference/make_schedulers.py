"""Write schedulers.npz and schedulers.json: what diffusers' own schedulers make of every case of scheduler_cases.py.

Run by `make parity`, in an environment of its own (requirements-parity.txt):

    python tests/reference/make_schedulers.py [--out FOLDER]

writes the cut that the tests run beside this file and, with `--out`, all cases into FOLDER, which
`experiments.parity.schedulers` reads.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import multiprocessing
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import diffusers
import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import scheduler_cases  # noqa: E402 - it lies beside this file
from scheduler_cases import Case  # noqa: E402

_SCALARS = ("sigmas", "sigmas_interpol", "sigmas_up", "sigmas_down", "alphas_cumprod", "final_alpha_cumprod", "one")
"""Tables of float32 that steps compute their coefficients from."""


def run(case: Case, *, exact: bool = False) -> tuple[np.ndarray, dict[str, Any]]:
    """(sample, complete configuration); exact: diffusers' steps on the same tables, computed in float64."""
    kind = getattr(diffusers, case.name)
    scheduler = kind.from_config(case.config)
    scheduler.set_timesteps(case.steps, **case.call)
    first, draws = map(torch.from_numpy, scheduler_cases.noise())
    x, row = first * float(getattr(scheduler, "init_noise_sigma", 1.0)), 0
    # Noise is that of the network call, whoever asks for it.
    module: Any = importlib.import_module(kind.__module__)
    if hasattr(module, "randn_tensor"):
        module.randn_tensor = lambda shape, *_, dtype=None, **__: draws[row].to(dtype)
    for name in _SCALARS if exact else ():
        if torch.is_tensor(getattr(scheduler, name, None)):
            setattr(scheduler, name, getattr(scheduler, name).double())
    # Some steps round the state itself.
    with mock.patch.object(torch, "float32", torch.float64) if exact else contextlib.nullcontext():
        for t in scheduler.timesteps:
            seen = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
            x = scheduler.step(scheduler_cases.network(seen, t.double(), torch), t, x).prev_sample
            row += 1
    sample = x.double().numpy()
    if not np.all(np.isfinite(sample)):
        raise ValueError("the sample is not finite")
    config = json.loads(json.dumps(dict(scheduler.config), default=_plain)) | {"_class_name": case.name}
    # A set: in the same order every time, so that the file changes only where the samples do.
    return sample, config | {"_use_default_values": sorted(config.get("_use_default_values", []))}


def entry_of(case: Case) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What is written of a case, and its samples: as diffusers has it, and in float64 where that is another."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    entry: dict[str, Any] = {"name": case.name, "config": case.config, "steps": case.steps, "call": case.call}
    samples = {}
    try:
        with torch.no_grad():
            samples[""], entry["full"] = run(case)
            exact, _ = run(case, exact=True)
        entry["moves"] = float(np.max(np.abs(exact - samples[""])) / np.max(np.abs(samples[""])))
        if entry["moves"] >= scheduler_cases.MOVES:
            samples["/float64"] = exact
    except Exception as error:
        entry["error"] = f"{type(error).__name__}: {error}"[:200]
    return entry, samples


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, help="where all cases go; without it the tests' cut alone is run")
    out = parser.parse_args().out
    cut, arrays, about = set(scheduler_cases.cut()), {}, {}
    chosen = [(n, case) for n, case in enumerate(scheduler_cases.cases()) if out is not None or n in cut]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        found = pool.map(entry_of, [case for _, case in chosen], chunksize=32)
        for (number, _), (entry, samples) in zip(chosen, found, strict=True):
            about[number] = entry
            arrays |= {f"{number}{kind}": sample for kind, sample in samples.items() if "error" not in entry}
    versions = {"diffusers": diffusers.__version__, "torch": torch.__version__}
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(out / "schedulers.npz", **arrays)
        (out / "schedulers.json").write_text(json.dumps({"versions": versions, "cases": list(about.values())}))
    kept = [number for number in sorted(cut) if about[number].get("moves", 1.0) < scheduler_cases.MOVES]
    np.savez_compressed(
        HERE / "schedulers.npz", **{str(number): arrays[str(number)].astype(np.float32) for number in kept}
    )
    small = {str(number): {key: about[number][key] for key in ("full", "steps", "call")} for number in kept}
    (HERE / "schedulers.json").write_text(json.dumps({"versions": versions, "cases": small}) + "\n")
    print(f"{len(about)} cases, {len(arrays)} run, {len(kept)} kept for the tests")


if __name__ == "__main__":
    main()
