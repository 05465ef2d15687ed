"""The log: ordinary messages by stdlib logging, and a fast way for the line that every delivery writes.

    2026-01-31T12:00:00.250 postrider[411]: info: 4XkQ2b: to=<ada@example.org>, relay=..., status=sent (250 ok)
    <6>4XkQ2b: to=<ada@example.org>, ...         where the stream is the systemd journal, which adds the rest

A delivery line costs an append to a list; a thread formats and writes what has gathered, so a slow reader of the
log never holds up mail. What comes from outside is escaped: one event is one line, and no terminal is reprogrammed.
"""

import contextlib
import logging
import os
import sys
import threading
import time
from typing import Final, TextIO

from mypy_extensions import mypyc_attr

#: sd-daemon(3): "<3>" is an error, "<4>" a warning, "<6>" information, "<7>" debugging.
_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_MAX_REPLY: Final = 1000


def escape(text: str) -> str:
    """`text` on one line and without anything that a terminal obeys: control, format and undecodable characters."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


@mypyc_attr(native_class=False)
class LogHandler(logging.Handler):
    """Writes messages, and the batches of a `LineLog`, to one stream; whole lines never mix."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._journal = _is_journal(stream)
        self._pid = os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            lines = [escape(record.getMessage())]
            if record.exc_info:
                # A trace takes several lines; the indent shows that they are not events of their own.
                trace = logging.Formatter().formatException(record.exc_info)
                lines += [f"  {escape(line)}" for line in trace.splitlines()]
            self.write(lines, record.levelname.lower(), record.created)
        except Exception:
            self.handleError(record)

    def write(self, lines: list[str], level: str, at: float) -> None:
        """Write lines of one level, without newlines, escaped already. Raises OSError, ValueError (closed)."""
        prefix = self._prefix(level, at)
        text = f"{prefix}{f'{chr(10)}{prefix}'.join(lines)}\n"
        with self.lock or contextlib.nullcontext():
            self._stream.write(text)
            self._stream.flush()

    def _prefix(self, level: str, at: float) -> str:
        if self._journal:
            return f"<{_PRIORITIES.get(level, 6)}>"
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(at))
        return f"{stamp}.{int(at * 1000) % 1000:03} postrider[{self._pid}]: {level}: "


def setup(level: str, stream: TextIO | None = None) -> LogHandler:
    """Send everything logged from `level` up to `stream` (standard error); earlier handlers are replaced.

    level: debug, info, warning or error. The handler is what a `LineLog` writes to.
    """
    handler = LogHandler(stream or sys.stderr)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    return handler


class LineLog:
    """Lines of level info, by the thousand a second. `add` from any thread; never blocks.

    Lines wait at most `interval_s`, or until `flush_lines` are there; their time is that of the writing. Beyond
    `max_lines`, or when the stream fails, lines are dropped, and counted: `dropped` is the total, and the log says so
    as soon as it can.
    """

    def __init__(
        self, handler: LogHandler, *, interval_s: float = 0.05, flush_lines: int = 2000, max_lines: int = 100_000
    ) -> None:
        self._handler = handler
        self._interval_s = interval_s
        self._flush_lines = flush_lines
        self._max_lines = max_lines
        self._lines: list[str] = []
        self._awake = False
        self._wake = threading.Event()
        self._hurry = threading.Event()
        self._writing = threading.Lock()
        self._closed = False
        self._overflow = 0
        self._failed = 0
        self._reported = 0
        self._writer = threading.Thread(target=self._run, name="log", daemon=True)
        self._writer.start()

    @property
    def dropped(self) -> int:
        return self._overflow + self._failed

    def add(self, text: str) -> None:
        """Log a line, without a newline and escaped already."""
        lines = self._lines
        if len(lines) >= self._flush_lines:
            self._hurry.set()
            if len(lines) >= self._max_lines:
                self._overflow += 1
                return
        lines.append(text)
        if not self._awake:
            self._awake = True
            self._wake.set()

    def flush(self) -> None:
        """Write what was added before this call. Blocks on the stream; not for the loop."""
        with self._writing:
            # Each of these three is atomic; a line appended meanwhile stays for the next time.
            count = len(self._lines)
            batch = self._lines[:count]
            del self._lines[:count]
            if batch:
                self._write(batch, "info")
            if self.dropped > self._reported:
                missing, self._reported = self.dropped - self._reported, self.dropped
                self._write([f"log: {missing} lines dropped"], "warning")

    def close(self) -> None:
        """Write the rest and end the thread."""
        self._closed = True
        self._hurry.set()
        self._wake.set()
        self._writer.join()
        self.flush()

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait()
            self._hurry.wait(self._interval_s)
            self._wake.clear()
            self._hurry.clear()
            self._awake = False  # Before the lines are taken: whoever adds from now on wakes the thread again.
            self.flush()

    def _write(self, lines: list[str], level: str) -> None:
        try:
            self._handler.write(lines, level, time.time())
        except (OSError, ValueError):
            self._failed += len(lines)


def _seconds_table() -> tuple[str, ...]:
    """0 to 9.99 s in Postfix's way: two digits that count, two behind the point."""
    texts = (f"{n / 100:.2f}" if n < 100 else f"{n / 100:.1f}" for n in range(1000))
    return tuple(text.rstrip("0").rstrip(".") for text in texts)


_SECONDS: Final = _seconds_table()


def format_seconds(value: float) -> str:
    """A delay as Postfix writes it: 0.05, 0.9, 1.8, 12, 3600."""
    if 0 <= value < 9.99:
        return _SECONDS[int(value * 100 + 0.5)]
    return f"{value:.0f}" if value > 0 else "0"


def delivery_line(
    message_id: str,
    to: str,
    relay: str,
    delay: float,
    delays: tuple[float, float, float, float],
    dsn: str,
    status_word: str,
    reply: str,
) -> str:
    """The line of one recipient after one attempt, in Postfix's keys; escaped.

    relay: "host[address]:port" or "none". delay: seconds since acceptance. delays: of which before the queue gave it
    out, waiting for a connection, connecting, transmitting. status_word: sent, deferred, bounced, expired.
    """
    a, b, c, d = delays
    if len(reply) > _MAX_REPLY:
        reply = f"{reply[:_MAX_REPLY]}..."
    text = (
        f"{message_id}: to=<{to}>, relay={relay}, delay={format_seconds(delay)}, "
        f"delays={format_seconds(a)}/{format_seconds(b)}/{format_seconds(c)}/{format_seconds(d)}, "
        f"dsn={dsn}, status={status_word} ({reply})"
    )
    return text if text.isprintable() else escape(text)


def _is_journal(stream: TextIO) -> bool:
    """Whether systemd connected this very stream to its journal ($JOURNAL_STREAM is "device:inode")."""
    named = os.environ.get("JOURNAL_STREAM", "")
    if not named:
        return False
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return named == f"{found.st_dev}:{found.st_ino}"
