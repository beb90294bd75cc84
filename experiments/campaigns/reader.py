"""A process that reads what it is told, and reports: `python -m experiments.campaigns.reader`, one JSON a line.

It watches itself: pickles that are looked up, files that are opened for writing, connections and programs that are
started are noted by an audit hook, which nothing below Python's own calls escapes.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from experiments.campaigns.good_files import READERS

MEMORY = 4 * 2**30
"""Of address space beyond what the process has when it starts: an allocation of 2^60 bytes fails at once."""
FORBIDDEN = ("pickle.find_class", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec")


class Watch:
    """Events of the case that is being read."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.inside = ""
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.inside:
            return
        if event in FORBIDDEN:
            self.events.append(f"{event} {arguments[:2]!r}"[:200])
        elif event == "open" and isinstance(arguments[0], str):
            mode = arguments[1] or ""
            if any(letter in mode for letter in "wax+") and not arguments[0].startswith(
                (self.inside, "/dev/", "/proc/")
            ):
                self.events.append(f"writes {arguments[0]}"[:200])


def peak() -> int:
    """Most bytes of memory since `forget`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forget() -> None:
    """Start the peak anew."""
    Path("/proc/self/clear_refs").write_text("5")


def read(watch: Watch, reader: str, folder: str) -> dict[str, Any]:
    """Outcome, message, seconds of processor time, growth of memory and forbidden events of one reading."""
    forget()
    before, start = peak(), time.process_time()
    watch.events, watch.inside = [], folder
    try:
        READERS[reader][1](Path(folder))
        outcome, message = "read", ""
    except ValueError as error:
        outcome, message = "named", str(error)[:300]
    except BaseException as error:  # what this looks for
        outcome, message = type(error).__name__, str(error)[:300]
    watch.inside = ""
    spent = time.process_time() - start
    return {
        "outcome": outcome,
        "message": message,
        "seconds": round(spent, 3),
        "growth_mb": round((peak() - before) / 2**20, 1),
        "events": watch.events,
    }


def main() -> None:
    """Until the input ends. Every reader has read a good file before, so that imports and compilation do not count."""
    warnings.simplefilter("ignore")
    out = sys.stdout
    sys.stdout = sys.stderr  # what libraries print is no answer
    watch = Watch()
    limited = False
    for line in sys.stdin:
        asked = json.loads(line)
        if asked.get("limit") and not limited:
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, resource.RLIM_INFINITY))
            limited = True
        out.write(json.dumps(read(watch, asked["reader"], asked["folder"])) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
