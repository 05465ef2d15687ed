"""Headless Chromium, of Debian, as a person with a mouse: it looks at pages of this machine, and clicks what it sees.

It is driven by the DevTools protocol over a pair of pipes (--remote-debugging-pipe: messages of JSON, each ended by a
NUL). Elements are found and read by the protocol's DOM, so that pages need no scripts. All else than 127.0.0.1 is no
host for it. Ended by its pid at the end of `with`.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.engine import PATIENCE_S, wait_until

#: What Chrome of a person says; without it Chromium says that it is headless.
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
_OPTIONS = (
    "--headless=new", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-pipe",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)  # fmt: skip


class Browser:
    """With one tab, which is empty. agent: "" leaves its own. Chromium's sandbox is not for root."""

    def __init__(self, path: Path, *, agent: str = CHROME, scripts: bool = True, language: str = "en-GB") -> None:
        program = shutil.which("chromium")
        assert program is not None, "chromium is missing: tests/support/packages.sh installs it"
        path.mkdir(parents=True, exist_ok=True)
        options = [*_OPTIONS, f"--user-data-dir={path / 'profile'}", f"--accept-lang={language}"]
        options += ["--no-sandbox"] * (os.geteuid() == 0) + [f"--user-agent={agent}"] * bool(agent)
        commands, self._out = os.pipe()
        self._in, answers = os.pipe()
        # Chromium reads from descriptor 3 and writes to 4; bash, as only it takes numbers of two digits there.
        shell = f'exec "$0" "$@" 3<&{commands} 4>&{answers} {commands}<&- {answers}>&-'
        with (path / "chromium.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/bash", "-c", shell, program, *options, "about:blank"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(commands, answers),
                env={**os.environ, "HOME": str(path)},
            )  # fmt: skip
        os.close(commands)
        os.close(answers)
        self._log = path / "chromium.log"
        self._buffer = b""
        self._events: list[dict[str, Any]] = []
        self._number = 0
        self._session = ""
        try:
            self._open_tab(scripts)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_S)
        os.close(self._in)
        os.close(self._out)

    # ---- what a person does

    def visit(self, url: str) -> None:
        """Enter an address; returns when the page is loaded, with its pictures."""
        self._loaded(lambda: self.call("Page.navigate", url=url))

    def click(self, selector: str) -> None:
        """Press the mouse button in the middle of what this CSS selector finds first; returns when a page is loaded."""
        x, y = self.middle(selector)

        def press() -> None:
            for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
                button = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
                self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

        self._loaded(press)

    def middle(self, selector: str) -> tuple[float, float]:
        """Where it is to be seen, in the window. Raises Invisible."""
        node = self._find(selector)
        try:
            self.call("DOM.scrollIntoViewIfNeeded", nodeId=node)
            corners = self.call("DOM.getBoxModel", nodeId=node)["model"]["border"]
        except ProtocolError as exc:
            raise Invisible(selector) from exc
        return sum(corners[0::2]) / 4, sum(corners[1::2]) / 4

    @property
    def html(self) -> str:
        """Of the page, as the browser has understood it."""
        return str(self.call("DOM.getOuterHTML", nodeId=self._root())["outerHTML"])

    @property
    def url(self) -> str:
        history = self.call("Page.getNavigationHistory")
        return str(history["entries"][history["currentIndex"]]["url"])

    def style(self, selector: str, name: str) -> str:
        """The value of a CSS property, as it came out."""
        found = self.call("CSS.getComputedStyleForNode", nodeId=self._find(selector))["computedStyle"]
        return next(str(each["value"]) for each in found if each["name"] == name)

    def picture(self) -> bytes:
        """What is to be seen, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])

    # ---- the protocol

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Of the tab, once there is one. Raises ProtocolError."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                if "error" in answer:
                    raise ProtocolError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])
            self._events.append(answer)

    def _open_tab(self, scripts: bool) -> None:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "DOM", "CSS"):
            self.call(f"{domain}.enable")
        if not scripts:
            self.call("Emulation.setScriptExecutionDisabled", value=True)

    def _loaded(self, action: Callable[[], object]) -> None:
        self._events.clear()
        action()
        while not any(event.get("method") == "Page.loadEventFired" for event in self._events):
            self._events.append(self._read())

    def _root(self) -> int:
        return int(self.call("DOM.getDocument")["root"]["nodeId"])

    def _find(self, selector: str) -> int:
        def found() -> int:
            return int(self.call("DOM.querySelector", nodeId=self._root(), selector=selector)["nodeId"])

        return int(wait_until(found, selector))

    def _read(self) -> dict[str, Any]:
        """The next message."""
        deadline = time.monotonic() + PATIENCE_S
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            more = os.read(self._in, 65536) if ready else b""
            assert more, f"Chromium says nothing more: {self._log.read_text(errors='replace')[-2000:]}"
            self._buffer += more
        text, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(text))


class ProtocolError(Exception):
    """Chromium would not."""


class Invisible(Exception):
    """It is on the page, and nobody sees it."""
