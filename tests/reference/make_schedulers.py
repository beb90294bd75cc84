"""Write schedulers.npz and schedulers.json: what diffusers' own schedulers make of every case of scheduler_cases.py.

Run by `make parity`, in an environment of its own (requirements-parity.txt):

    python tests/reference/make_schedulers.py --out FOLDER

writes all cases into FOLDER, for `experiments.schedulers`, and the cut that the tests run beside this file.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import scheduler_cases  # noqa: E402 - it lies beside this file
from scheduler_cases import Case  # noqa: E402


def run(
    case: Case, first: torch.Tensor, draws: torch.Tensor, outputs: torch.dtype = torch.float64
) -> tuple[np.ndarray, dict[str, Any]]:
    """(sample, complete configuration); outputs: what the network's are rounded to."""
    kind = getattr(diffusers, case.name)
    scheduler = kind.from_config(case.config)
    scheduler.set_timesteps(case.steps, **case.call)
    sigma = getattr(scheduler, "init_noise_sigma", 1.0)
    x, row = first * float(sigma), 0
    # Noise is that of the network call, whoever asks for it.
    module: Any = importlib.import_module(kind.__module__)
    if hasattr(module, "randn_tensor"):
        module.randn_tensor = lambda shape, *_, dtype=None, **__: draws[row].to(dtype)
    for t in scheduler.timesteps:
        seen = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        output = scheduler_cases.network(seen, t.double(), torch).to(outputs).double()
        x = scheduler.step(output, t, x).prev_sample
        row += 1
    sample = x.double().numpy()
    if not np.all(np.isfinite(sample)):
        raise ValueError("the sample is not finite")
    return sample, json.loads(json.dumps(dict(scheduler.config), default=_plain)) | {"_class_name": case.name}


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    first, draws = map(torch.from_numpy, scheduler_cases.noise())
    arrays, about = {}, []
    with torch.no_grad():
        for number, case in enumerate(scheduler_cases.cases()):
            entry: dict[str, Any] = {"name": case.name, "config": case.config, "steps": case.steps, "call": case.call}
            try:
                arrays[str(number)], entry["full"] = run(case, first, draws)
                rounded, _ = run(case, first, draws, torch.float32)
                size = np.max(np.abs(arrays[str(number)]))
                entry["moves"] = float(np.max(np.abs(rounded - arrays[str(number)])) / size)
            except Exception as error:
                entry["error"] = f"{type(error).__name__}: {error}"[:200]
            about.append(entry)
    versions = {"diffusers": diffusers.__version__, "torch": torch.__version__}
    np.savez_compressed(out / "schedulers.npz", **arrays)
    (out / "schedulers.json").write_text(json.dumps({"versions": versions, "cases": about}))
    cut = [number for number in scheduler_cases.cut() if "error" not in about[number]]
    kept = [number for number in cut if about[number]["moves"] < scheduler_cases.MOVES]
    np.savez_compressed(
        HERE / "schedulers.npz", **{str(number): arrays[str(number)].astype(np.float32) for number in kept}
    )
    small = {str(number): {key: about[number][key] for key in ("full", "steps", "call")} for number in kept}
    (HERE / "schedulers.json").write_text(json.dumps({"versions": versions, "cases": small}) + "\n")
    print(f"{len(about)} cases, {len(arrays)} run, {len(kept)} kept for the tests")


if __name__ == "__main__":
    main()
