"""Suppressed between admission and the wire: what a courier and an agent still find out, and what they do then."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from engine.base.clock import SystemClock
from engine.base.errors import StorageError
from engine.base.metrics import Metrics
from engine.base.settings import Settings
from engine.delivery.agent import Agent, Kit
from engine.delivery.courier import Courier
from engine.delivery.return_paths import SenderPaths
from engine.delivery.settlement import Timing
from engine.message.outcome import Status
from engine.net.stream import connect
from engine.queue.budget import Lease
from engine.queue.ready import ReadyQueue
from engine.routing.plan import Limits, Plan, Source
from engine.storage.spool.entry import State
from tests.support.queue import Stage, stage
from tests.support.smtp_script import CONTENT, CONTEXTS, Peer, envelope, run, scripted, take

BOB, CARL = "bob@one.test", "carl@one.test"


class Unwanted:
    """Those in `addresses`; fault: the table does not answer."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = set(addresses)
        self.fault = False

    def mail(self, address: str, tenant: str = "", stream: str = "") -> bool:
        if self.fault:
            raise StorageError("no table")
        return address in self.addresses

    async def why(self, address: str, tenant: str = "", stream: str = "") -> str:
        return "unwanted"


def kit(s: Any, unwanted: Unwanted) -> Kit:
    """s: what has the other parts."""
    nothing: Any = None
    return Kit(
        settings=s.settings, spool=s.spool, settlement=s.settlement, signer=nothing, budget=nothing,
        return_paths=SenderPaths(s.settings, {1: bytes(32)}), posters={},
        metrics=s.metrics, clock=s.clock, rng=random.Random(1), contexts=CONTEXTS, open_stream=connect,
        suppressions=unwanted,
    )  # fmt: skip


def agent_to(endpoint: Any, unwanted: Unwanted) -> Agent:
    """With what a transaction needs of its kit and its queue."""
    plan = Plan(
        destination="one.test", site="mx.one.test", provider="other", hosts=((endpoint,),), tls="none",
        source=Source(name="default", ehlo="out.test"), credentials=None, stop=(), expires_at=float("inf"),
        limits=Limits(key="mx.one.test", connections=1, messages_per_connection=100, rate=None),
    )  # fmt: skip
    queue: Any = SimpleNamespace(plan=plan)
    nothing: Any = SimpleNamespace(
        settings=Settings(), spool=None, settlement=None, metrics=Metrics(), clock=SystemClock()
    )  # fmt: skip
    return Agent(kit(nothing, unwanted), queue)


def test_who_is_suppressed_while_the_connection_is_made_is_not_named_on_it() -> None:
    unwanted = Unwanted()

    async def server(peer: Peer) -> None:
        unwanted.addresses.add(BOB)
        await peer.greet("PIPELINING")
        await take(peer)
        assert [line for line in peer.heard if line.startswith(b"RCPT")] == [b"RCPT TO:<carl@one.test>"]
        await peer.rest()

    async def story() -> None:
        async with scripted(server) as endpoint:
            agent = agent_to(endpoint, unwanted)
            mail = envelope(BOB, CARL)
            outcomes = await agent._send(mail, (0, 1), b"", CONTENT, Timing(0.0))
            fates = {outcome.index: (outcome.status, outcome.reply) for outcome in outcomes}
            assert fates[0] == (Status.SUPPRESSED, "unwanted") and fates[1][0] is Status.DELIVERED
            unwanted.addresses.add(CARL)
            outcomes = await agent._send(mail, (1,), b"", CONTENT, Timing(0.0))
            assert [outcome.status for outcome in outcomes] == [Status.SUPPRESSED]
            unwanted.fault = True
            with pytest.raises(StorageError):  # nothing is sent on a guess
                await agent._send(mail, (1,), b"", CONTENT, Timing(0.0))
            agent.abort()

    run(story)


class Refusing(Courier):
    """Connects to nobody."""

    def attempt(self, queue: ReadyQueue, lease: Lease) -> None:
        lease.release()
        queue.left()


@pytest.mark.parametrize(
    ("lifted", "fault", "settled", "left"),
    [
        ((), False, (BOB, CARL), 1),
        ((BOB, CARL), False, (), 2),
        ((CARL,), False, (BOB,), 2),
        ((), True, (), 2),
    ],
    ids=["all", "lifted meanwhile", "one lifted meanwhile", "the table does not answer"],
)
def test_who_is_refused_on_acceptance_is_settled_without_an_attempt(
    tmp_path: Path, lifted: tuple[str, ...], fault: bool, settled: tuple[str, ...], left: int
) -> None:
    """And Q3: who is not to be settled after all goes on like the others of the message."""

    async def story(s: Stage) -> None:
        unwanted = Unwanted(*{BOB, CARL}.difference(lifted))
        unwanted.fault = fault
        courier = Refusing(kit(s, unwanted))
        s.manager.start(courier)
        mail = msgspec.structs.replace(envelope(BOB, CARL, "dora@one.test"), id=s._source.next(), sender="")
        await s.spool.accept(mail, CONTENT, [("one.test", (2,)), ("one.test", (0, 1))], unwanted=1)
        await courier.catch_up()
        assert s.manager.tally.suppressed == len(settled)
        told = [line for line in s.lines if "status=suppressed (unwanted)" in line]
        assert [f"to=<{address}>" in line for line, address in zip(told, settled, strict=True)] == [True] * len(told)
        assert sum(s.manager.counts()) == left and s.manager.counts()[State.ATTEMPT] == 0
        assert s.manager.tally.as_row(s.manager.queued())["balanced"]

    with stage(tmp_path) as s:
        s.run(story(s))
