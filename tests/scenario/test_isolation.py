"""Ten thousand messages to a dead site and ten thousand to a live one do not slow each other.

The dead site is tried a few times and then left alone; its mail waits in its own queue. The cost of that is compared
in CPU time of the daemon, which another program on this machine does not change; times on the clock are printed.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine import Daemon, Load, Sink, daemon, load, sink, wait_until
from tests.support.ports import free_port

COUNT = 10_000
SETTINGS = """
[[route]]
domain = "live.example"
relay = "{live}"

[[route]]
domain = "dead.example"
relay = "{dead}"

[delivery]
banner_timeout = "1s"
"""
SMALL = ("-n", str(COUNT), "--size", "1KiB", "--messages-per-connection", "100")


Site = Callable[[], contextlib.AbstractContextManager[str]]


@contextlib.contextmanager
def closed_port() -> Iterator[str]:
    yield f"127.0.0.1:{free_port()}"


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """Connections are made, by the kernel, and nothing is ever said."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(100)
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def cpu_s(engine: Daemon) -> float:
    """CPU seconds the daemon has used."""
    fields = Path(f"/proc/{engine.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Stopwatch:
    """Seconds, and CPU seconds of the daemon, since it was made."""

    def __init__(self, engine: Daemon) -> None:
        self._engine, self._cpu, self._at = engine, cpu_s(engine), time.monotonic()

    def read(self) -> tuple[float, float]:
        return time.monotonic() - self._at, cpu_s(self._engine) - self._cpu


def delivered(mx: Sink, count: int) -> None:
    wait_until(lambda: mx.status().get("unique", 0) >= count, f"{count} messages at the live site")


@pytest.mark.parametrize("dead_site", [closed_port, black_hole])
def test_a_dead_site_costs_a_live_one_nothing(tmp_path: Path, dead_site: Site) -> None:
    with contextlib.ExitStack() as stack:
        dead = stack.enter_context(dead_site())
        mx = stack.enter_context(sink(tmp_path / "mx", save=False))
        engine = stack.enter_context(daemon(tmp_path / "engine", SETTINGS.format(live=mx.address, dead=dead)))
        watch = Stopwatch(engine)
        load(engine.port, tmp_path / "before", *SMALL, "--domain", "live.example")
        delivered(mx, COUNT)
        alone_s, alone_cpu_s = watch.read()

        watch = Stopwatch(engine)
        to_dead = stack.enter_context(Load(engine.port, tmp_path / "to_dead", *SMALL, "--domain", "dead.example"))
        load(engine.port, tmp_path / "to_live", *SMALL, "--domain", "live.example")
        to_dead.report()
        delivered(mx, 2 * COUNT)
        both_s, both_cpu_s = watch.read()

        status, attempts = engine.status(), len(engine.events("deferred"))
        print(f"live alone: {alone_s:.1f} s, {alone_cpu_s:.1f} s CPU")
        print(f"with dead:  {both_s:.1f} s, {both_cpu_s:.1f} s CPU, {attempts} attempts at the dead site")
        assert (status["delivered"], status["queued"], status["balanced"]) == (2 * COUNT, COUNT, True)
        assert attempts <= 20, "a closed site is not asked for each message"
        # Taking a message costs about half of taking and delivering it.
        assert both_cpu_s < 2.5 * alone_cpu_s + 0.5
        mx.stop()
        assert mx.ids() >= set((tmp_path / "to_live").read_text().split())

        row = wait_until(lambda: is_closed(engine.ask("queues")), "the dead site to be closed")
        assert (row["destination"], row["queued"]) == ("dead.example", COUNT)
        assert f"[127.0.0.1]:{dead.rpartition(':')[2]}" in row["limit"], "and it says why"


def is_closed(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The only queue, if its site is closed just now."""
    (row,) = rows
    return row if (row["limit"] or "").startswith("site closed for") else None


def test_a_dead_site_that_comes_back_gets_all_its_mail(tmp_path: Path) -> None:
    """A probe finds it open, and the backlog goes out; an operator's `retry` makes the probe come at once."""
    port = free_port()
    with daemon(tmp_path, SETTINGS.format(live=f"127.0.0.1:{free_port()}", dead=f"127.0.0.1:{port}")) as engine:
        load(engine.port, tmp_path / "to_dead", *SMALL, "--domain", "dead.example")
        with sink(tmp_path / "mx", port=port, save=False) as mx:
            engine.ask("retry", target="dead.example")
            delivered(mx, COUNT)
            engine.empty()
            mx.stop()
            assert mx.ids() == set((tmp_path / "to_dead").read_text().split())
            assert mx.status()["duplicates"] == 0
        assert engine.status()["balanced"]
