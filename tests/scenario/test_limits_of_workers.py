"""Two workers, and the limits are those of the node: of clients, guesses, sites; also when one of them is killed."""

import base64
import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scenario.test_workers import MAKER, serves_again, spread, workers_of
from tests.support.client import Client, letter
from tests.support.engine import PATIENCE_S, Daemon, daemon, wait_until
from tests.support.ports import free_port
from tests.support.relay import relayed, route


@contextlib.contextmanager
def greeted(engine: Daemon) -> Iterator[tuple[socket.socket, bytes]]:
    """A client, and the code it was greeted with."""
    with socket.create_connection(("127.0.0.1", engine.port), PATIENCE_S) as client:
        yield client, client.recv(100)[:3]


def maker_of(client: socket.socket) -> str:
    """Which worker a client is at."""
    with client.makefile("rwb") as stream:
        for line in (b"EHLO home.test", b"MAIL FROM:<ada@home.test>", b"RCPT TO:<bob@one.test>", b"DATA", b"\r\n."):
            stream.write(line + b"\r\n")
            stream.flush()
            while (reply := stream.readline())[3:4] == b"-":
                pass
    return reply.split()[-1].decode()[MAKER]


def test_clients_of_one_address_are_counted_together(tmp_path: Path) -> None:
    """Wherever the kernel takes them to; and a killed worker's clients are counted no more."""
    most = 5
    with daemon(tmp_path, f"[intake]\nmax_connections_per_address = {most}\n", workers=2) as engine:
        with contextlib.ExitStack() as stack:
            come = [stack.enter_context(greeted(engine)) for _ in range(most + 3)]
            assert [code for _, code in come] == [b"220"] * most + [b"421"] * 3
            come[0][0].close()
            wait_until(lambda: stack.enter_context(greeted(engine))[1] == b"220", "the place that became free")
            old = workers_of(engine)
            os.kill(old[1], signal.SIGKILL)
            serves_again(engine, old)
        with contextlib.ExitStack() as stack:
            for _ in range(most):  # as soon as the daemon has seen that the others are gone
                wait_until(lambda: stack.enter_context(greeted(engine))[1] == b"220", "all places")
            assert stack.enter_context(greeted(engine))[1] == b"421"


def test_all_clients_are_counted_together(tmp_path: Path) -> None:
    with daemon(tmp_path, "[intake]\nmax_connections = 3\n", workers=2) as engine, contextlib.ExitStack() as stack:
        codes = [stack.enter_context(greeted(engine))[1] for _ in range(5)]
        assert codes == [b"220"] * 3 + [b"421"] * 2


def test_wrong_passwords_are_counted_together(tmp_path: Path) -> None:
    """Who guessed too often at one worker is not heard by the other."""
    limits = "[intake]\nmax_failed_logins = 9\nmax_failed_logins_per_address = 1\n"
    with daemon(tmp_path, limits, workers=2) as engine, contextlib.ExitStack() as stack:
        clients: dict[str, socket.socket] = {}
        while len(clients) < 2:
            client = stack.enter_context(greeted(engine))[0]
            clients[maker_of(client)] = client
        guess = b"AUTH PLAIN " + base64.b64encode(b"\0ada\0wrong") + b"\r\n"
        one, other = clients.values()
        one.sendall(guess)
        assert one.recv(200).startswith(b"535 ")

        def refused() -> bool:
            other.sendall(guess)
            return other.recv(200).startswith(b"454 4.7.0 Too many failed logins")

        assert refused() or refused()  # the word may be a moment behind


def test_what_a_site_said_to_one_the_other_knows(tmp_path: Path) -> None:
    """A site that one worker found closed is tried by no other."""
    with daemon(tmp_path, route(f"127.0.0.1:{free_port()}"), workers=2) as engine, contextlib.ExitStack() as stack:
        clients: dict[str, Client] = {}
        engine.ask("hold", target="one.test")
        while len(clients) < 2:
            client = stack.enter_context(Client(engine.port))
            clients[client.submit("ada@home.test", "bob@one.test", letter())[MAKER]] = client
        one, other = clients.values()
        failed = [one.submit("ada@home.test", f"r{n}@two.test", letter()) for n in range(5)]
        wait_until(lambda: "site closed" in str(engine.ask("why", what=failed[-1])[0]["limit"]), "a closed site")
        late = other.submit("ada@home.test", "bob@two.test", letter())
        (row,) = engine.ask("show", message_id=late)
        assert row["deliveries"][0]["attempts"] == 0, row
        assert "site closed" in str(engine.ask("why", what=late)[0]["limit"])


@pytest.mark.parametrize("victim", [0, 1])
def test_connections_of_a_killed_worker_come_back(victim: int, tmp_path: Path) -> None:
    """B1: the only connection of a site is lost with its worker, and the other has it; never are there two."""
    with relayed(tmp_path, "--delay", "end-of-data=20ms", workers=2, connections=1, rate="100/s") as (engine, receiver):
        engine.ask("hold", target="one.test")
        count = sum(map(len, spread(engine, 20).values()))
        engine.ask("resume", target="one.test")
        receiver.has(messages=3)
        old = workers_of(engine)
        os.kill(old[victim], signal.SIGKILL)
        serves_again(engine, old)
        engine.empty()
        counts = receiver.has(unique=count)
        assert counts["max_open"] == 1
        assert counts["duplicates"] <= 1, "no more than was in flight"
