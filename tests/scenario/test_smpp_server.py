"""What applications have of the whole daemon: the end of a message that ended here, and a call when receipts wait."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

from engine.protocol.receipt import parse_receipt
from engine.protocol.receipt_states import State
from engine.protocol.smpp_pdu import BindTransmitter, CancelSm, DeliverSm, QuerySm
from engine.protocol.smpp_tables import STATUSES
from tests.support.engine import PATIENCE_S, Daemon, daemon, sink
from tests.support.ports import free_port
from tests.support.smpp_application import Application
from tests.support.smpp_intake import Client, bound, sm, until

T = TypeVar("T")


async def query(client: Client, message_id: bytes) -> Any:
    return await client.ask(QuerySm(message_id=message_id))


def test_a_call_brings_the_receipts_and_a_query_knows_every_end(tmp_path: Path) -> None:
    port, outbind = free_port(), free_port()

    async def story(engine: Daemon) -> None:
        called = Application()
        called.port = outbind
        await called.open()
        client = await bound(port, kind=BindTransmitter)
        await until(lambda: engine.ask("binds")[0]["state"] == "bound")
        later = {"schedule_delivery_time": b"000001000000000R", "registered_delivery": 1}
        cancelled = (await client.ask(sm(**later))).message_id
        assert (await query(client, cancelled)).message_state == State.ENROUTE
        assert (await client.ask(CancelSm(message_id=cancelled))).command_status == 0
        refused = (await client.ask(sm(to=b"447700900666", registered_delivery=1))).message_id
        sent = (await client.ask(sm(registered_delivery=1))).message_id

        want = {cancelled: State.DELETED, refused: State.REJECTED, sent: State.DELIVERED}
        await until(lambda: len(called.received) == 3)
        assert len(called.calls) == 1
        receipts = [pdu for pdu in called.received if isinstance(pdu, DeliverSm)]
        read = [parse_receipt(pdu.short_message, esm_class=pdu.esm_class) for pdu in receipts]
        assert {one.id.encode(): one.state for one in read if one is not None} == want
        for message_id, state in want.items():
            answer = await query(client, message_id)
            assert (answer.message_state, len(answer.final_date)) == (state, 16)
            error = STATUSES["ESME_RINVDSTADR"] if state is State.REJECTED else 0
            assert answer.error_code == error
            assert (await client.ask(CancelSm(message_id=message_id))).command_status == STATUSES["ESME_RCANCELFAIL"]
        client.wire.abort()
        called.close()

    async def absent() -> bytes:
        """Its receipt comes while nobody answers a call."""
        client = await bound(port, kind=BindTransmitter)
        message_id: bytes = (await client.submit(registered_delivery=1)).message_id
        while (await query(client, message_id)).message_state != State.DELIVERED:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        client.wire.abort()
        return message_id

    async def back(message_id: bytes) -> None:
        called = Application()
        called.port = outbind
        await called.open()
        await until(lambda: called.received)
        assert isinstance(called.received[0], DeliverSm) and message_id in called.received[0].short_message
        called.close()

    async def timed(work: Awaitable[T]) -> T:
        async with asyncio.timeout(PATIENCE_S):
            return await work

    with sink(tmp_path / "smsc", "--smpp", "--reply=447700900666=ESME_RINVDSTADR", save=False) as smsc:
        settings = f"""
[[listener]]
kind = "smpp"
address = "127.0.0.1:{port}"

[[account]]
system_id = "app"
password = "secret"
outbind = "127.0.0.1:{outbind}"

[[carrier]]
name = "one"
host = "127.0.0.1"
port = {smsc.port}
system_id = "us"
password = "secret"
"""
        with daemon(tmp_path / "engine", settings) as engine:
            asyncio.run(timed(story(engine)))
            routes = engine.run("sms", "route", "+447700900123").stdout
            assert "1  one  0 a part  every number  bound 1 of 1" in routes
            [event] = engine.events("removed")
            assert event["reply"] == "removed by account app (cancel_sm)"
            waiting = asyncio.run(timed(absent()))
            engine.stop()
            engine.start()  # its queue was closed until somebody looks at it, in an hour
            asyncio.run(timed(back(waiting)))
            assert "Traceback" not in engine.log_text(), engine.log_text()
