"""SIGTERM: nobody new, what is in flight is finished or deferred within thirty seconds, and nothing is lost.

And what is around it: systemd's watchdog, and a second daemon on the same data.
"""

import contextlib
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.support.client import Client, letter, submit
from tests.support.engine import Daemon, Load, daemon, sink, wait_until
from tests.support.relay import relayed, route


def test_sessions_end_in_order(tmp_path: Path) -> None:
    """Idle ones at once with 421, a transaction after the reply to its message; new ones are not let in."""
    with relayed(tmp_path) as (engine, receiver), contextlib.ExitStack() as stack:
        idle, after_rcpt, in_data = (stack.enter_context(Client(engine.port)).smtp for _ in range(3))
        for smtp in (after_rcpt, in_data):
            assert smtp.docmd("MAIL", "FROM:<ada@home.test>")[0] == 250
            assert smtp.docmd("RCPT", "TO:<a@one.test>")[0] == 250
        assert in_data.docmd("DATA")[0] == 354
        in_data.send(b"Subject: x\r\n\r\nfirst half, ")
        engine.signal(signal.SIGTERM)
        assert idle.getreply() == (421, b"4.3.2 mx.test Service shutting down")
        with socket.socket() as late:
            assert late.connect_ex(("127.0.0.1", engine.port)) != 0
        in_data.send(b"second half\r\n.\r\n")
        assert in_data.getreply()[0] == 250
        assert in_data.getreply()[0] == 421
        assert after_rcpt.data(letter())[0] == 250
        assert after_rcpt.getreply()[0] == 421
        assert engine.process.wait(60) == 0
        engine.start()
        assert engine.books() == {"received": 2, "delivered": 2}
        assert receiver.has(messages=2)["duplicates"] == 0


def test_a_host_that_does_not_answer_keeps_nobody(tmp_path: Path) -> None:
    """Nothing of the message is in flight: it stays queued as it was, without an attempt."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with daemon(tmp_path, route(address, "silent.test") + "[delivery]\nbanner_timeout = '10m'\n") as engine:
            submit(engine.port, "ada@home.test", "a@silent.test", letter())
            connection, _ = silent.accept()
            with connection:
                engine.signal(signal.SIGTERM)
                assert connection.recv(1) == b"", "closed by the engine and not by a deadline"
                assert engine.process.wait(60) == 0
            assert engine.tally() == {"received": 1}
            engine.start()
            assert [row["attempts"] for row in engine.ask("list")] == [0]


def test_thirty_seconds_and_no_more(tmp_path: Path) -> None:
    """Receivers that are stuck in every phase, and a client: cut off, each with the outcome of a lost connection."""
    with contextlib.ExitStack() as stack:
        slow = {
            stage: stack.enter_context(sink(tmp_path / stage, "--delay", f"{stage}=10m", save=False))
            for stage in ("rcpt", "end-of-data")
        }
        settings = '[retry]\nschedule = "1h*"\n' + "".join(
            route(receiver.address, f"{stage}.test") for stage, receiver in slow.items()
        )
        engine = stack.enter_context(daemon(tmp_path / "engine", settings))
        ids = {name: submit(engine.port, "ada@home.test", f"a@{name}.test", letter()) for name in slow}
        wait_until(lambda: sum(queue["attempt"] for queue in engine.ask("queues")) == 2, "both attempts")
        wait_until(lambda: slow["end-of-data"].status().get("messages") == 1, "the end of data")
        stuck = stack.enter_context(Client(engine.port))
        assert stuck.smtp.docmd("MAIL", "FROM:<ada@home.test>")[0] == 250
        began = time.monotonic()
        engine.signal(signal.SIGTERM)
        assert engine.process.wait(60) == 0
        print(f"stopped after {time.monotonic() - began:.1f} s")
        fates = {name: engine.fates(message_id)[f"a@{name}.test"] for name, message_id in ids.items()}
        assert fates == {"rcpt": ["received", "deferred"], "end-of-data": ["received", "unknown"]}
        engine.start()
        assert engine.status()["recovered"] == 2
        assert [row["attempts"] for row in engine.ask("list")] == [1, 1]


def test_stopped_under_load_nothing_is_lost_and_nothing_doubled(tmp_path: Path) -> None:
    """Unlike a crash: every outcome is recorded before the end."""
    with sink(tmp_path / "mx", save=False) as mx, daemon(tmp_path / "engine", route(mx.address)) as engine:
        with Load(engine.port, tmp_path / "accepted", "-n", "3000", "--size", "1KiB") as under_way:
            for _ in range(4):
                under_way.more(200)
                assert engine.stop() == 0
                engine.start()
            report = under_way.report()
        engine.empty()
        assert report["accepted"] == 3000
        mx.stop()
        assert mx.ids() == under_way.ids()
        # A client whose connection went away before it was let in says it again; nothing else may come twice.
        assert mx.status()["messages"] == len(engine.events("delivered")) == len(engine.events("received"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_both_signals_stop_and_systemd_hears_of_it(tmp_path: Path, number: signal.Signals) -> None:
    with daemon(tmp_path) as engine:
        engine.signal(number)
        assert "STATUS=finishing what is in flight" in engine.said("STOPPING=1")
        assert engine.process.wait(60) == 0
        last = [line.rpartition(": ")[2] for line in engine.log_text().splitlines()[-2:]]
        assert last == ["stopping", "stopped"]
        assert not (engine.data / "admin.sock").exists()


def test_the_watchdog_is_fed(tmp_path: Path) -> None:
    """Twice in the time systemd allows, by the loop that does the work."""
    with daemon(tmp_path, WATCHDOG_USEC="200000") as engine:
        for _ in range(5):
            assert engine.said("WATCHDOG=1") == "WATCHDOG=1"


def test_without_a_watchdog_nothing_is_sent(tmp_path: Path) -> None:
    with daemon(tmp_path) as engine:
        engine.reload()
        engine.signal(signal.SIGTERM)
        heard = [engine.said("")]
        while "STOPPING=1" not in heard[-1]:
            heard.append(engine.said(""))
        assert not any("WATCHDOG" in told for told in heard)
        assert engine.process.wait(60) == 0


def test_a_second_daemon_on_the_same_data_refuses(tmp_path: Path) -> None:
    with daemon(tmp_path) as engine:
        (tmp_path / "other").mkdir()
        other = Daemon(tmp_path / "other")  # ports of its own: only the data is in its way
        other.config.write_text(other.config.read_text().replace(str(other.data), str(engine.data)))
        refused = other.run("serve", check=False)
        assert refused.returncode == 1
        assert refused.stderr == f"postrider: {engine.data} is in use by another daemon (pid {engine.process.pid})\n"
        assert engine.alive(), "the first one is as it was"
        submit(engine.port, "ada@home.test", "a@one.test", letter())


def test_a_data_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    engine = Daemon(tmp_path)
    engine.data.write_text("a file")
    refused = engine.run("serve", check=False)
    assert refused.returncode == 2
    assert refused.stderr == f"postrider.toml: [node] data_dir: {engine.data} is not a folder\n"


def test_an_address_that_is_taken_is_named(tmp_path: Path) -> None:
    engine = Daemon(tmp_path)
    with socket.create_server(("127.0.0.1", engine.port)):
        refused = engine.run("serve", check=False)
    assert refused.returncode == 1
    last = refused.stderr.splitlines()[-1]
    assert last == f"postrider: cannot listen on 127.0.0.1:{engine.port}: Address already in use"
    engine.start()  # what was left behind is in nobody's way
    assert engine.stop() == 0
