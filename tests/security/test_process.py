"""The process: umask and modes, symbolic links, the operator's door, and what never gets into the log."""

import base64
import contextlib
import errno
import os
import re
import resource
import socket
import stat
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.support.client import Client, Refused, letter, submit
from tests.support.dkim import rsa_key, write_key
from tests.support.engine import POSTRIDER, Daemon, daemon, sink, wait_until
from tests.support.relay import relayed, route

PASSWORD = "correct-horse-battery"
TEXT = b"The quick brown fox is nobody's business.\r\n"


def modes(folder: Path) -> dict[str, int]:
    """Mode of the folder itself and of everything in it, links not followed."""
    paths = [folder, *folder.rglob("*")]
    return {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in paths}


def add_login(engine: Daemon) -> None:
    command = [*POSTRIDER, "credential", "add", "ada", "--password-stdin", "-c", str(engine.config)]
    subprocess.run(command, input=PASSWORD, text=True, check=True, capture_output=True)


def test_everything_in_the_data_directory_is_ours_alone(tmp_path: Path) -> None:
    """Whatever the umask of whoever starts it: directories 0700, files 0600, the socket too."""
    before = os.umask(0)
    try:
        with relayed(tmp_path) as (engine, _):
            add_login(engine)
            submit(engine.port, "ada@home.test", "a@one.test", letter())
            engine.run("hold", "held.test")
            submit(engine.port, "ada@home.test", "a@held.test", letter())
            engine.until(delivered=1)
            engine.kill()
            newest = max((engine.data / "spool" / "0" / "journal").glob("*.log"))
            data = bytearray(newest.read_bytes())
            data[200] ^= 1  # something to be set aside
            newest.write_bytes(data)
            engine.start()
            found = modes(engine.data)
    finally:
        os.umask(before)
    assert {"lock", "tables.db", "admin.sock", "events/0/000000000001.log"} < found.keys()
    assert any(name.startswith("spool/0/journal/damaged/") for name in found)
    wrong = {
        name: oct(mode)
        for name, mode in found.items()
        if mode != (0o700 if (engine.data / name).is_dir() else 0o600) and name != "."  # made by whoever made it
    }
    assert wrong == {}


