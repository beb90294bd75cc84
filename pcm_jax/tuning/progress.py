"""A progress bar where rich is installed; the library does not insist on it."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def stages(total: int, wanted: bool) -> Iterator[Callable[[str], None]]:
    """Yields `say(text)`, called when the next of about `total` stages begins."""
    if not wanted or not importlib.util.find_spec("rich"):
        yield lambda text: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(TextColumn("tune: {task.description:44}"), BarColumn(), TimeElapsedColumn(), transient=True) as bar:
        # The first stage is announced before it is done.
        task = bar.add_task("", total=total, completed=-1)

        def say(text: str) -> None:
            bar.update(task, description=text, advance=1)

        yield say
