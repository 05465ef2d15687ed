"""What an operator does to a tenant, a batch, a class: hold, purge, bounce, move; and what it leaves alone.

By the commands, as typed, on mail whose own relay is down; with a restart in between, and mail that comes later.
"""

import contextlib
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.tools.certificate import self_signed
from tests.support.client import Client, letter
from tests.support.engine import Daemon, Sink, daemon, sink
from tests.support.ports import free_port
from tests.support.relay import route

#: What is sent, one of each: the sender's login, batch, class.
KINDS = [
    (tenant, batch, kind)
    for tenant in ("acme", "umbrella")
    for batch in ("spring", "autumn")
    for kind in ("bulk", "transactional")
]
SCOPES = {"tenant:acme": "acme", "batch:spring": "spring", "class:bulk": "bulk"}


class House:
    """An engine whose mail cannot go out by its route, and a sink that mail can be moved to. sent: kinds by id."""

    def __init__(self, engine: Daemon, other: Sink, door: int) -> None:
        self.engine, self.other, self._door = engine, other, door
        self.sent = {self.send(*kind): kind for kind in KINDS}
        engine.until(deferred=1)

    def send(self, tenant: str, batch: str, kind: str) -> str:
        """A message of this kind; its id."""
        fields = (f"X-Postrider-Batch: {batch}", f"X-Postrider-Class: {kind}")
        with Client(self._door) as client:
            client.smtp.starttls(context=ssl._create_unverified_context())
            client.smtp.ehlo()
            client.smtp.user, client.smtp.password = tenant, "correct horse"
            client.smtp.auth("PLAIN", client.smtp.auth_plain)
            return client.submit("ada@home.test", "bob@example.test", letter("hello", "ada@home.test", *fields))

    def rows(self, *command: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.engine.run(*command, "--json").stdout.splitlines()]

    def row(self, *command: str) -> dict[str, Any]:
        (only,) = self.rows(*command)
        return only

    def states(self) -> dict[str, str]:
        return {line["id"]: line["state"] for line in self.rows("list")}

    def of(self, scope: str) -> set[str]:
        """The ids that were sent and are in a scope."""
        return {message_id for message_id, kind in self.sent.items() if SCOPES[scope] in kind}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    door, nobody = free_port(), free_port()
    for name, pem in zip(("cert", "key"), self_signed("mx.test"), strict=True):
        (tmp_path / f"{name}.pem").touch(mode=0o600)
        (tmp_path / f"{name}.pem").write_bytes(pem)
    listener = f"""
        [[listener]]
        kind = "smtp"
        address = "127.0.0.1:{door}"
        tls = {{ cert = "{tmp_path}/cert.pem", key = "{tmp_path}/key.pem" }}
        """
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(sink(tmp_path / "other"))
        settings = listener + route(f"127.0.0.1:{nobody}", "example.test") + route(other.address, "home.test")
        engine = stack.enter_context(daemon(tmp_path / "engine", settings))
        for tenant in ("acme", "umbrella"):
            engine.run("credential", "add", tenant, "--password-stdin", stdin="correct horse\n")
        yield House(engine, other, door)


@pytest.mark.parametrize("scope", SCOPES)
def test_hold_and_resume(house: House, scope: str) -> None:
    assert house.row("hold", scope)["deliveries"] == 4
    later = house.send(*next(kind for kind in KINDS if SCOPES[scope] in kind))
    for _ in range(2):
        states = house.states()
        assert {message_id for message_id, state in states.items() if state == "held"} == house.of(scope) | {later}
        assert len(states) == 9
        assert f"held by an operator ({scope})" in house.row("why", later)["limit"]
        assert house.engine.stop() == 0
        house.engine.start()
    assert house.row("resume", scope) == {"deliveries": 5, "in_attempt": 0, "held": 0}
    assert "held" not in house.states().values()


@pytest.mark.parametrize("scope", SCOPES)
def test_purge_and_what_comes_later_stays(house: House, scope: str) -> None:
    assert house.row("purge", scope) == {"deliveries": 4, "in_attempt": 0}
    later = house.send(*next(kind for kind in KINDS if SCOPES[scope] in kind))
    house.engine.books(queued=5)
    assert set(house.states()) == {*house.sent, later} - house.of(scope)
    for message_id in house.of(scope):
        assert house.engine.fates(message_id)["bob@example.test"][-1] == "removed"
    assert house.engine.run("purge", scope.replace(":", ":x"), check=False).returncode == 1, "there is no such thing"


def test_bounce_of_a_batch_tells_its_senders(house: House) -> None:
    assert house.row("bounce", "batch:spring", "--reason", "sold out") == {"deliveries": 4, "in_attempt": 0}
    house.engine.books(queued=4)
    reports = house.other.messages()
    assert len(reports) == 4
    assert all(b"returned by an operator: sold out" in content for _, content in reports)
    assert house.engine.fates(min(house.of("batch:spring")))["bob@example.test"][-1] == "failed"


@pytest.mark.parametrize("scope", SCOPES)
def test_move_sends_it_by_another_relay_and_the_rest_waits(house: House, scope: str) -> None:
    house.row("hold", "--all")
    assert house.row("move", scope, "--relay", house.other.address) == {"deliveries": 4, "in_attempt": 0}
    assert {line["via"]: line["held"] for line in house.rows("queues")} == {None: 4, house.other.address: 4}
    assert house.engine.stop() == 0
    house.engine.start()
    assert {line["via"]: line["held"] for line in house.rows("queues")} == {None: 4, house.other.address: 4}
    house.row("resume", "--all")
    house.row("retry", "--all")
    house.engine.until(delivered=4)
    house.engine.books(queued=4)
    assert set(house.states()) == set(house.sent) - house.of(scope)
    assert all(b"X-Postrider-" not in content for _, content in house.other.messages())


def test_move_and_back(house: House) -> None:
    house.row("hold", "--all")
    house.row("move", "tenant:acme", "--relay", house.other.address)
    house.row("move", "tenant:acme", "--relay", "")
    assert {line["via"]: line["held"] for line in house.rows("queues")} == {None: 8}
    assert house.row("status")["orders"] <= 1
    assert house.engine.run("move", "tenant:acme", "--relay", "nonsense", check=False).returncode == 1
