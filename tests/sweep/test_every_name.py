"""Every public name refuses what its parameters cannot mean, with a ValueError; a name without an entry fails."""

import importlib
import inspect
import pkgutil

import numpy as np
import pytest

import pcm_jax
from experiments.common.figures import ROOT
from tests.sweep.apart import APART, ELSEWHERE
from tests.sweep.entries import ENTRIES
from tests.sweep.networks import NETWORKS
from tests.sweep.trainers import ENTRIES as TRAINERS


def public_names():
    """Functions and classes of the rooms that `pcm_jax` names, and of the rooms in them."""
    rooms = [name for name in pcm_jax.__all__ if inspect.ismodule(getattr(pcm_jax, name))]
    found = {name for name in pcm_jax.__all__ if name not in rooms}
    for room in rooms:
        module = getattr(pcm_jax, room)
        modules = {room: module}
        for info in pkgutil.iter_modules(getattr(module, "__path__", ())):
            inner = importlib.import_module(f"{module.__name__}.{info.name}")
            if info.ispkg and hasattr(inner, "__all__"):
                modules[f"{room}.{info.name}"] = inner
        for where, each in modules.items():
            own = [name for name, value in vars(each).items() if getattr(value, "__module__", "") == each.__name__]
            for name in getattr(each, "__all__", own):
                value = getattr(each, name)
                if not name.startswith("_") and callable(value):
                    found.add(f"{where}.{name}")
    return found


NAMES = public_names()


def quick(name):
    """A network is traced for each value, which takes a tenth of a second."""
    return () if name in NETWORKS or name in TRAINERS else pytest.mark.fast


@pytest.mark.fast
def test_every_public_name_is_swept_or_says_why_not():
    assert len(NAMES) > 150
    listed = [*ENTRIES, *APART, *ELSEWHERE]
    missing = sorted(NAMES - set(listed))
    assert not missing, f"add entries in tests/sweep: {missing}"
    gone = sorted(set(listed) - NAMES)
    assert not gone, f"these are no public names (any more): {gone}"
    assert len(listed) == len(set(listed))


@pytest.mark.fast
@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_other_test_names_it(name):
    assert name.split(".")[-1] in (ROOT / ELSEWHERE[name]).read_text()


@pytest.mark.fast
@pytest.mark.parametrize("name", ENTRIES)
def test_every_parameter_is_swept_or_named(name):
    one = ENTRIES[name]
    assert one.parameters() == set(one.swept) | set(one.rest)


@pytest.mark.parametrize("name", [pytest.param(name, marks=quick(name)) for name in ENTRIES])
def test_the_right_neighbours_are_accepted(name):
    one = ENTRIES[name]
    if one.runs and (len(one.swept) > 1 or all(kind.value is not None for kind in one.swept.values())):
        one.run()


def calls():
    for name, one in ENTRIES.items():
        for parameter, kind in one.swept.items():
            yield pytest.param(one, parameter, kind, id=f"{name}({parameter})", marks=quick(name))


@pytest.mark.parametrize(("one", "parameter", "kind"), list(calls()))
def test_wrong_values_are_named(one, parameter, kind):
    accepted, bare = [], []
    for value in kind.wrong:
        try:
            with np.errstate(all="ignore"):
                one.run(**{parameter: value})
        except ValueError:
            continue
        except Exception as error:
            bare.append((value, f"{type(error).__name__}: {str(error)[:80]}"))
        else:
            accepted.append(value)
    assert not accepted and not bare, f"accepted: {accepted}; without a name: {bare}"
