"""SIGHUP: new settings for what comes, no connection dropped; settings that cannot be used change nothing."""

import contextlib
import re
import signal
import socket
import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.tools.certificate import self_signed
from tests.support.client import Client, Refused, letter, submit
from tests.support.dkim import ed_key, rsa_key, write_key
from tests.support.engine import PATIENCE_S, Daemon, Load, Sink, daemon, sink
from tests.support.ports import free_port
from tests.support.relay import relayed


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Daemon, Sink]]:
    with relayed(tmp_path, workers=request.param) as running:
        yield running


def change(engine: Daemon, old: str, new: str) -> None:
    """Edit the settings file and have it read."""
    text = engine.config.read_text()
    assert old in text
    engine.config.write_text(text.replace(old, new))
    engine.reload()


def add(engine: Daemon, more: str) -> None:
    """Add to the settings file and have it read."""
    engine.config.write_text(engine.config.read_text() + "\n" + more)
    engine.reload()


def listener(port: int, kind: str = "smtp", more: str = 'networks = ["127.0.0.0/8"]') -> str:
    return f'[[listener]]\nkind = "{kind}"\naddress = "127.0.0.1:{port}"\n{more}\n'


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_routes(stage: tuple[Daemon, Sink], tmp_path: Path) -> None:
    """What is accepted from now on goes the new way, and so does what waits for a connection."""
    engine, old = stage
    submit(engine.port, "ada@home.test", "a@one.test", letter())
    engine.until(delivered=1)
    with sink(tmp_path / "new") as new:
        change(engine, old.address, new.address)
        submit(engine.port, "ada@home.test", "b@one.test", letter())
        engine.until(delivered=2)
        assert [envelope["recipients"] for envelope, _ in new.messages()] == [["b@one.test"]]


def test_keys(stage: tuple[Daemon, Sink], tmp_path: Path) -> None:
    """A rotated DKIM key signs the next message that leaves."""
    engine, receiver = stage
    for number, (selector, key) in enumerate({"old": rsa_key(), "new": ed_key()}.items(), 1):
        table = (
            f'[[dkim]]\ndomain = "home.test"\nselector = "{selector}"\nkey = "{write_key(tmp_path, selector, key)}"\n'
        )
        if selector == "old":
            add(engine, table)
        else:
            change(engine, 'selector = "old"', 'selector = "new"')
            change(engine, str(tmp_path / "old"), str(tmp_path / "new"))
        submit(engine.port, "ada@home.test", "a@one.test", letter())
        engine.until(delivered=number)
        _, content = receiver.messages()[-1]
        assert re.findall(rb" s=(\w+);", content) == [selector.encode()]


def test_networks(stage: tuple[Daemon, Sink]) -> None:
    """Who may submit: sessions that are open keep what they began with."""
    engine, _ = stage
    with Client(engine.port) as before:
        change(engine, 'networks = ["127.0.0.0/8"]', 'networks = ["192.0.2.0/24"]')
        with Client(engine.port) as after, pytest.raises(Refused) as refused:
            after.submit("ada@home.test", "a@one.test", letter())
        assert refused.value.code in (530, 550, 554)
        assert before.submit("ada@home.test", "a@one.test", letter())
    change(engine, 'networks = ["192.0.2.0/24"]', 'networks = ["127.0.0.0/8"]')
    submit(engine.port, "ada@home.test", "a@one.test", letter())


def test_limits(stage: tuple[Daemon, Sink]) -> None:
    engine, _ = stage
    add(engine, "[intake]\nmax_message_bytes = 1000\n")
    with Client(engine.port) as client:
        assert client.smtp.esmtp_features["size"] == "1000"
        with pytest.raises(Refused) as refused:
            client.submit("ada@home.test", "a@one.test", letter(body=b"x" * 70 + b"\r\n" + b"y" * 2000 + b"\r\n"))
        assert refused.value.code == 552


def test_a_listener_comes_and_goes(stage: tuple[Daemon, Sink]) -> None:
    engine, _ = stage
    port = free_port()
    add(engine, listener(port))
    with Client(port) as idle, Client(port) as busy:
        busy.smtp.docmd("MAIL", "FROM:<ada@home.test>")
        busy.smtp.docmd("RCPT", "TO:<a@one.test>")
        change(engine, listener(port), "")
        assert not listens(port)
        assert idle.smtp.getreply() == (421, b"4.3.2 mx.test Service shutting down")
        assert busy.smtp.data(letter())[0] == 250, "a transaction is finished first"
        assert busy.smtp.getreply()[0] == 421
    engine.until(delivered=1)
    submit(engine.port, "ada@home.test", "b@one.test", letter())


@pytest.mark.parametrize("kind", ["smtp", "http"])
def test_a_listener_takes_over_the_port_of_the_one_it_replaces(stage: tuple[Daemon, Sink], kind: str) -> None:
    """From one address of the machine to all of them and back: at no moment is nobody there."""
    engine, _ = stage
    port = free_port()
    add(engine, listener(port, kind))
    for old, new in (("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1")):
        change(engine, f"{old}:{port}", f"{new}:{port}")
        assert "not reloaded" not in engine.log_text()
        assert listens(port)
        with pytest.raises(OSError, match="in use"):
            socket.create_server(("127.0.0.1", port))
    if kind == "smtp":
        submit(port, "ada@home.test", "a@one.test", letter())
        engine.until(delivered=1)


