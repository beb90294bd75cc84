"""A headless browser over its DevTools pipe: keys that are really pressed, and what a screen reader is told."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from experiments.site.look import FLAGS, NETWORK

CODES = {"ArrowRight": 39, "ArrowLeft": 37, "Home": 36, "End": 35, "Tab": 9, "Enter": 13}


class Tab:
    """One page. It answers one command at a time."""

    def __init__(self, write: int, read: BinaryIO) -> None:
        self._write, self._read = write, read
        self._count, self._session = 0, ""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to one command; events on the way are dropped."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._message())
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])

    def _message(self) -> bytes:
        parts = []
        while (one := self._read.read(1)) != b"\0":
            if not one:
                raise RuntimeError("the browser ended")
            parts.append(one)
        return b"".join(parts)

    def open(self, url: str, width: int = 1280, height: int = 900, *, script: bool = True, still: bool = False) -> None:
        """Load a page at this width, with or without its scripts, for somebody who wants less motion or not."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.ask("Emulation.setScriptExecutionDisabled", value=not script)
        motion = {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"}
        self.ask("Emulation.setEmulatedMedia", features=[motion])
        self.ask("Page.navigate", url=url)
        for _ in range(200):
            if self.run("document.readyState") == "complete" and self.run("location.href") == url:
                return
            time.sleep(0.05)

    def run(self, expression: str) -> Any:
        """The value of an expression in the page."""
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def press(self, key: str) -> None:
        """A key of CODES, down and up."""
        about = {"key": key, "code": key, "windowsVirtualKeyCode": CODES[key]}
        about |= {"text": "\r"} if key == "Enter" else {}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **about)
        self.ask("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=CODES[key])

    def names(self, role: str) -> list[str]:
        """Accessible names of all elements of a role, in the page's order."""
        nodes = self.ask("Accessibility.getFullAXTree")["nodes"]
        return [n.get("name", {}).get("value", "") for n in nodes if n.get("role", {}).get("value") == role]

    def photograph(self, path: Path) -> None:
        """The whole page as a PNG."""
        picture = self.ask("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(picture))


@contextmanager
def tab(program: str, profile: Path) -> Iterator[Tab]:
    """A browser without a network, ended when the block ends."""
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    # The browser reads from 3 and writes to 4.
    plumbing = f'exec 3<&{theirs_in} 4>&{theirs_out}; exec "$0" "$@"'
    command = [
        "bash",
        "-c",
        plumbing,
        program,
        *FLAGS,
        NETWORK,
        "--remote-debugging-pipe",
        f"--user-data-dir={profile}",
    ]
    process = subprocess.Popen(command, pass_fds=(theirs_in, theirs_out), stderr=subprocess.DEVNULL)
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        with os.fdopen(ours_in, "rb") as read:
            yield Tab(ours_out, read)
    finally:
        process.terminate()
        process.wait(20)
        os.close(ours_out)
