"""`postrider send` against the test MX: what a file becomes on the wire, and what the command says."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.base.errors import NetworkError
from engine.cli.main import main
from engine.tools.certificate import server_context
from engine.tools.sink import Sink
from engine.tools.sink_options import SinkOptions
from engine.tools.sink_rules import Script, parse_reply_rule
from engine.tools.sink_tally import Shelf, Tally
from engine.tools.submit import Server, submit

PLAIN = b"From: a@load.example\nTo: b@x.example\nSubject: hello\n\n.dot\nend\n"


@contextmanager
def running_sink(folder: Path, *rules: str, **options: object) -> Iterator[tuple[str, int]]:
    """A sink in a thread of its own, as `send` blocks."""
    made = SinkOptions(script=Script([parse_reply_rule(rule) for rule in rules]), **options)  # type: ignore[arg-type]
    loop = asyncio.new_event_loop()
    sink = Sink(made, Tally(), Shelf(folder))
    address = loop.run_until_complete(sink.listen("127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield address
    finally:
        asyncio.run_coroutine_threadsafe(sink.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def message(tmp_path: Path) -> Callable[[bytes], str]:
    def write(content: bytes = PLAIN) -> str:
        path = tmp_path / "message.eml"
        path.write_bytes(content)
        return str(path)

    return write


def envelope(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / "00000001.json").read_text()))


def test_line_ends_become_crlf_and_dots_arrive(tmp_path: Path, message: Callable[..., str]) -> None:
    with running_sink(tmp_path / "mail") as (host, port):
        assert main(["send", message(), "--from", "a@x", "--to", "b@x", "c@y", "--server", f"{host}:{port}"]) == 0
    assert (tmp_path / "mail/00000001.eml").read_bytes() == PLAIN.replace(b"\n", b"\r\n")
    assert envelope(tmp_path / "mail")["recipients"] == ["b@x", "c@y"]


def test_the_first_smtp_listener_of_the_settings(tmp_path: Path, message: Callable[..., str]) -> None:
    with running_sink(tmp_path / "mail") as (host, port):
        (tmp_path / "postrider.toml").write_text(
            '[[listener]]\nkind = "http"\naddress = "127.0.0.1:1"\n'
            f'[[listener]]\nkind = "smtp"\naddress = "{host}:{port}"\n'
        )
        command = ["send", message(), "-c", str(tmp_path / "postrider.toml"), "--from", "<>", "--to", "b@x"]
        assert main(command) == 0
    assert envelope(tmp_path / "mail")["sender"] == ""


def test_each_refused_recipient_is_told(
    tmp_path: Path, message: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    with running_sink(tmp_path / "mail", "rcpt:bad*=550 5.1.1 no such user") as (host, port):
        server = ["--server", f"{host}:{port}"]
        assert main(["send", message(), "--from", "a@x", "--to", "b@x", "bad@x", *server]) == 1
        assert "bad@x: refused: 550 5.1.1 no such user" in capsys.readouterr().err
        assert main(["send", message(), "--from", "a@x", "--to", "bad@x", *server, "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert (shown["accepted"], shown["refused"]) == ([], {"bad@x": "550 5.1.1 no such user"})
    assert envelope(tmp_path / "mail")["recipients"] == ["b@x"]


def test_a_refused_message_is_told(
    tmp_path: Path, message: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    with running_sink(tmp_path / "mail", "end-of-data:*=554 5.6.0 no") as (host, port):
        assert main(["send", message(), "--from", "a@x", "--to", "b@x", "--server", f"{host}:{port}"]) == 1
    assert "refused: 554 5.6.0 no" in capsys.readouterr().err


def test_the_queue_id_is_shown(tmp_path: Path, message: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    with running_sink(tmp_path / "mail", "end-of-data:*=250 2.0.0 queued as 0Hs7kQpf3Za2Wq") as (host, port):
        command = ["send", message(), "--from", "a@x", "--to", "b@x", "--server", f"{host}:{port}"]
        assert main(command) == 0
        assert capsys.readouterr().out == "0Hs7kQpf3Za2Wq: queued for b@x\n"
        assert main([*command, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["id"] == "0Hs7kQpf3Za2Wq"


def test_asks_for_what_the_message_needs(tmp_path: Path) -> None:
    content = "From: ä@x\n\nGrüße\n".encode()
    with running_sink(tmp_path / "mail") as (host, port):
        result = submit(Server(host=host, port=port), "ä@x", ["jürgen@x"], content, notify="SUCCESS", envid="a+b")
    assert result.accepted == ["jürgen@x"]
    seen = envelope(tmp_path / "mail")
    assert seen["sender"] == "ä@x"
    assert seen["sender_parameters"] == f"SIZE={len(content) + 3} BODY=8BITMIME SMTPUTF8 ENVID=a+2Bb"
    assert seen["recipient_parameters"] == ["NOTIFY=SUCCESS"]


@pytest.mark.parametrize("lacking", ["eightbit", "smtputf8"])
def test_does_not_send_what_the_server_cannot_take(tmp_path: Path, lacking: str) -> None:
    with (
        running_sink(tmp_path / "mail", **{lacking: False}) as (host, port),
        pytest.raises(NetworkError, match="not off"),
    ):
        submit(Server(host=host, port=port), "ä@x", ["b@x"], "Subject: x\n\nGrüße\n".encode())
    assert not list((tmp_path / "mail").glob("*.eml"))


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_over_tls_and_with_a_login(tmp_path: Path, message: Callable[..., str], tls: str) -> None:
    (tmp_path / "password").write_text("secret\n")
    options = {"tls": server_context("sink.example"), "implicit": tls == "implicit", "login": "ada:secret"}
    with running_sink(tmp_path / "mail", **options) as (host, port):
        login = ["--login", "ada", "--password-file", str(tmp_path / "password"), "--tls", tls]
        command = ["send", message(), "--from", "a@x", "--to", "b@x", "--server", f"{host}:{port}"]
        assert main([*command, *login]) == 0
    assert envelope(tmp_path / "mail")["tls"] is True


def test_all_mistakes_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["send", "/nowhere", "--from", "a@x", "--to", "b <c@x>", "--server", "x", "--notify", "sometimes"]
    assert main(command) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3 and all(line.startswith("postrider: ") for line in said)
    assert said[-1] == "postrider: /nowhere: No such file or directory"


def test_a_password_file_without_a_password(
    tmp_path: Path, message: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "none").touch()
    command = ["send", message(), "--from", "a@x", "--to", "b@x", "--server", "127.0.0.1:1"]
    assert main([*command, "--login", "ada", "--password-file", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err == f"postrider: {tmp_path}/none: there is no password in it\n"


def test_nobody_listens(message: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["send", message(), "--from", "a@x", "--to", "b@x", "--server", "127.0.0.1:1"]) == 1
    assert capsys.readouterr().err == "postrider: 127.0.0.1:1: Connection refused\n"
