"""What a user gets from pip: every module, the type marker, the weights; and commands in README and docs exist."""

import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

import pcm_jax
from experiments.models.storage import build_wheel
from experiments.site.readme import pages

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(text: str) -> dict[str, list[str]]:
    """Package -> its pins (one for each environment marker); a line that is no exact pin gives an empty one."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        requirement = line.split("#")[0].split(";")[0].strip()
        if requirement:
            name, _, version = requirement.partition("==")
            found.setdefault(re.split(r"[<>=!~\[ ]", name)[0].lower().replace("_", "-"), []).append(version)
    return found


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~\[; ]", requirement)[0].lower().replace("_", "-") for requirement in requirements}


@pytest.mark.fast
def test_the_type_marker_and_the_version():
    assert (Path(pcm_jax.__file__).parent / "py.typed").is_file()
    assert pcm_jax.__version__ == PROJECT["version"]


@pytest.mark.fast
def test_requirements_pin_exactly_what_the_project_declares():
    pinned = pins((ROOT / "requirements.txt").read_text())
    assert all(version for versions in pinned.values() for version in versions), "every line must be name==version"
    # Nothing here uses the hub: what it asks for is the user's own.
    extras = {name: extra for name, extra in PROJECT["optional-dependencies"].items() if name != "hub"}
    declared = names(PROJECT["dependencies"] + [one for extra in extras.values() for one in extra]) - {"pcm-jax"}
    assert set(pinned) == declared


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_every_module_the_type_marker_and_two_models(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    room = ROOT / "pcm_jax"
    modules = {str(path.relative_to(ROOT)) for path in room.rglob("*.py")} | {"pcm_jax/py.typed"}
    shipped = [path for path in (room / "pretrained").rglob("*") if path.suffix in (".safetensors", ".json", ".md")]
    small = {str(path.relative_to(ROOT)) for path in shipped if path.name.startswith(("digits", "pusht"))}
    assert len(small) >= 12
    assert packed == modules | small
    assert wheel.stat().st_size < 12e6


TEN_LINES = """
import jax, jax.numpy as jnp
import pcm_jax as pcm

model = pcm.pretrained.load("digits")
solver = pcm.solvers.ddim(model.schedule, 20, prediction=model.prediction, clip=model.clip)
noise = jax.random.normal(jax.random.key(0), (2, *model.sample_shape))
exact = pcm.sample_sequential(model.model_fn, model.params, noise, solver, cond=jnp.arange(2))
out = pcm.sample_picard(model.model_fn, model.params, noise, solver, cond=jnp.arange(2), prior=model.prior)
assert bool(jnp.all(out.converged)) and float(jnp.abs(out.sample - exact.sample).max()) < 0.1
print(pcm.__file__, pcm.pretrained.load_policy("pusht").prior is not None)
"""


OTHER_MODELS = """
print(pcm.pretrained.load("fashion", directory=weights).prior.kind)
try:
    pcm.pretrained.load("fashion")
except ValueError as error:
    print(error)
"""


def test_an_installed_wheel_samples_and_says_where_the_other_models_are(wheel, tmp_path):
    """In an environment of its own that borrows what the package depends on, and nothing of this repository."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], check=True)
    (site,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", site, wheel]
    subprocess.run(install, check=True, capture_output=True)
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")

    weights = ROOT / "pcm_jax" / "pretrained" / "weights"
    code = f"{TEN_LINES}\nweights = {str(weights)!r}\n{OTHER_MODELS}"
    command = [tmp_path / "env" / "bin" / "python", "-I", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, kind, missing = done.stdout.splitlines()
    where, prior = first.split()
    assert Path(where).is_relative_to(site) and prior == "True" and kind == "class"
    assert "choose one of digits; an installed package holds digits and pusht alone, a clone" in missing


def test_the_package_checks_itself():
    done = subprocess.run([sys.executable, "-m", "pcm_jax"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"pcm_jax {PROJECT['version']}, jax " in done.stdout and "models: digits" in done.stdout
    assert done.stdout.strip().endswith("the same samples: all is well")


def stale_commands(readme: str, makefile: str) -> list[str]:
    """Targets that a text calls with make in code and that the Makefile lacks."""
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", readme, re.DOTALL))
    called = re.findall(r"\bmake[ \t]+([a-z][a-z-]*)", code)
    defined = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    return sorted(set(called) - defined)


CALLING = ("pcm_jax", *(f"experiments/{name}" for name in ("results", "pcm", "models", "bench", "robots")))
"""Folders whose cards, results and docstrings name the command that makes them."""


@pytest.mark.fast
def test_commands_in_readme_and_docs_exist():
    front, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    assert "make demo" in front and "make test" in front
    readme = "\n".join(page.read_text() for page in pages())
    assert stale_commands(readme, makefile) == []
    assert stale_commands("run `make coffee`, not make tea", makefile) == ["coffee"]
    kinds = ("**/*.md", "**/*.json", "**/*.py", "**/*.html")
    texts = [path.read_text() for kind in kinds for folder in CALLING for path in (ROOT / folder).glob(kind)]
    command = r"(?:python3?|\$\(RUN\)) -m (experiments(?:\.\w+)+)"
    called = set(re.findall(command, "\n".join([readme, makefile, *texts])))
    assert len(called) > 20
    places = {name: ROOT / name.replace(".", "/") for name in called}
    missing = [
        name
        for name, path in places.items()
        if not (path.with_suffix(".py").exists() or (path / "__main__.py").exists())
    ]
    assert missing == []


@pytest.mark.fast
def test_help_lists_every_target():
    text = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert all(re.search(rf"^  make {target} ", text, re.MULTILINE) for target in phony[1].split())


@pytest.mark.fast
@pytest.mark.parametrize("target", ["test", "demo", "bench", "accelerator"])
def test_an_empty_venv_installs_nothing(target):
    # This test may itself run under make, and a make inside a make says which directory it enters.
    command = ["make", "-n", "--no-print-directory", target, "PYTHON=python3", "VENV="]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert text.startswith("python3 -m ")
    assert "pip" not in text
