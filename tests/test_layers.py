"""Dependency runs downwards only: the imports of every file, read from its syntax tree, against the order of rooms."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

LAYERS = (
    {"types", "checks"},
    {"results", "trees", "files", "guidance", "grids"},
    {"schedules"},
    {"solvers"},
    {"parallel"},
    {"priors"},
    {"switching"},
    {"recurrence"},
    {"sampling", "scanning"},
    {"tuning"},
    {"lora", "checkpoint", "data"},
    {"networks"},
    {"training", "policy"},
    {"pretrained"},
    {"metrics"},
)
"""Lowest first. A room imports itself and the layers below; rooms of one layer do not see each other."""

CORE = {
    "checks",
    "types",
    "results",
    "guidance",
    "grids",
    "schedules",
    "solvers",
    "parallel",
    "priors",
    "switching",
    "recurrence",
    "sampling",
    "scanning",
}
CORE_MAY_IMPORT = {"jax", "numpy"} | sys.stdlib_module_names

HOME = {
    "flax": "networks",
    "tensorflow_datasets": "data",
    "array_record": "data",
    "grain": "data",
    "zarr": "data",
    "h5py": "data",
    "transformers": "pretrained",
    "huggingface_hub": "pretrained",
}
"""Libraries that one room alone may import."""

FRONT = {"__init__", "__main__"}
"""Files beside the rooms, which see all of them."""

USERS = ("tests", "experiments/recipes", "experiments/campaigns")
"""Folders that do what users do, with any library of theirs."""

NOWHERE = {"tensorflow", "tf_keras", "keras", "pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
NOT_IN_LIBRARY = {"torch", "diffusers", "experiments", "tests"}


def imports(tree: ast.Module, package: str) -> list[tuple[int, str]]:
    """(line, dotted name) of everything imported anywhere in a file of `package`, lazily and by string too."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            found += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"}:
                found.append((node.lineno, str(node.args[0].value)))
    return found


def violations(source: str, path: str) -> list[str]:
    """What the file `path` (relative to the repository) imports and must not."""
    tree, parts = ast.parse(source), Path(path).with_suffix("").parts
    package = ".".join(parts[:-1])
    library = parts[0] == "pcm_jax"
    room = parts[1] if library else None
    below: set[str] = set()
    complaints = []
    if library and room not in FRONT:
        level = next((level for level, rooms in enumerate(LAYERS) if room in rooms), None)
        if level is None:
            return [f"{path}: room {room} has no place in LAYERS"]
        below = set().union({room}, *LAYERS[:level])
    for line, name in imports(tree, package):
        top, *rest = name.split(".")
        target = rest[0] if rest else "the package itself"
        why = None
        if top in NOWHERE:
            why = "is never imported"
        elif library and top in NOT_IN_LIBRARY:
            why = "is not imported by the library"
        elif top in HOME and room != HOME[top] and not path.startswith(USERS):
            why = f"belongs to pcm_jax/{HOME[top]} alone"
        elif room in CORE and top != "pcm_jax" and top not in CORE_MAY_IMPORT:
            why = "is no library of the core"
        elif library and room not in FRONT and top == "pcm_jax" and target not in below:
            why = f"is not below {room}"
        if why:
            complaints.append(f"{path}:{line}: {name} {why}")
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.keyword)
            and node.arg == "allow_pickle"
            and getattr(node.value, "value", None) is not False
        ):
            complaints.append(f"{path}:{node.value.lineno}: allow_pickle unpickles")
    return complaints


def test_imports_run_downwards():
    files = [path for folder in ("pcm_jax", "experiments", "tests") for path in sorted((ROOT / folder).rglob("*.py"))]
    assert any(path.parts[-2] == "sampling" for path in files), "no package found: the check would pass on nothing"
    found = [complaint for path in files for complaint in violations(path.read_text(), str(path.relative_to(ROOT)))]
    assert not found, "\n".join(found)


@pytest.mark.fast
def test_every_core_room_has_a_layer():
    rooms = [room for layer in LAYERS for room in layer]
    assert len(rooms) == len(set(rooms))
    assert set(rooms) >= CORE