def test_a_data_directory_made_by_the_daemon_is_closed_to_others(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with daemon(tmp_path) as engine:
            assert stat.S_IMODE(engine.data.stat().st_mode) == 0o700
    finally:
        os.umask(before)


def test_a_data_directory_that_everybody_can_write_to_is_refused(tmp_path: Path) -> None:
    engine = Daemon(tmp_path)
    engine.data.mkdir()
    engine.data.chmod(0o777)
    refused = engine.run("serve", check=False)
    assert (refused.returncode, "everybody can write to the data directory" in refused.stderr) == (1, True)
    assert list(engine.data.iterdir()) == []


def test_clients_leave_files_for_the_spool_and_for_delivery(tmp_path: Path) -> None:
    """A client too many is told so, while a message on its way is delivered; and the next client is served."""
    with sink(tmp_path / "mx") as mx, daemon(tmp_path, route(mx.address)) as engine, contextlib.ExitStack() as stack:
        resource.prlimit(engine.process.pid, resource.RLIMIT_NOFILE, (116, 116))
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", engine.port))) for _ in range(49)]
        greetings = Counter(client.recv(100)[:4] for client in clients)
        assert set(greetings) == {b"220 ", b"421 "} and greetings[b"220 "] > 10
        first = clients[0].makefile("rwb")
        for line in (b"EHLO home.test", b"MAIL FROM:<ada@home.test>", b"RCPT TO:<b@away.test>", b"DATA"):
            first.write(line + b"\r\n")
            first.flush()
            while first.readline()[3:4] == b"-":
                pass
        first.write(letter() + b".\r\n")
        first.flush()
        assert first.readline().startswith(b"250 ")
        mx.has(messages=1)
        stack.close()
        wait_until(lambda: accepted(engine), "a place for a client")


def limited(files: int) -> tuple[str, ...]:
    return ("prlimit", f"--nofile={files}:{files}", *POSTRIDER)


@pytest.mark.parametrize("files", [24, 64, 100])
@pytest.mark.parametrize("workers", [1, 2])
def test_too_few_files_are_refused_at_the_start(tmp_path: Path, files: int, workers: int) -> None:
    """Or it would be ready, and have no place for a client."""
    engine = Daemon(tmp_path, workers=workers)
    command = [*limited(files), "serve", "-c", str(engine.config)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
    line = rf"the limit of open files is {files}, of which .* it must be \d+ or more \(ulimit -n, LimitNOFILE=\)\n"
    assert (refused.returncode, bool(re.fullmatch(line, refused.stderr))) == (2, True), refused.stderr


def test_with_as_many_files_as_it_asks_for_it_serves_clients(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        engine = Daemon(tmp_path, program=limited(120)).start()
        stack.callback(engine.stop)
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", engine.port))) for _ in range(8)]
        assert {client.recv(100)[:4] for client in clients} == {b"220 "}
        (left,) = re.findall(r"open files leaves (\d+) for clients, of .* max_connections = 2000", engine.log_text())
        assert int(left) in range(8, 15)


def accepted(engine: Daemon) -> bool:
    with socket.create_connection(("127.0.0.1", engine.port)) as client:
        return client.recv(100).startswith(b"220 ")


@pytest.mark.parametrize("where", ["spool/0/journal", "events/0", ".", "lock"])
def test_symbolic_links_are_not_followed(tmp_path: Path, where: str) -> None:
    """A file that was replaced by a link: the daemon refuses to start and leaves what it points to alone."""
    target = tmp_path / "target"
    with daemon(tmp_path) as engine:
        submit(engine.port, "ada@home.test", "a@held.test", letter())
    target.write_text("" if where == "." else "precious")
    if where == "lock":
        link = engine.data / "lock"
    elif where == ".":
        link = engine.data / "tables.db"
    else:
        link = max((engine.data / where).glob("*.log"))
    link.unlink()
    link.symlink_to(target)
    refused = engine.run("serve", check=False)
    assert refused.returncode == 1, refused.stderr
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("postrider: ")]
    assert str(link) in line or str(link.parent) in line
    assert target.read_text() in ("precious", "")
    assert target.stat().st_size == (0 if where == "." else 8)


def test_the_events_directory_is_no_link(tmp_path: Path) -> None:
    engine = Daemon(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (engine.data / "events").mkdir(parents=True, mode=0o700)
    (engine.data / "events" / "0").symlink_to(tmp_path / "elsewhere")
    refused = engine.run("serve", check=False)
    assert refused.returncode == 1
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_operators_door_is_closed_to_other_users(tmp_path: Path) -> None:
    """Mode 0600 from the first moment on: the umask makes it so, before chmod says it again."""
    with daemon(tmp_path) as engine:
        door = engine.data / "admin.sock"
        assert stat.S_IMODE(door.stat().st_mode) == 0o600
        if os.geteuid() == 0:
            engine.data.chmod(0o711)  # not even then
            assert knock_as_nobody(engine.data) == errno.EACCES
            assert engine.alive()


def knock_as_nobody(folder: Path) -> int:
    """The error that another user meets at the socket in this folder; 0 for none."""
    child = os.fork()
    if child == 0:
        code = 255
        try:
            os.chdir(folder)
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as door:
                code = door.connect_ex("admin.sock")
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_secrets_are_never_logged(tmp_path: Path) -> None:
    """At the most talkative level: no password of AUTH or of a relay, no key, no text of a message."""
    key = write_key(tmp_path, "dkim.pem", rsa_key())
    (tmp_path / "relay-password").write_text("relay-secret")
    (tmp_path / "relay-password").chmod(0o600)
    with sink(
        tmp_path / "sink", "--login", "us:relay-secret", "--reply", "rcpt:no@*=550 5.1.1 no such user"
    ) as receiver:
        relay = route(receiver.address, username="us", password_file=str(tmp_path / "relay-password"))
        settings = f"""
            [log]
            level = "debug"
            [[dkim]]
            domain = "home.test"
            selector = "s"
            key = "{key}"
            {relay}"""
        with daemon(tmp_path / "engine", settings) as engine:
            add_login(engine)
            content = letter("private subject", body=TEXT)
            with Client(engine.port) as client:
                client.smtp.login("ada", PASSWORD)
                client.submit("ada@home.test", "a@one.test", content)
            with Client(engine.port) as client:
                for attempt in (f"\0ada\0{PASSWORD}-wrong", "\0ada", f"\0ada\0{PASSWORD}\0x", f"ada {PASSWORD}"):
                    blob = base64.b64encode(attempt.encode()).decode()
                    client.smtp.docmd("AUTH", f"PLAIN {blob}")
                client.smtp.docmd("AUTH", f"PLAIN {PASSWORD}")
                client.smtp.docmd(f"AUTH{PASSWORD}")
            submit(engine.port, "ada@home.test", "no@one.test", content)
            submit(engine.port, "ada@home.test", "unsigned@one.test", content.replace(b"ada@home", b"eve@elsewhere"))
            engine.until(delivered=2, failed=1)
            engine.reload()
            engine.stop()
            log = engine.log_text()
    assert "status=sent" in log and "status=bounced" in log and "sasl_username=ada" in log
    pem = Path(key).read_text().splitlines()
    secrets = [PASSWORD, "relay-secret", *pem[1:-1], TEXT.decode().strip(), "private subject"]
    secrets += [base64.b64encode(text.encode()).decode() for text in (f"\0ada\0{PASSWORD}", "\0us\0relay-secret")]
    assert [secret for secret in secrets if secret in log] == []


def test_control_characters_are_escaped(tmp_path: Path) -> None:
    """One event is one line, and no terminal is reprogrammed: addresses, EHLO names, replies, settings."""
    rule = "rcpt:a@*=550 5.1.1 \x1b]0;owned\x07 gone \x9b2J"
    with relayed(tmp_path, "--reply", rule) as (engine, _):
        submit(engine.port, "ada@home.test", "a@one.test", letter())
        with Client(engine.port) as client:
            for command in ("EHLO \x1b[2J", "MAIL FROM:<\x1b[2J@home.test>", 'MAIL FROM:<"\x07"@home.test>', "\x1b[2J"):
                client.smtp.docmd(command)
            client.smtp.docmd("MAIL", "FROM:<ada@home.test> ENVID=+1B[2J")
            client.smtp.docmd("RCPT", "TO:<b@one.test> ORCPT=rfc822;+1B[2J")
            client.smtp.rset()
            with pytest.raises(Refused):
                client.submit("ada@home.test\x00", "b@one.test", letter())
        engine.until(failed=1)
        engine.config.write_text(engine.config.read_text() + '\n["\\u001b[2J"]\n')
        engine.reload()
        assert engine.stop() == 0
        log = engine.log_text()
    assert re.findall(r"[^\x20-\x7e\n]", log) == []
    assert all(re.match(r"\d{4}-\d\d-\d\dT[\d:.]+ postrider\[\d+\]: ", line) for line in log.splitlines())
    assert "\\x1b]0;owned\\x07 gone" in log
