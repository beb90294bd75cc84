"""Victims in processes of their own, forked from one that has imported everything: kills meet work, not imports."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

Victim = Callable[[Path], str]
"""A run in a folder; returns a digest of what it found. A function of a module, so that a process can look it up."""

PATIENCE = 1200
"""Seconds after which a run hangs."""
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    [
        "experiments.campaigns.victim",
        "experiments.coverage.random",
        "experiments.models.digits",
        "experiments.gallery.page",
        "experiments.gallery.sprites",
        "experiments.paper.images",
        "experiments.robots.evaluate",
        "experiments.robots.train",
        "array_record.python.array_record_module",
        "tensorflow_datasets",
    ]
)


class Run:
    """A victim's process. cache: folder of compiled programs. keeps: whether it adds to them.

    Those that are killed may not: JAX writes the files of its cache in place, and half of one would be the next run's.
    """

    def __init__(self, victim: Victim, folder: Path, cache: Path | None = None, keeps: bool = False) -> None:
        self._said = tempfile.TemporaryDirectory()
        arguments = (victim, folder, Path(self._said.name), cache, keeps)
        self._process = _SERVER.Process(target=_work, args=arguments, daemon=True)
        self._process.start()

    def killed(self, moment: float) -> bool:
        """SIGKILL after so many seconds; False if it ended before."""
        self._process.join(moment)
        alive = self._process.exitcode is None
        self._process.kill()
        self._process.join()
        self._said.cleanup()
        return alive

    def ended(self) -> tuple[str | None, str]:
        """(its digest, or None if it failed; the end of its complaints)."""
        self._process.join(PATIENCE)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
            return None, "hangs"
        said = Path(self._said.name)
        good = self._process.exitcode == 0 and (said / "digest").exists()
        found = (said / "digest").read_text() if good else None
        complaints = (said / "complaints").read_text(errors="replace")[-1500:]
        self._said.cleanup()
        return found, complaints


def _work(victim: Victim, folder: Path, said: Path, cache: Path | None, keeps: bool) -> None:
    """In the process: the victim, its output in files."""
    with (said / "complaints").open("wb", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if cache is not None:
        import jax

        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0 if keeps else 1e9)
    try:
        (said / "digest").write_text(victim(folder))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