REJECTED = {
    "upwards": ("pcm_jax/solvers/ddim.py", "from pcm_jax.sampling import picard", "is not below solvers"),
    "upwards from the facade": ("pcm_jax/solvers/ddim.py", "from pcm_jax import sampling", "is not below solvers"),
    "the facade": ("pcm_jax/sampling/api.py", "import pcm_jax as pcm", "is not below sampling"),
    "a sibling": ("pcm_jax/lora.py", "from pcm_jax.checkpoint import save", "is not below lora"),
    "relative": ("pcm_jax/solvers/ddim.py", "from ..sampling import picard", "is not below solvers"),
    "relative, bare": ("pcm_jax/solvers/ddim.py", "from .. import sampling", "is not below solvers"),
    "relative, in __init__": ("pcm_jax/solvers/__init__.py", "from ..sampling import picard", "is not below solvers"),
    "inside a function": ("pcm_jax/schedules.py", "def f():\n    import pcm_jax.solvers", "is not below schedules"),
    "by string": (
        "pcm_jax/types.py",
        "import importlib\nimportlib.import_module('pcm_jax.data')",
        "is not below types",
    ),
    "a new room": ("pcm_jax/attic/a.py", "", "has no place in LAYERS"),
    "flax in the core": ("pcm_jax/sampling/picard.py", "import flax.linen as nn", "belongs to pcm_jax/networks"),
    "flax in training": ("pcm_jax/training/state.py", "from flax import struct", "belongs to pcm_jax/networks"),
    "optax in the core": ("pcm_jax/sampling/api.py", "import optax", "is no library of the core"),
    "tensorflow": ("pcm_jax/data/digits.py", "import tensorflow as tf", "is never imported"),
    "tensorflow in a study": ("experiments/models/digits.py", "import tensorflow as tf", "is never imported"),
    "tfds outside data": ("pcm_jax/training/loop.py", "import tensorflow_datasets as tfds", "belongs to pcm_jax/data"),
    "tfds in a study": (
        "experiments/models/digits.py",
        "import tensorflow_datasets as tfds",
        "belongs to pcm_jax/data",
    ),
    "pickle": ("pcm_jax/checkpoint.py", "import pickle", "is never imported"),
    "pickle in a test": ("tests/test_a.py", "from pickle import loads", "is never imported"),
    "pickle in numpy": ("pcm_jax/data/replay.py", "import numpy\nnumpy.load('f', allow_pickle=True)", "unpickles"),
    "torch": ("pcm_jax/pretrained/load.py", "import torch", "is not imported by the library"),
    "experiments": ("pcm_jax/metrics/timing.py", "from experiments import figures", "is not imported by the library"),
}


@pytest.mark.fast
@pytest.mark.parametrize("name", REJECTED)
def test_the_check_rejects(name):
    path, source, complaint = REJECTED[name]
    found = violations(source, path)
    assert len(found) == 1, found
    assert complaint in found[0]


ACCEPTED = {
    "downwards": (
        "pcm_jax/sampling/picard.py",
        "from pcm_jax.parallel import WindowAxis\nfrom pcm_jax.types import Array",
    ),
    "its own room": ("pcm_jax/sampling/api.py", "from pcm_jax.sampling import picard\nfrom . import window"),
    "its own room, in __init__": (
        "pcm_jax/sampling/__init__.py",
        "from . import window\nfrom .api import sample_picard",
    ),
    "the facade imports all": ("pcm_jax/__init__.py", "from pcm_jax import data, networks, sampling"),
    "flax at home": ("pcm_jax/networks/unet2d.py", "import flax.linen as nn"),
    "tfds at home": ("pcm_jax/data/digits.py", "import tensorflow_datasets as tfds"),
    "optax above the core": ("pcm_jax/training/state.py", "import optax"),
    "a study uses the library": ("experiments/demo/__main__.py", "import pcm_jax as pcm"),
    "a recipe uses any library": ("experiments/recipes/frameworks.py", "from flax import nnx"),
    "a test uses any library": ("tests/networks/test_adapters.py", "import flax.nnx\nimport torch"),
    "no pickle in numpy": ("pcm_jax/data/replay.py", "import numpy\nnumpy.load('f', allow_pickle=False)"),
}


@pytest.mark.fast
@pytest.mark.parametrize("name", ACCEPTED)
def test_the_check_accepts(name):
    path, source = ACCEPTED[name]
    assert violations(source, path) == []
