"""Write models.npz and models.json: outputs of diffusers' own models with random weights, for the tests of the import.

Run by `make parity`, in an environment of its own (requirements-parity.txt):

    python tests/reference/make_models.py [--folders DIR]

`--folders` also saves every model there with `save_pretrained`, the folders that `experiments.parity.imports` reads.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import full_sizes  # noqa: E402
import random_loras as loras  # noqa: E402
import random_models as cases  # noqa: E402 - they lie beside this file
import random_policies as policies  # noqa: E402
import random_visions as visions  # noqa: E402
import torch_loras  # noqa: E402
import torch_unet1d  # noqa: E402
import torch_vision  # noqa: E402


def channels_first(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def channels_last(x: torch.Tensor) -> np.ndarray:
    return x.permute(0, 2, 3, 1).numpy().astype(np.float32)


def build(name: str) -> Any:
    if name in policies.CASES:
        return with_weights(torch_unet1d.ConditionalUnet1D(policies.CASES[name]))
    return with_weights(described(cases.CASES[name]))


def described(config: dict[str, Any]) -> Any:
    options = {key: value for key, value in config.items() if not key.startswith("_")}
    return getattr(diffusers, config["_class_name"])(**options)


def with_weights(model: Any) -> Any:
    state = {key: torch.from_numpy(cases.weight(key, tuple(value.shape))) for key, value in model.state_dict().items()}
    model.load_state_dict(state)
    return model.eval()


def outputs(name: str, model: Any, size: tuple[int, int]) -> dict[str, np.ndarray]:
    given = cases.inputs(name, size)
    x = channels_first(given["x"])
    if "z" in given:
        encoded = model.encode(x)
        kl = hasattr(encoded, "latent_dist")
        found = {"encode": channels_last(encoded.latent_dist.mean if kl else encoded.latents)}
        if kl:
            found["logvar"] = channels_last(encoded.latent_dist.logvar)
        return found | {"decode": channels_last(model.decode(channels_first(given["z"])).sample)}
    options = {"class_labels": torch.from_numpy(given["label"])} if "label" in given else {}
    if "text" in given:
        options["encoder_hidden_states"] = torch.from_numpy(given["text"])
    times = torch.from_numpy(given["t"])
    if "time_ids" in given:
        kept = {"text_embeds": given["pooled"], "time_ids": given["time_ids"]}
        options["added_cond_kwargs"] = {key: torch.from_numpy(value) for key, value in kept.items()}
    elif "pooled" in given:
        options |= {"timestep": times, "pooled_projections": torch.from_numpy(given["pooled"])}
        return {"out": channels_last(model(x, **options).sample)}
    if cases.is_dit(cases.CASES[name]):
        # What it predicts; a variance beside it is left out.
        return {"out": channels_last(model(x, timestep=times, **options).sample[:, : x.shape[1]])}
    if name == "unet-learned":
        times = times.long()
    return {"out": channels_last(model(x, times, **options).sample)}


def digest(model: Any) -> str:
    keys = "\n".join(f"{key} {tuple(value.shape)}" for key, value in sorted(model.state_dict().items()))
    return hashlib.sha256(keys.encode()).hexdigest()[:16]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folders", type=Path)
    folders = parser.parse_args().folders
    arrays, digests = {}, {}
    with torch.no_grad():
        for name in cases.CASES:
            model = build(name)
            digests[name] = digest(model)
            for size in cases.sizes(cases.CASES[name]):
                for part, value in outputs(name, model, size).items():
                    arrays[f"{name}/{size[0]}x{size[1]}/{part}"] = value
            if folders:
                model.save_pretrained(folders / name)
        for name, config in full_sizes.CASES.items():
            with torch.device("meta"):
                digests[name] = digest(described(config))
        for name in policies.CASES:
            model = build(name)
            digests[name] = digest(model)
            for horizon in policies.HORIZONS:
                given = {key: torch.from_numpy(value) for key, value in policies.inputs(name, horizon).items()}
                arrays[f"{name}/{horizon}/out"] = model(given["x"], given["t"], given.get("cond")).numpy()
            if folders:
                (folders / name).mkdir(parents=True, exist_ok=True)
                save_file(model.state_dict(), folders / name / policies.FILE)
        for name, case in loras.CASES.items():
            model = build(case["model"])
            torch_loras.adapt(name, model)
            arrays[f"{name}/out"] = outputs(case["model"], model, loras.SIZE)["out"]
        for name in visions.CASES:
            policy = with_weights(torch_vision.Policy(name))
            digests[name] = digest(policy)
            arrays |= {f"{name}/{part}": value for part, value in torch_vision.outputs(name, policy).items()}
            if folders:
                (folders / name).mkdir(parents=True, exist_ok=True)
                kept = {key: torch.from_numpy(value) for key, value in visions.stored(name).items()}
                old = visions.CASES[name]["old"]
                save_file(policy.state_dict() | (kept if old else {}), folders / name / policies.FILE)
                if not old:
                    save_file(kept, folders / name / visions.NORMALIZER)
                (folders / name / "config.json").write_text(json.dumps(visions.config(name)))
    np.savez_compressed(HERE / "models.npz", **arrays)
    about = {"diffusers": diffusers.__version__, "torch": torch.__version__, "keys": digests}
    (HERE / "models.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