def test_a_port_is_not_taken_over_from_a_listener_that_stays(stage: tuple[Daemon, Sink]) -> None:
    """A restart could not open both; so the settings are refused, as at the start."""
    engine, _ = stage
    add(engine, listener(engine.port).replace("127.0.0.1", "0.0.0.0"))
    assert "is taken by another listener" in engine.log_text()


def test_the_port_of_another_program_is_not_taken_over(stage: tuple[Daemon, Sink]) -> None:
    """What cannot be had refuses the reload, and the old listener goes on, its port its own again."""
    engine, _ = stage
    port = free_port()
    with socket.create_server(("127.0.0.2", port)):
        add(engine, listener(port))
        change(engine, f"127.0.0.1:{port}", f"0.0.0.0:{port}")
        assert f"not reloaded: cannot listen on 0.0.0.0:{port}" in engine.log_text()
    assert listens(port)
    with pytest.raises(OSError, match="in use"):  # several workers share their port, with each other and whoever may
        socket.create_server(("127.0.0.1", port), reuse_port="workers = 2" not in engine.config.read_text())


def test_the_metrics_listener_moves(stage: tuple[Daemon, Sink]) -> None:
    engine, _ = stage
    old, engine.http_port = engine.http_port, free_port()
    change(engine, f"127.0.0.1:{old}", f"127.0.0.1:{engine.http_port}")
    assert engine.metrics()["internal_errors"] == 0
    assert not listens(old)


def test_a_listener_becomes_something_else(stage: tuple[Daemon, Sink]) -> None:
    """SMTP at the address of the metrics, and TLS from the first byte where it was not."""
    engine, _ = stage
    change(engine, listener(engine.http_port, "http"), listener(engine.http_port, "smtp"))
    submit(engine.http_port, "ada@home.test", "a@one.test", letter())
    certificate, key = self_signed("mx.test")
    files = write_tls(engine.path, certificate, key)
    change(
        engine,
        listener(engine.http_port, "smtp"),
        listener(engine.http_port, "smtp", f'networks = ["127.0.0.0/8"]\ntls = {{ {files}, implicit = true }}'),
    )
    with Client(engine.http_port, implicit_tls=True) as client:
        client.submit("ada@home.test", "b@one.test", letter())
    engine.until(delivered=2)


def write_tls(folder: Path, certificate: bytes, key: bytes) -> str:
    (folder / "cert.pem").write_bytes(certificate)
    (folder / "key.pem").write_bytes(key)
    (folder / "key.pem").chmod(0o600)
    return f'cert = "{folder}/cert.pem", key = "{folder}/key.pem"'


def test_a_renewed_certificate(tmp_path: Path) -> None:
    """The files are read again; sessions under TLS go on."""

    def shown(client: Client) -> bytes:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        client.smtp.starttls(context=context)
        client.smtp.ehlo()
        peer = client.smtp.sock.getpeercert(binary_form=True)
        assert peer is not None
        return bytes(peer)

    certificate, key = self_signed("mx.test")
    tls = f"tls = {{ {write_tls(tmp_path, certificate, key)} }}"
    with daemon(tmp_path, smtp=tls) as engine, Client(engine.port) as before:
        assert ssl.DER_cert_to_PEM_cert(shown(before)).encode() in certificate
        renewed, new_key = self_signed("mx.test")
        write_tls(tmp_path, renewed, new_key)
        engine.reload()
        with Client(engine.port) as after:
            assert ssl.DER_cert_to_PEM_cert(shown(after)).encode() in renewed
        assert before.submit("ada@home.test", "a@one.test", letter())


def test_a_connection_in_every_state_survives(stage: tuple[Daemon, Sink]) -> None:
    engine, _ = stage
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(engine.port)) for _ in range(4)]
        idle, after_mail, after_rcpt, in_data = (client.smtp for client in clients)
        for smtp in (after_mail, after_rcpt, in_data):
            assert smtp.docmd("MAIL", "FROM:<ada@home.test>")[0] == 250
        for smtp in (after_rcpt, in_data):
            assert smtp.docmd("RCPT", "TO:<a@one.test>")[0] == 250
        assert in_data.docmd("DATA")[0] == 354
        in_data.send(b"Subject: first half\r\n\r\nbefore\r\n")
        add(engine, "[delivery]\nmax_recipients = 7\n")
        in_data.send(b"after\r\n.\r\n")
        assert in_data.getreply()[0] == 250
        assert after_mail.docmd("RCPT", "TO:<a@one.test>")[0] == 250
        for smtp in (after_mail, after_rcpt):
            assert smtp.data(letter())[0] == 250
        clients[0].submit("ada@home.test", "a@one.test", letter())
        assert idle.noop()[0] == 250
    engine.until(delivered=4)
    assert engine.books() == {"received": 4, "delivered": 4}


