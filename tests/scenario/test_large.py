"""Large messages through the whole daemon: in a file of their own on the way, gone after it, and never in memory."""

import smtplib
from pathlib import Path

import uvloop

from bench.large import flood, peak_rss
from tests.support.engine import Daemon, daemon, sink, wait_until
from tests.support.ports import free_port

ROUTE = '[[route]]\ndomain = "*"\nrelay = "127.0.0.1:{port}"\n'
MANY = "[intake]\nmax_connections_per_address = 100\n"
SMALL_LIMIT = 'min_free = 0.0\nlarge_bytes = "64KiB"'
LINE = b".a line of a large message, with a dot to stuff\r\n"
CONTENT = b"From: ada@example.org\r\nSubject: large\r\n\r\n" + LINE * 20_000
BODY_BYTES = (25 << 20) - 4096
#: An idle daemon has 70 MiB; one that gathered these messages would have a GiB and more.
MOST_RSS = 200 << 20


def large_files(engine: Daemon) -> list[Path]:
    return list((engine.data / "spool" / "0" / "large").glob("*.dat"))


def submit(engine: Daemon, *recipients: str, content: bytes = CONTENT) -> None:
    with smtplib.SMTP("127.0.0.1", engine.port) as client:
        assert client.sendmail("ada@example.org", recipients, content) == {}


def test_forty_sessions_of_25_mib_fit_in_200_mib_and_every_byte_arrives(tmp_path: Path) -> None:
    sink_port = free_port()
    with daemon(tmp_path, ROUTE.format(port=sink_port) + MANY) as engine:
        uvloop.run(flood(engine.port, sink_port, sessions=40, body_bytes=BODY_BYTES, patience_s=300))
        assert peak_rss(engine.process.pid) < MOST_RSS
        engine.books()
        wait_until(lambda: not large_files(engine), "the files to be removed")


def test_a_large_message_is_stored_once_and_survives_kill_and_restart(tmp_path: Path) -> None:
    """Two destinations, one file; it is there until the last of them has its message. What is not ours stays."""
    port = free_port()
    with daemon(tmp_path, ROUTE.format(port=port), spool=SMALL_LIMIT) as engine:
        submit(engine, "bob@one.example", "cleo@two.example")
        assert len(large_files(engine)) == 1
        assert sum(file.stat().st_size for file in large_files(engine)) < len(CONTENT)
        (file,) = large_files(engine)
        half = file.with_name("000000000999.00000000.dat")
        half.write_bytes(b"of a session that a crash ended")
        stray = file.with_name("left-over")
        stray.write_bytes(b"of somebody else")
        engine.kill()
        engine.start()
        assert "large/left-over is no file of the spool; it is left as it is" in engine.log_text()
        engine.ask("spool_compact")
        assert large_files(engine) == [file]
        row = engine.ask("show", message_id=engine.ask("list")[0]["id"])[0]
        assert "\nSubject: large\n" in row["header"]
        assert row["bytes"] > len(CONTENT)
        with sink(tmp_path / "mx", "--chunking", port=port) as mx:
            engine.ask("retry", target="*")
            engine.empty()
            contents = [content for _, content in mx.messages()]
        assert [content.partition(b"\r\n\r\n")[2] for content in contents] == [LINE * 20_000] * 2
        wait_until(lambda: not large_files(engine), "the file to be removed")
        assert stray.read_bytes() == b"of somebody else"


def test_a_damaged_file_keeps_its_message_and_nothing_else(tmp_path: Path) -> None:
    """S5: the connection is dropped in the middle of the content, which is never ended; the message waits."""
    port = free_port()
    with daemon(tmp_path, ROUTE.format(port=port), spool=SMALL_LIMIT) as engine:
        submit(engine, "bob@one.example")
        (file,) = large_files(engine)
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
        with sink(tmp_path / "mx", port=port) as mx:
            engine.ask("retry", target="*")
            wait_until(lambda: "checksum is wrong; tried again in 5m" in engine.log_text(), "the damage to be met")
            submit(engine, "bob@two.example")
            wait_until(lambda: mx.status().get("messages"), "the other message")
            assert len(mx.messages()) == 1
        assert engine.status()["queued"] == 1
        file.unlink()
        engine.stop()
        engine.start()
        assert f"file {int(file.name[:12])} with contents of queued messages is gone" in engine.log_text()
        engine.ask("purge", target="*")
        engine.until(removed=1)
        assert [event["recipient"] for event in engine.events("removed")] == ["bob@one.example"]


def test_a_failed_large_message_comes_back_as_its_header(tmp_path: Path) -> None:
    """RFC 3461 4.3 lets a report return less; a notification is made in memory."""
    with sink(tmp_path / "mx", "--reply", "rcpt:bad@*=550 5.1.1 no such user") as mx:
        route = ROUTE.format(port=mx.port) + '[dsn]\nmax_return_bytes = "25MiB"\n'
        with daemon(tmp_path, route, spool=SMALL_LIMIT) as engine:
            submit(engine, "bad@one.example")
            mx.has(messages=1)
            ((_, report),) = mx.messages()
            assert b"Content-Type: text/rfc822-headers\r\n" in report
            assert b"\r\nSubject: large\r\n" in report
            assert LINE not in report
