"""Chromium without a window, driven over the two pipes of its DevTools protocol: nothing beside it needs to be installed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
SWITCHES = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
# Chromium reads commands from descriptor 3 and answers on 4.
START = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
ABOVE = 10  # descriptors of ours are dealt from here, clear of those two
PATIENCE = 60.0  # seconds


class BrowserError(RuntimeError):
    """There is no browser, or it does not answer."""


def find_chromium() -> str:
    """Return the path of Chromium: that of the variable CHROMIUM, or the first that is found.

    Raises:
        BrowserError: There is none; the message says what to install.
    """
    named = os.environ.get("CHROMIUM")
    for name in (named,) if named else NAMES:
        if path := shutil.which(name):
            return path
    looked = f"CHROMIUM={named}" if named else ", ".join(NAMES)
    raise BrowserError(
        f"the documentation is looked at in Chromium, and there is none (looked for {looked}). Install it (Debian and Ubuntu: apt install "
        "chromium; macOS: brew install --cask chromium), or say where it is: CHROMIUM=/path/to/chromium make docs-check"
    )


class Browser:
    """One tab of a running Chromium."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._rest = b""
        self._count = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []

    def open(self) -> None:
        """Open the tab, and listen to what goes wrong in it."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command, and return its result; events that come meanwhile are kept.

        Raises:
            BrowserError: The browser refused it, or did not answer.
        """
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        try:
            while data:
                data = data[os.write(self._commands, data) :]
        except BrokenPipeError as error:
            raise BrowserError(f"Chromium has ended ({method})") from error
        end = time.monotonic() + PATIENCE
        while True:
            answer = self._receive(end, method)
            if answer.get("id") == self._count:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _receive(self, end: float, what: str) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, end - time.monotonic()))
            data = os.read(self._answers, 1 << 20) if ready else b""
            if not data:
                raise BrowserError(f"Chromium {'has ended' if ready else f'did not answer for {PATIENCE:g} seconds'} ({what})")
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def visit(self, address: str) -> None:
        """Load a page, its pictures and its fonts."""
        self.events.clear()
        self.call("Page.navigate", url=address)
        end = time.monotonic() + PATIENCE
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive(end, address))
        self.evaluate("document.fonts.ready.then(() => true)")

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression in the page, waited for where it is a promise."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise BrowserError(f"{expression}: {answer['exceptionDetails']['text']}")
        return answer["result"].get("value")

    def look(self, width: int, scheme: str) -> None:
        """Set the width of the window in pixels, and the colours that its reader prefers, light or dark."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def complaints(self) -> list[str]:
        """Return what the console has shown as an error since the page was called."""
        found = []
        for event in self.events:
            method, said = event["method"], event.get("params", {})
            if method == "Runtime.exceptionThrown":
                details = said["exceptionDetails"]
                found.append(details.get("exception", {}).get("description") or details["text"])
            if method == "Runtime.consoleAPICalled" and said["type"] in ("error", "assert"):
                found.append(" ".join(str(value.get("value", value.get("description"))) for value in said["args"]))
            if method == "Log.entryAdded" and said["entry"]["level"] == "error":
                found.append(f"{said['entry']['text']} {said['entry'].get('url', '')}".strip())
        return found


@contextlib.contextmanager
def browsing() -> Iterator[Browser]:
    """Start Chromium in a folder of its own, and end it."""
    path = find_chromium()
    with (
        tempfile.TemporaryDirectory(prefix="docs-check-", ignore_cleanup_errors=True) as profile,
        contextlib.ExitStack() as open_ends,
    ):

        def pipe() -> tuple[int, int]:
            ends = []
            for end in os.pipe():
                ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, ABOVE))
                os.close(end)
            return ends[0], ends[1]

        read_commands, commands = pipe()
        answers, write_answers = pipe()
        open_ends.callback(os.close, answers)
        switches = [*SWITCHES, f"--user-data-dir={profile}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        process = subprocess.Popen(
            [sys.executable, "-c", START, str(read_commands), str(write_answers), path, *switches],
            pass_fds=(read_commands, write_answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_commands)
        os.close(write_answers)
        browser = Browser(commands, answers)
        try:
            browser.open()
            yield browser
        finally:
            os.close(commands)  # Chromium ends when nobody commands any more
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
