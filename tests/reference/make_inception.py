"""Writes inception.npz: features by pytorch-fid's own network with random weights, for tests/metrics/test_inception.py.

python tests/reference/make_inception.py     # needs torch, torchvision and pytorch-fid
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torchvision
from pytorch_fid import inception

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import random_inception  # noqa: E402 - it lies beside this file


def weights(*_, **__):
    """What would be downloaded."""
    empty = torchvision.models.inception_v3(num_classes=1008, aux_logits=False, weights=None, init_weights=False)
    return {
        key: torch.from_numpy(random_inception.weight(key, tuple(value.shape)))
        for key, value in empty.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }


inception.load_state_dict_from_url = weights
network = inception.InceptionV3().eval()
images = torch.from_numpy(random_inception.pictures()).permute(0, 3, 1, 2).float() / 255
with torch.no_grad():
    features = network(images)[0][:, :, 0, 0].numpy()
shapes = json.dumps({key: list(value.shape) for key, value in weights().items()})
np.savez_compressed(HERE / "inception.npz", features=features, shapes=np.array(shapes))
print(features.shape, features.mean(), features.std())
