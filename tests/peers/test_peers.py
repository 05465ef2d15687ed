"""The whole daemon among programs nobody here wrote: swaks and smtp-source submit, smtp-sink and Postfix receive."""

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.tools.certificate import self_signed
from tests.support.client import Client, letter
from tests.support.dkim import MESSAGES, accepted_by_dkimpy, both_keys, ed_key, rsa_key, write_key
from tests.support.engine import Daemon, Sink, daemon, sink, wait_until
from tests.support.opendkim import verdicts
from tests.support.ports import free_port
from tests.support.postfix import (
    DEFERRED,
    DEFERRED_CONTENT,
    REFUSED_CONTENT,
    REJECTED,
    SLOW_SENDER,
    Postfix,
    SmtpSink,
)
from tests.support.relay import relayed, route
from tests.support.report import Report

LATER = '[retry]\nschedule = "1h*"\n'
ENOUGH_S = 60


def program(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert path, f"{name} is missing; tests/support/packages.sh installs it"
    return path


class Doors:
    """An engine with a listener for every way in; `swaks` gives exit status and dialogue."""

    def __init__(self, engine: Daemon, receiver: Sink, ports: dict[str, int]) -> None:
        self.engine, self.receiver, self.ports = engine, receiver, ports

    def swaks(self, door: str, to: str, *options: str) -> tuple[int, str]:
        command = [
            program("swaks"), "--server", "127.0.0.1", "--port", str(self.ports[door]), "--helo", "client.test",
            "--from", "ada@home.test", "--to", to, "--body", ".dots\n..and more\n", *options,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=ENOUGH_S, stdin=subprocess.DEVNULL)
        return done.returncode, done.stdout + done.stderr

    def content(self, to: str) -> bytes:
        """What arrived for this recipient."""
        self.engine.books()
        (content,) = [content for envelope, content in self.receiver.messages() if to in envelope["recipients"]]
        return content


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    path = tmp_path_factory.mktemp("doors")
    for name, pem in zip(("cert", "key"), self_signed("mx.test"), strict=True):
        (path / f"{name}.pem").touch(mode=0o600)
        (path / f"{name}.pem").write_bytes(pem)
        (path / f"{name}.pem").chmod(0o600)
    tls = f'cert = "{path}/cert.pem", key = "{path}/key.pem"'
    lines = {
        "starttls": f"tls = {{ {tls} }}",
        "implicit": f"tls = {{ {tls}, implicit = true }}",
        "proxy": 'proxy_from = ["127.0.0.1/32"]\nnetworks = ["192.0.2.0/24", "2001:db8::/32"]',
        "xclient": 'xclient_from = ["127.0.0.1/32"]\nnetworks = ["192.0.2.0/24"]',
    }
    ports = {door: free_port() for door in lines}
    listeners = "".join(
        f'[[listener]]\nkind = "smtp"\naddress = "127.0.0.1:{ports[door]}"\n{more}\n' for door, more in lines.items()
    )
    with relayed(path, more=listeners) as (engine, receiver):
        engine.run("credential", "add", "ada", "--password-stdin", stdin="correct horse\n")
        yield Doors(engine, receiver, {"plain": engine.port, **ports})
        engine.books()


@pytest.mark.parametrize(
    ("door", "options", "protocol"),
    [
        ("plain", (), "ESMTP"),
        ("plain", ("--protocol", "SMTP"), "SMTP"),
        ("plain", ("--pipeline",), "ESMTP"),
        ("starttls", ("--tls", "--auth", "PLAIN"), "ESMTPSA"),
        ("starttls", ("--tls", "--auth", "LOGIN"), "ESMTPSA"),
        ("starttls", ("--tls", "--auth", "PLAIN", "--pipeline"), "ESMTPSA"),
        ("implicit", ("--tls-on-connect", "--auth", "LOGIN"), "ESMTPSA"),
        ("implicit", ("--tls-on-connect", "--tls-protocol", "tlsv1_2", "--auth", "PLAIN"), "ESMTPSA"),
    ],
)
def test_swaks_submits(doors: Doors, door: str, options: tuple[str, ...], protocol: str) -> None:
    if "--auth" in options:
        options += ("--auth-user", "ada", "--auth-password", "correct horse")
    to = "-".join(option.strip("-") for option in (door, *options[:4])).lower() + "@one.test"
    status, dialogue = doors.swaks(door, to, *options)
    assert status == 0, dialogue
    assert "250 2.0.0 Ok: queued as " in dialogue
    content = doors.content(to)
    assert f"by mx.test with {protocol} id ".encode() in content
    assert content.endswith(b".dots\r\n..and more\r\n\r\n\r\n")


@pytest.mark.parametrize(
    ("door", "options", "reply"),
    [
        ("starttls", (), "530 5.7.0"),
        ("starttls", ("--tls",), "530 5.7.0"),
        ("starttls", ("--tls", "--auth", "PLAIN", "--auth-user", "ada", "--auth-password", "wrong"), "535 5.7.8"),
        ("starttls", ("--tls", "--auth", "LOGIN", "--auth-user", "eve", "--auth-password", "wrong"), "535 5.7.8"),
        ("plain", ("--to", "no at sign@"), "553 5.1.3"),
    ],
)
def test_swaks_is_refused(doors: Doors, door: str, options: tuple[str, ...], reply: str) -> None:
    before = doors.engine.tally()
    status, dialogue = doors.swaks(door, "stranger@one.test", *options)
    assert status != 0
    assert reply in dialogue
    # Of a client that may submit it is told; strangers are nobody's news.
    assert doors.engine.books() == before + Counter(rejected=door == "plain")


@pytest.mark.parametrize(
    ("version", "family", "source", "welcome"),
    [
        ("1", "TCP4", "192.0.2.7", True),
        ("1", "TCP6", "2001:db8::7", True),
        ("1", "TCP4", "198.51.100.7", False),
        ("2", "AF_INET", "192.0.2.8", True),
        ("2", "AF_INET", "198.51.100.8", False),
    ],
)
def test_swaks_behind_a_proxy(doors: Doors, version: str, family: str, source: str, welcome: bool) -> None:
    """The client is who the proxy says it is: in Received, and for the question whether it may submit."""
    target = "2001:db8::1" if ":" in source else "192.0.2.1"
    said = {
        "version": version,
        "family": family,
        "source": source,
        "dest": target,
        "source-port": "4321",
        "dest-port": "25",
    }
    options = [word for name, value in said.items() for word in (f"--proxy-{name}", value)]
    to = f"{version}-{source.replace(':', '-')}@one.test"
    status, dialogue = doors.swaks("proxy", to, *options)
    if not welcome:
        assert status != 0 and "530 5.7.0" in dialogue
        return
    assert status == 0, dialogue
    literal = f"IPv6:{source}" if ":" in source else source
    assert f"(unknown [{literal}])".encode() in doors.content(to)


def test_swaks_says_xclient(doors: Doors) -> None:
    options = ("--xclient-addr", "192.0.2.9", "--xclient-name", "far.example", "--xclient-helo", "far.example")
    status, dialogue = doors.swaks("xclient", "xclient@one.test", *options)
    assert status == 0, dialogue
    assert b"from client.test (far.example [192.0.2.9])" in doors.content("xclient@one.test")


@contextlib.contextmanager
def dumping(*options: str) -> Iterator[tuple[SmtpSink, Path]]:
    """smtp-sink that writes each message to a file in a folder; as root it runs as nobody, who must get there."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        with SmtpSink("-d", f"{folder}/m.", *options) as receiver:
            yield receiver, folder


def dumped(folder: Path) -> dict[str, bytes]:
    """Content by first recipient, with CRLF, without what smtp-sink puts before and behind."""
    found = {}
    for file in folder.iterdir():
        head, _, rest = file.read_bytes().partition(b"Received: from mx.test ([127.0.0.1])\n")
        recipient = head.partition(b"X-Rcpt-Args: <")[2].partition(b">")[0].decode()
        content = rest.partition(b"(UTC)\n")[2]
        found[recipient] = content.removesuffix(b"\n").replace(b"\n", b"\r\n")
    return found


def test_from_smtp_source_to_smtp_sink(tmp_path: Path) -> None:
    """Eight sessions with 600 messages at once, all of them delivered once."""
    source = (
        program("smtp-source"),
        "-d",
        "-l",
        "4096",
        "-m",
        "600",
        "-s",
        "8",
        "-f",
        "a@home.test",
        "-t",
        "b@one.test",
    )
    with contextlib.ExitStack() as stack:
        receiver, folder = stack.enter_context(dumping())
        engine = stack.enter_context(daemon(tmp_path / "engine", route(f"127.0.0.1:{receiver.port}")))
        subprocess.run((*source, f"127.0.0.1:{engine.port}"), check=True, timeout=ENOUGH_S)
        assert engine.books() == {"received": 600, "delivered": 600}
        arrived = [re.findall(rb"by mx\.test with SMTP id (\w+)", file.read_bytes()) for file in folder.iterdir()]
        sent = [[event["message"].encode()] for event in engine.events("received")]
        assert sorted(arrived) == sorted(sent)


#: Ways of smtp-sink, and the words of its receivers' commands that show it.
WAYS = {
    "modern": (),
    "no-esmtp": ("-e",),
    "no-pipelining": ("-p",),
    "no-8bitmime": ("-8",),
    "no-dsn": ("-N",),
    "no-codes": ("-E",),
    "cisco-pix": ("-P",),
}


def test_receivers_of_every_age(tmp_path: Path) -> None:
    """What one does not offer is not used; the message is the same."""
    with contextlib.ExitStack() as stack:
        receivers = {way: stack.enter_context(dumping(*options)) for way, options in WAYS.items()}
        routes = [
            route(f"127.0.0.1:{receiver.port}", f"{way}.test", connections=1)
            for way, (receiver, _) in receivers.items()
        ]
        engine = stack.enter_context(daemon(tmp_path / "engine", "".join(routes)))
        client = stack.enter_context(Client(engine.port))
        content = letter(body=".\r\n..\r\nGrüße\r\n".encode())
        for number in range(3):
            for way in WAYS:
                client.submit("ada@home.test", f"bob{number}@{way}.test", content, "RET=HDRS", "NOTIFY=FAILURE")
        assert engine.books() == {"received": 21, "delivered": 21}
        for way, (_, folder) in receivers.items():
            assert {recipient: content.partition(b"\r\n\r\n")[2] for recipient, content in dumped(folder).items()} == {
                f"bob{number}@{way}.test": ".\r\n..\r\nGrüße\r\n".encode() for number in range(3)
            }, way
            told = "".join(file.read_bytes().decode() for file in folder.iterdir())
            esmtp = way not in ("no-esmtp", "cisco-pix")
            assert ("BODY=8BITMIME" in told) == (esmtp and way != "no-8bitmime")
            assert ("RET=HDRS" in told) == (esmtp and way != "no-dsn")


def test_receivers_in_a_bad_mood(tmp_path: Path) -> None:
    """smtp-sink that refuses, defers, hangs up and says goodbye at a step: nothing is lost, nobody gets it twice."""
    moods = {
        "hard-mail": (("-f", "MAIL"), "failed", "5.3.0"),
        "hard-rcpt": (("-f", "RCPT"), "failed", "5.3.0"),
        "hard-data": (("-f", "DATA"), "failed", "5.3.0"),
        "hard-end": (("-f", "."), "failed", "5.3.0"),
        "soft-mail": (("-r", "MAIL"), "deferred", "4.3.0"),
        "soft-rcpt": (("-r", "RCPT"), "deferred", "4.3.0"),
        "soft-end": (("-r", "."), "deferred", "4.3.0"),
        "hard-hello": (("-f", "EHLO,HELO"), "deferred", "4.3.0"),
        "drop-mail": (("-q", "MAIL"), "deferred", "4.4.2"),
        "drop-data": (("-q", "DATA"), "deferred", "4.4.2"),
        "drop-end": (("-q", "."), "unknown", "4.4.2"),
        "bye-mail": (("-Q", "MAIL"), "deferred", "4.0.0"),
        "bye-end": (("-Q", "."), "deferred", "4.0.0"),
    }
    with contextlib.ExitStack() as stack:
        receivers = {mood: stack.enter_context(SmtpSink(*options)) for mood, (options, _, _) in moods.items()}
        routes = [route(f"127.0.0.1:{receiver.port}", f"{mood}.test") for mood, receiver in receivers.items()]
        engine = stack.enter_context(daemon(tmp_path / "engine", LATER + "".join(routes)))
        client = stack.enter_context(Client(engine.port))
        for mood in moods:
            client.submit("", f"bob@{mood}.test", letter())
        waiting = sum(fate != "failed" for _, fate, _ in moods.values())
        engine.until(failed=4, deferred=8, unknown=1)  # what waits may not have been tried yet
        assert engine.books(waiting) == {"received": 13, "failed": 4, "deferred": 8, "unknown": 1}
        fates = {event["destination"]: event for event in engine.events() if event["type"] != "received"}
        for mood, (_, fate, status) in moods.items():
            event = fates[f"{mood}.test"]
            assert (event["type"], event["status"]) == (fate, status), (mood, event)


def test_postfix_receives_rejects_and_defers(tmp_path: Path) -> None:
    """Over TLS with a certificate we trust: what it takes, what it never takes or not now; and what senders hear."""
    with Postfix(tls="encrypt") as postfix, sink(tmp_path / "home") as home, contextlib.ExitStack() as stack:
        routes = route(home.address, "home.test") + route(home.address, "sender.test")
        routes += route(f"127.0.0.1:{postfix.port}", "example.test", tls="verify", connections=1)
        engine = stack.enter_context(
            daemon(tmp_path / "engine", LATER + routes, SSL_CERT_FILE=str(postfix.certificate))
        )
        client = stack.enter_context(Client(engine.port))
        for number in range(5):
            client.submit("ada@home.test", [f"bob{number}@example.test", "eve@example.test"], letter())
        client.submit("ada@home.test", ["bob@example.test", REJECTED, DEFERRED], letter(), "RET=HDRS ENVID=17")
        slow = client.submit(SLOW_SENDER, "bob@example.test", letter())
        spam = client.submit(REFUSED_CONTENT, "bob@example.test", letter())
        client.submit(DEFERRED_CONTENT, "bob@example.test", letter())
        assert engine.books(queued=3) == {"received": 18, "delivered": 13, "failed": 2, "deferred": 3}
        reports = {Report(content).recipients[0]["Diagnostic-Code"]: Report(content) for _, content in home.messages()}
        assert len(reports) == 2
        (rejected,) = [report for said, report in reports.items() if "no such user here" in " ".join(said.split())]
        assert (rejected.field("Status"), rejected.about["Original-Envelope-Id"]) == (["5.1.1"], "17")
        assert rejected.field("Final-Recipient") == [f"rfc822; {REJECTED}"]
        assert engine.fates(slow) == {"bob@example.test": ["received", "deferred"]}
        assert engine.fates(spam) == {"bob@example.test": ["received", "failed"]}
        assert "greylisted, try again" in engine.run("why", DEFERRED).stdout
        # It delivers after it has accepted: to its own bin, for the 11 it took.
        wait_until(lambda: postfix.log().count("status=sent") >= 11, "Postfix to be done")
        assert postfix.log().count("status=sent") == 11
        assert "TLS connection established from" in postfix.log()


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, bytes], dict[str, bytes]]]:
    """Every shape of message, signed and sent: what came by BDAT to our sink, and by DATA to smtp-sink."""
    path = tmp_path_factory.mktemp("signed")
    keys = "".join(
        f'[[dkim]]\ndomain = "example.org"\nselector = "{selector}"\nkey = "{write_key(path, selector, key)}"\n'
        for selector, key in (("r", rsa_key()), ("e", ed_key()))
    )
    names = {f"{name.replace(' ', '-').replace(',', '')}@bdat.test": name for name in MESSAGES}
    with dumping() as (receiver, folder), sink(path / "sink", "--chunking") as ours:
        routes = route(ours.address, "bdat.test") + route(f"127.0.0.1:{receiver.port}")
        with daemon(path / "engine", keys + routes) as engine, Client(engine.port) as client:
            for address, name in names.items():
                recipients = [address, address.replace("bdat", "data")]
                client.submit("ada@example.org", recipients, MESSAGES[name], "BODY=8BITMIME")
            count = 2 * len(names)
            assert engine.books() == {"received": count, "delivered": count}
            by_data = {names[address.replace("data", "bdat")]: content for address, content in dumped(folder).items()}
            by_bdat = {names[envelope["recipients"][0]]: content for envelope, content in ours.messages()}
            yield by_bdat, by_data


@pytest.mark.parametrize("name", MESSAGES)
def test_signatures_survive_the_way(
    name: str, signed: tuple[dict[str, bytes], dict[str, bytes]], tmp_path: Path
) -> None:
    """rsa-sha256 and ed25519-sha256 on one message, as they arrive: dkimpy and OpenDKIM accept both."""
    for content in (arrived[name] for arrived in signed):
        assert accepted_by_dkimpy(content, both_keys()) == [True, True]
        found = verdicts(content, both_keys(), tmp_path)
        assert {selector: found[selector] for selector in ("r", "e")} == {"r": "pass", "e": "pass"}
