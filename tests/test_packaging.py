"""What a user gets from pip: every module, the type marker, the weights; and README names commands that exist."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import pcm_jax

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


def test_the_wheel_holds_every_module_the_type_marker_and_the_weights(tmp_path):
    source = tmp_path / "source"
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    shutil.copytree(ROOT / "pcm_jax", source / "pcm_jax", ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    # Weights come with the trained model; a stand-in keeps the check about the packaging rules.
    weights = source / "pcm_jax" / "pretrained" / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    for name in ("stand_in.safetensors", "stand_in.json", "stand_in.md"):
        (weights / name).touch()
    (weights / "stand_in.pkl").touch()
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        "out",
        ".",
    ]
    done = subprocess.run(build, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = (source / "out").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {str(path.relative_to(source)) for path in (source / "pcm_jax").rglob("*") if path.is_file()}
    assert packed == expected - {"pcm_jax/pretrained/weights/stand_in.pkl"}


def stale_commands(readme: str, makefile: str) -> list[str]:
    """Targets that README calls with make in code and that the Makefile lacks."""
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", readme, re.DOTALL))
    called = re.findall(r"\bmake[ \t]+([a-z][a-z-]*)", code)
    defined = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    return sorted(set(called) - defined)


@pytest.mark.fast
def test_commands_in_readme_exist():
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    assert "make demo" in readme and "make test" in readme
    assert stale_commands(readme, makefile) == []
    assert stale_commands("run `make coffee`, not make tea", makefile) == ["coffee"]
    called = {module.replace(".", "/") for module in re.findall(r"python3? -m (experiments\.\w+)", readme)}
    missing = [
        path for path in called if not ((ROOT / f"{path}.py").exists() or (ROOT / path / "__main__.py").exists())
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