BROKEN = """
[site]
rate = "fast"
[delivery]
max_recipient = 5
[[route]]
domain = "x.test"
relay = "nowhere"
"""


def test_broken_settings_are_refused_with_every_problem_and_the_old_ones_go_on(stage: tuple[Daemon, Sink]) -> None:
    engine, _ = stage
    good = engine.config.read_text()
    add(engine, BROKEN)
    refused = {problem for problem in re.findall(r" error: not reloaded: postrider.toml: (.*?: )", engine.log_text())}
    assert refused == {"[site] rate: ", "[delivery] max_recipient: ", "[[route]] 2 relay: "}
    submit(engine.port, "ada@home.test", "a@one.test", letter())
    engine.until(delivered=1)
    engine.config.write_text(good)
    engine.reload()
    assert "reloaded " in engine.log_text().splitlines()[-1]


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ('[[dkim]]\ndomain = "home.test"\nselector = "s"\nkey = "{folder}/no-key.pem"\n', "no-key.pem"),
        (
            '[[route]]\ndomain = "x.test"\nrelay = "127.0.0.1:9"\nusername = "u"\npassword_file = "{folder}/open"\n',
            "others can read it",
        ),
        ('[[listener]]\nkind = "smtp"\naddress = "127.0.0.1:{taken}"\n', "cannot listen on 127.0.0.1:"),
    ],
    ids=["key", "password", "address"],
)
def test_what_shows_itself_only_when_it_is_done_changes_nothing_either(
    stage: tuple[Daemon, Sink], tmp_path: Path, more: str, problem: str
) -> None:
    """Half of the new settings would be worse than none of them."""
    engine, receiver = stage
    (tmp_path / "open").write_text("secret")
    (tmp_path / "open").chmod(0o644)
    port = free_port()
    good = engine.config.read_text()
    with socket.create_server(("127.0.0.1", 0)) as other:
        more = more.replace("{folder}", str(tmp_path)).replace("{taken}", str(other.getsockname()[1]))
        new = good.replace(receiver.address, f"127.0.0.1:{free_port()}")
        engine.config.write_text(f"{new}\n{listener(port)}\n{more}")
        engine.reload()
    (line,) = [line for line in engine.log_text().splitlines() if "not reloaded" in line]
    assert problem in line
    assert not listens(port)
    submit(engine.port, "ada@home.test", "a@one.test", letter())
    engine.until(delivered=1)
    assert receiver.has(messages=1)


@pytest.mark.parametrize(("old", "new"), [('name = "mx.test"', 'name = "other.test"'), ("/data", "/elsewhere")])
def test_what_needs_a_restart_says_so(stage: tuple[Daemon, Sink], old: str, new: str) -> None:
    engine, _ = stage
    change(engine, old, new)
    assert re.search(r"error: not reloaded: a new (node name|data_dir) needs a restart", engine.log_text())
    assert engine.alive()


def test_systemd_hears_of_a_reload(stage: tuple[Daemon, Sink]) -> None:
    """With the time, so that it can tell this reload from an earlier one (Type=notify-reload)."""
    engine, _ = stage
    engine.signal(signal.SIGHUP)
    assert "MONOTONIC_USEC=" in engine.said("RELOADING=1")
    assert engine.said("READY=1")


def test_many_reloads_under_load_refuse_nobody(stage: tuple[Daemon, Sink], tmp_path: Path) -> None:
    engine, receiver = stage
    with Load(engine.port, tmp_path / "accepted", "-n", "8000", "--size", "1KiB") as under_way:
        under_way.more(50)
        for _ in range(5):
            engine.reload()
        assert under_way.running()
        report = under_way.report()
    assert (report["accepted"], report["refused"], report["lost_connections"]) == (8000, 0, 0)
    engine.empty()
    assert engine.books() == {"received": 8000, "delivered": 8000}
    assert receiver.has(messages=8000)["duplicates"] == 0


def test_a_port_is_taken_over_under_load(stage: tuple[Daemon, Sink], tmp_path: Path) -> None:
    """Each session of the old listener ends, after the reply to its message; and nobody finds the port closed.

    One that comes back before the other worker has left the port is taken in there, and ends once more.
    """
    engine, _ = stage
    workers = 2 if "workers = 2" in engine.config.read_text() else 1
    port = free_port()
    add(engine, listener(port))
    with Load(port, tmp_path / "accepted", "-n", "16000", "--sessions", "10", "--size", "1KiB") as under_way:
        under_way.more(50)
        change(engine, f"127.0.0.1:{port}", f"0.0.0.0:{port}")
        assert under_way.running()
        report = under_way.report()
    assert (report["accepted"], report["refused"]) == (16000, 0)
    assert 10 <= report["lost_connections"] <= 10 * workers
    engine.empty()
    assert engine.books() == {"received": 16000, "delivered": 16000}


def test_the_metrics_answer_during_and_after(stage: tuple[Daemon, Sink]) -> None:
    engine, _ = stage
    engine.reload()
    with urllib.request.urlopen(f"http://127.0.0.1:{engine.http_port}/health", timeout=PATIENCE_S) as answer:
        assert answer.read() == b"ok\n"
