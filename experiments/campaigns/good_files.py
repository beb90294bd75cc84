"""One small good file or folder for every reader of the library, and the call that reads it."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.campaigns import good_weights
from experiments.campaigns.toys import CONFIG, POLICY, drawn, model
from pcm_jax import lora, networks, pretrained
from pcm_jax.checkpoint import Checkpoints
from pcm_jax.data.folder import load_folder
from pcm_jax.data.idx import read_idx
from pcm_jax.data.records import Records, write_records
from pcm_jax.data.robots import Normalizer, load_pusht, load_rlds, load_robomimic
from pcm_jax.pretrained import diffusers
from pcm_jax.priors import fit_prior
from pcm_jax.training import read_metrics
from pcm_jax.trees import flatten
from tests.reference import lerobot_config


def write_model(folder: Path) -> None:
    pretrained.export(model().params, CONFIG, "# tiny\n", folder)


def write_policy(folder: Path) -> None:
    _, shapes = POLICY.build()
    ranges = np.zeros(3, np.float32), np.ones(3, np.float32)
    policy = pretrained.build_policy(
        POLICY, drawn(shapes), Normalizer(*ranges), Normalizer(ranges[0][:2], ranges[1][:2])
    )
    pretrained.export_policy(policy, POLICY, "# tiny\n", folder)


def write_adapter(folder: Path) -> None:
    of = model()
    adapted = lora.init(of.params, 2, jax.random.key(0))
    pretrained.save_adapter(folder / "pcm.safetensors", adapted, {"secant": np.ones((2, 10))}, of)


def write_prior(folder: Path) -> None:
    samples = np.random.default_rng(0).normal(size=(20, 4, 1))
    pretrained.save_prior(folder / "prior.safetensors", fit_prior(samples, rank=2))


def write_weights(folder: Path) -> None:
    pretrained.save_params(folder / "weights.safetensors", model().params, {"made": "here"})


def write_lerobot(folder: Path) -> None:
    from safetensors.numpy import save_file

    from pcm_jax.pretrained import diffusion_policy

    network = networks.ConditionalUNet1D((8, 16), 8, 3, 4)
    like = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 8, 2)), jnp.zeros(1), jnp.zeros((1, 6)))
    flat, tensors = flatten(drawn(like["params"])), {}
    for key, source in diffusion_policy.key_map(like["params"], 2, "LeRobot").items():
        tensors[f"diffusion.unet.{source.key}"] = np.ascontiguousarray(source.tensor(np.asarray(flat[key])))
    for name, size in (("normalize_inputs.buffer_observation_state", 3), ("unnormalize_outputs.buffer_action", 2)):
        tensors |= {f"{name}.min": np.zeros(size, np.float32), f"{name}.max": np.ones(size, np.float32)}
    save_file(tensors, folder / "model.safetensors")
    modes = {"STATE": "MIN_MAX", "ACTION": "MIN_MAX"}
    config = lerobot_config.config({"observation.state": ("STATE", [3])}, modes, n_groups=4, num_train_timesteps=10)
    (folder / "config.json").write_text(json.dumps(config))


def tree() -> dict[str, Any]:
    """What the checkpoint holds."""
    return {"kernel": jnp.ones((4, 3)), "key": jax.random.key(7), "step": jnp.int32(3)}


def write_checkpoint(folder: Path) -> None:
    Checkpoints(folder).save(3, tree(), {"next": 3})


def write_zarr(folder: Path) -> None:
    import zarr

    group = zarr.open_group(str(folder / "pusht.zarr"), mode="w", zarr_format=2)
    draws = np.random.default_rng(0)
    group.create_array("data/state", data=draws.random((7, 5)).astype(np.float32))
    group.create_array("data/action", data=draws.random((7, 2)).astype(np.float32))
    group.create_array("meta/episode_ends", data=np.asarray((3, 7), np.int64))


def write_hdf5(folder: Path) -> None:
    import h5py

    draws = np.random.default_rng(0)
    with h5py.File(folder / "low_dim.hdf5", "w") as file:
        for number, length in enumerate((4, 6)):
            demo = file.create_group(f"data/demo_{number}")
            sizes = {"object": 10, "robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2}
            for name, size in sizes.items():
                demo.create_dataset(f"obs/{name}", data=draws.random((length, size)))
            demo.create_dataset("actions", data=draws.random((length, 7)))
            demo.create_dataset("rewards", data=np.zeros(length))


def write_idx(folder: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 6), dtype=np.uint8)
    content = b"\x00\x00\x08\x03" + struct.pack(">3I", *images.shape) + images.tobytes()
    (folder / "images.gz").write_bytes(gzip.compress(content))


def write_set(folder: Path) -> None:
    row = {"x": np.ones((3, 2), np.float32), "label": np.int32(1)}
    features = {"x": ((3, 2), "float32"), "label": ((), "int32")}
    write_records(folder, features, [3, 2], lambda index: [row] * (3, 2)[index], {"made": "here"})


def write_episodes(folder: Path) -> None:
    step: dict[str, Any] = {"observation": np.ones(3, np.float32), "action": np.ones(2, np.float32)}
    step |= {"reward": np.float32(0), "is_first": np.bool_(False), "is_last": np.bool_(False)}
    step |= {"is_terminal": np.bool_(False)}
    kinds = {name: (np.shape(value), np.asarray(value).dtype.name) for name, value in step.items()}
    last = step | {"is_last": np.bool_(True)}
    write_records(folder, {"steps": kinds}, [2], lambda index: [{"steps": [step, step, last]}] * 2, {"made": "here"})


def write_images(folder: Path) -> None:
    from PIL import Image

    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def write_lines(folder: Path) -> None:
    lines = [json.dumps({"step": step, "seconds": 0.5, "loss": 1.0}) for step in range(4)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def write_embeddings(folder: Path) -> None:
    np.save(folder / "texts.npy", np.ones((2, 5, 8), np.float32))


def read_set(folder: Path) -> Any:
    records = Records(folder)
    return records.rows(range(len(records)))


READERS: dict[str, tuple[Callable[[Path], None], Callable[[Path], Any]]] = {
    "weights": (write_weights, lambda at: pretrained.load_params(at / "weights.safetensors", CONFIG.build()[1])),
    "metadata": (write_weights, lambda at: pretrained.load_metadata(at / "weights.safetensors")),
    "model": (write_model, lambda at: pretrained.load("tiny", at)),
    "policy": (write_policy, lambda at: pretrained.load_policy("tiny", at)),
    "adapter": (write_adapter, lambda at: pretrained.load_adapter("pcm", model(), at)),
    "prior": (write_prior, lambda at: pretrained.load_prior(at / "prior.safetensors")),
    "lerobot": (write_lerobot, lambda at: pretrained.load_lerobot(at)),
    "unet1d": (write_lerobot, lambda at: pretrained.load_unet1d(at)),
    "checkpoint": (write_checkpoint, lambda at: Checkpoints(at).restore(tree())),
    "zarr": (write_zarr, lambda at: load_pusht(at / "pusht.zarr")),
    "hdf5": (write_hdf5, lambda at: load_robomimic(at / "low_dim.hdf5")),
    "idx": (write_idx, lambda at: read_idx(at / "images.gz")),
    "records": (write_set, read_set),
    "rlds": (write_episodes, lambda at: load_rlds(str(at))),
    "images": (write_images, lambda at: list(load_folder(at))),
    "metrics": (write_lines, lambda at: read_metrics(at / "metrics.jsonl")),
    "embeddings": (write_embeddings, lambda at: diffusers.load_embeddings(at / "texts.npy")),
    **good_weights.READERS,
    # Plans of pcm_jax.tune: ("plan": (write_plan, load_plan)) once there is a file of them.
}
"""name -> (write a good one into a folder, read it)."""
