"""Answers of people through the whole daemon: words that stop, lift and ask, and an application behind HTTPS."""

import contextlib
import json
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from engine.tools.certificate import self_signed
from tests.support.engine import Load, Sink, daemon, sink, wait_until
from tests.support.ports import free_port

#: The load generator sends to these, in this order.
STOPS, STOPS_AND_STARTS, ASKS, VOTES = (f"44770000000{n}" for n in range(4))


def settings(port: int, smsc: Sink, more: str = "") -> str:
    return f"""
[sms]
post_attempts = 1

[[listener]]
kind = "smpp"
address = "127.0.0.1:{port}"

[[account]]
system_id = "load"
password = "secret"
help = "Load: we test. STOP ends it."

[[carrier]]
name = "one"
host = "127.0.0.1"
port = {smsc.port}
system_id = "us"
password = "secret"
{more}
"""


def submit(port: int, path: Path, count: int) -> dict[str, Any]:
    with Load(port, path, "--password=secret", "--from=60999", "--text=Hello", f"-n{count}", smpp=True) as running:
        return running.report()


def test_stop_start_and_help(tmp_path: Path) -> None:
    """Each is answered once, by the carrier it came from; who stopped has nothing more, who came back has."""
    answers = (f"{STOPS}=STOP x1", f"{STOPS_AND_STARTS}=Стоп x1", f"{STOPS_AND_STARTS}=СТАРТ x1", f"{ASKS}=Help? x1")
    port = free_port()
    with contextlib.ExitStack() as stack:
        options = [f"--answer={answer}" for answer in answers]
        smsc = stack.enter_context(sink(tmp_path / "smsc", "--smpp", *options, save=False))
        engine = stack.enter_context(daemon(tmp_path / "engine", settings(port, smsc)))
        assert submit(port, tmp_path / "accepted", 3)["accepted"] == 3
        # Two stops and a start, confirmed, one of them in two parts; and a help.
        smsc.has(messages=3 + 5)
        report = submit(port, tmp_path / "accepted", 3)
        assert (report["accepted"], report["refused"]) == (2, 1)
        smsc.has(messages=3 + 5 + 2)
        wait_until(lambda: len(engine.events("answered", "answer-unrouted")) == 4, "the answers")
        assert "Traceback" not in engine.log_text(), engine.log_text()
        answered = {(event["destination"], event["text"]) for event in engine.events("answered")}
        assert answered == {("account:load", word) for word in ("STOP", "Стоп", "СТАРТ", "Help?")}
        engine.accounted_for()
        assert not engine.events("answer-unrouted"), "what follows a confirmation is for the same application"
        stopped = [(event["recipient"], event["type"]) for event in engine.events("opted-out", "opted-in")]
        assert Counter(stopped) == {
            (f"+{STOPS}", "opted-out"): 1, (f"+{STOPS_AND_STARTS}", "opted-out"): 1,
            (f"+{STOPS_AND_STARTS}", "opted-in"): 1,
        }  # fmt: skip
        smsc.stop()
    # Without the second Hello, which is the same as the first.
    sent = Counter(line.split()[1] for line in (tmp_path / "smsc" / "ids").read_text().splitlines())
    assert sent == {STOPS: 1 + 1, STOPS_AND_STARTS: 1 + 2 + 1, ASKS: 1 + 1}


@contextlib.contextmanager
def application(path: Path) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """An HTTPS server with a certificate of its own, in path/cert: its port, and what it was posted."""
    posted: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(OSError):  # who does not trust us hangs up
                super().handle()

    for name, pem in zip(("cert", "key"), self_signed("localhost"), strict=True):
        (path / name).write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path / "cert", path / "key")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1], posted
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("trusted", [True, False])
def test_a_keyword_goes_to_an_application_whose_certificate_is_verified(tmp_path: Path, trusted: bool) -> None:
    port = free_port()
    with contextlib.ExitStack() as stack:
        web_port, posted = stack.enter_context(application(tmp_path))
        smsc = stack.enter_context(sink(tmp_path / "smsc", "--smpp", f"--answer={VOTES}=vote yes x1", save=False))
        keyword = f'[[keyword]]\nword = "VOTE"\nurl = "https://localhost:{web_port}/votes"\nallow_private = true'
        trust = {"SSL_CERT_FILE": str(tmp_path / "cert")} if trusted else {}
        engine = stack.enter_context(daemon(tmp_path / "engine", settings(port, smsc, keyword), **trust))
        submit(port, tmp_path / "accepted", 4)
        if trusted:
            wait_until(lambda: posted, "the vote")
            assert (posted[0]["text"], posted[0]["keyword"]) == ("vote yes", "VOTE")
        else:
            [failed] = wait_until(lambda: engine.events("answer-failed"), "that it is not posted")
            assert "certificate" in failed["reply"].lower()
            assert not posted
