"""A headless Chromium for tests: one page, driven through a pipe with the protocol of its DevTools.

No port is opened, and nothing but the page's own file, or what its own server on this machine has,
can be loaded: every other request is refused, and listed in ``Page.requests``.
"""

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
KEYS = {
    "Tab": (9, ""), "Enter": (13, "\r"), " ": (32, " "), "ArrowDown": (40, ""), "Home": (36, ""),
}  # fmt: skip


def chromium():
    """Return the path of a Chromium; without one the test is skipped, and says so."""
    if sys.platform == "win32":
        pytest.skip("Chromium is driven through pipes that Windows does not have")
    named = os.environ.get("QUPATH_BRIDGE_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("Chromium is needed (a system package; QUPATH_BRIDGE_CHROMIUM names another)")
    return found


class Browser:
    """A Chromium process; close it when it is not needed any more."""

    def __init__(self, width=1280, height=900):
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        # It reads commands from 3 and answers at 4: the pipes that are its 0 and 1 at first.
        swap = 'exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null'
        self._process = subprocess.Popen(
            [
                "sh", "-c", swap, chromium(), "--headless", "--no-sandbox", "--disable-gpu",
                "--no-first-run", "--disable-extensions", "--disable-component-update",
                "--disable-sync", "--disable-background-networking", "--disable-dev-shm-usage",
                "--no-default-browser-check", "--force-device-scale-factor=1",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                f"--user-data-dir={self._profile}",
                f"--window-size={width},{height}", "--remote-debugging-pipe", "about:blank",
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
        )  # fmt: skip
        self._commands, self._answers = self._process.stdin, self._process.stdout
        self._numbers = itertools.count(1)
        self._buffer = b""
        self.events = []
        self._session = self.session_of("page")

    _session = None

    def session_of(self, kind, seconds=60):
        """Return the session of the only target of a kind, when it is there."""
        end = time.monotonic() + seconds
        while True:
            targets = self.call("Target.getTargets")["targetInfos"]
            found = [each["targetId"] for each in targets if each["type"] == kind]
            if len(found) == 1:
                attached = self.call("Target.attachToTarget", targetId=found[0], flatten=True)
                return attached["sessionId"]
            assert time.monotonic() < end, targets
            time.sleep(0.05)

    def call(self, method, **values):
        """Send a command and return its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": values}
        if self._session:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read(60)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def wait_for(self, event, seconds=30):
        """Wait for an event, and return its values."""
        end = time.monotonic() + seconds
        while True:
            for values in self.events:
                if values["method"] == event:
                    self.events.remove(values)
                    return values["params"]
            self._read(end - time.monotonic())

    def _read(self, seconds):
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(seconds, 0))
            content = self._answers.read(1 << 20) if ready else b""
            if not content:
                raise TimeoutError("Chromium says nothing.")
            self._buffer += content
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer = json.loads(message)
        if "method" in answer:
            self.events.append(answer)
        return answer

    def close(self):
        """End the process, and remove its profile."""
        self._process.kill()
        self._process.wait()
        self._commands.close()
        self._answers.close()
        shutil.rmtree(self._profile, ignore_errors=True)


class Page:
    """A page in a browser.

    Attributes
    ----------
    problems : list of str
        Errors and warnings of the console, and exceptions.
    requests : list of str
        Addresses that the page asked for, but for itself, its own server, and pictures that are
        in it.
    """

    def __init__(self, browser, place, *, dark=False, width=1280, height=900):
        """Open a file, or an address of a server on this machine."""
        served = str(place).startswith("http://127.0.0.1:")
        self.browser = browser
        browser.events.clear()
        for domain in ("Page", "Runtime", "Log", "Network"):
            browser.call(f"{domain}.enable")
        self.size(width, height)
        # Else the window of nobody has no focus, and no element hears that it gets it.
        browser.call("Emulation.setFocusEmulationEnabled", enabled=True)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        browser.call("Emulation.setEmulatedMedia", media="", features=[scheme])
        self.address = place if served else Path(place).resolve().as_uri()
        self._own = (f"{place}/", "blob:", "data:") if served else (self.address, "data:")
        blocked = ["https://*", "ws://*", "wss://*", *([] if served else ["http://*"])]
        browser.call("Network.setBlockedURLs", urls=blocked)
        browser.call("Page.navigate", url=self.address)
        browser.wait_for("Page.loadEventFired")

    def size(self, width, height):
        """Give the window another size."""
        self.browser.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def run(self, code):
        """Return the value of JavaScript code."""
        found = self.browser.call(
            "Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"]["description"])
        return found["result"].get("value")

    @contextmanager
    def inner(self):
        """Let ``run`` run code in the document inside the page, which has its own process."""
        outer = self.browser._session
        self.browser._session = None
        try:
            self.browser._session = self.browser.session_of("iframe")
            yield
        finally:
            self.browser._session = outer

    def press(self, key, *, shift=False):
        """Press a key, as a person does."""
        code, text = KEYS.get(key, (ord(key.upper()[0]), key))
        values = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        self.browser.call("Input.dispatchKeyEvent", type="keyDown", text=text, **values)
        self.browser.call("Input.dispatchKeyEvent", type="keyUp", **values)

    def type(self, text):
        """Type a text into what has the focus."""
        for sign in text:
            self.press(sign)

    def screenshot(self, path, *, whole=False):
        """Write a picture of what is seen, or of the whole page."""
        made = self.browser.call(
            "Page.captureScreenshot", format="png", captureBeyondViewport=whole
        )
        Path(path).write_bytes(base64.b64decode(made["data"]))

    def pdf(self):
        """Return the page as it is printed."""
        return base64.b64decode(self.browser.call("Page.printToPDF", printBackground=True)["data"])

    @property
    def problems(self):
        """Errors and warnings of the console, and exceptions."""
        self.run("1")
        found = []
        for event in self.browser.events:
            values = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(values["exceptionDetails"]["text"])
            elif event["method"] == "Log.entryAdded":
                found.append(values["entry"]["text"])
            elif event["method"] == "Runtime.consoleAPICalled":
                found.append(str(values["args"]))
        return found

    @property
    def requests(self):
        """Addresses that the page asked for, but for its own."""
        self.run("1")
        asked = [
            event["params"]["request"]["url"]
            for event in self.browser.events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in asked if not url.startswith(self._own)]
