"""The log: Postfix's lines, escaped, never lost without a word, never in the way."""

import io
import logging
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.base.log import LineLog, LogHandler, delivery_line, escape, format_seconds, setup

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3} postrider\[\d+\]: "


@pytest.fixture
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


class Held(io.StringIO):
    """A stream whose reader does not read until it is let go; `writes` are what came in one piece each."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.let_go = threading.Event()
        self.writes: list[str] = []

    def write(self, text: str) -> int:
        self.reached.set()
        self.let_go.wait()
        self.writes.append(text)
        return super().write(text)


def test_the_line_of_a_delivery_is_that_of_the_style_guide() -> None:
    line = delivery_line(
        "4XkQ2b",
        "ada@example.org",
        "mx1.example.org[192.0.2.7]:25",
        1.8,
        (0.1, 0.9, 0.3, 0.5),
        "2.0.0",
        "sent",
        "250 ok",
    )
    assert line == (
        "4XkQ2b: to=<ada@example.org>, relay=mx1.example.org[192.0.2.7]:25, delay=1.8, "
        "delays=0.1/0.9/0.3/0.5, dsn=2.0.0, status=sent (250 ok)"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0"), (0.004, "0"), (0.05, "0.05"), (0.999, "1"), (1, "1"), (1.84, "1.8"), (9.98, "10"), (9.99, "10"),
     (12.3, "12"), (3600.0, "3600"), (-0.5, "0"), (1e9, "1000000000")],
)  # fmt: skip
def test_delays_are_written_as_postfix_does(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize("hostile", ["a\r\nb", "\x1b[2J", "\x00", "\u202egpj", "\u2028", "\x85", "\udce9", "\x7f"])
def test_nothing_a_terminal_obeys_gets_into_a_line(hostile: str) -> None:
    for line in (
        delivery_line("id", hostile, hostile, 0, (0, 0, 0, 0), hostile, "sent", hostile),
        escape(hostile),
    ):
        assert line.isprintable()


def test_what_is_printable_stays_as_it_is() -> None:
    assert escape("Grüße, 東京 (250 ok) \\") == "Grüße, 東京 (250 ok) \\"


def test_a_reply_of_a_megabyte_is_cut() -> None:
    assert len(delivery_line("id", "a@b", "none", 0, (0, 0, 0, 0), "5.0.0", "bounced", "x" * (1 << 20))) < 1200


@pytest.mark.usefixtures("_restored")
def test_ordinary_messages_have_time_program_and_level() -> None:
    stream = io.StringIO()
    setup("info", stream)
    logging.getLogger("engine.spool").warning("disk at %d %%\nforged: line", 91)
    logging.getLogger("engine.spool").debug("too fine")
    assert re.fullmatch(STAMP + r"warning: disk at 91 %\\nforged: line\n", stream.getvalue())


@pytest.mark.usefixtures("_restored")
def test_a_trace_is_indented_under_its_message() -> None:
    stream = io.StringIO()
    setup("error", stream)
    try:
        raise ValueError("odd\nforged")
    except ValueError:
        logging.getLogger("engine").exception("failed")
    lines = stream.getvalue().splitlines()
    assert re.fullmatch(STAMP + "error: failed", lines[0])
    assert all(re.match(STAMP + "error:   ", line) for line in lines[1:])
    assert lines[-2].endswith("ValueError: odd")


@pytest.mark.usefixtures("_restored")
def test_under_systemd_the_journal_gets_priorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        handler = setup("debug", stream)
        for level in ("debug", "info", "warning", "error"):
            getattr(logging.getLogger("engine"), level)("x")
        lines = LineLog(handler)
        lines.add("4XkQ2b: sent")
        lines.close()
        stream.seek(0)
        assert stream.read() == "<7>x\n<6>x\n<4>x\n<3>x\n<6>4XkQ2b: sent\n"


def test_redirected_away_from_the_journal_lines_have_their_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """$JOURNAL_STREAM is inherited by everything below the unit; it names the stream it is true for."""
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    with (tmp_path / "file").open("w+") as stream:
        LogHandler(stream).write(["x"], "info", 0.25)
        stream.seek(0)
        assert re.fullmatch(STAMP + "info: x\n", stream.read())


def test_all_lines_of_several_threads_arrive_in_order() -> None:
    stream = io.StringIO()
    lines = LineLog(LogHandler(stream), interval_s=0.001, flush_lines=50)

    def add_all(name: str) -> None:
        for number in range(5000):
            lines.add(f"{name} {number}")

    threads = [threading.Thread(target=add_all, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines.close()
    found = [line.split(": info: ")[1] for line in stream.getvalue().splitlines()]
    for name in "abc":
        assert [line for line in found if line[0] == name] == [f"{name} {number}" for number in range(5000)]
    assert lines.dropped == 0


def test_lines_are_written_without_close() -> None:
    stream = Held()
    lines = LineLog(LogHandler(stream), interval_s=0.001)
    stream.let_go.set()
    for _ in range(3):
        stream.reached.clear()
        lines.add("x")
        assert stream.reached.wait(30)
    lines.close()
    assert stream.getvalue().count("info: x\n") == 3


def test_a_stuck_reader_costs_lines_that_are_counted_but_no_time() -> None:
    stream = Held()
    lines = LineLog(LogHandler(stream), interval_s=0.001, flush_lines=10, max_lines=100)
    lines.add("first")
    assert stream.reached.wait(30)
    for number in range(150):
        lines.add(f"line {number}")
    assert lines.dropped == 50
    stream.let_go.set()
    lines.close()
    text = stream.getvalue()
    assert text.count("info: line ") == 100
    assert "info: line 99\n" in text
    assert text.count("warning: log: 50 lines dropped\n") == 1


def test_a_broken_stream_is_counted_and_raises_nothing() -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    lines = LineLog(LogHandler(Broken()))
    lines.add("x")
    lines.close()
    assert lines.dropped >= 1
