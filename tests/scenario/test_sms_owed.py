"""What an application is owed waits for it, however often it loses its connection or says that it cannot take it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from engine.protocol.smpp_pdu import DeliverSm, DeliverSmResp, Unbind
from engine.protocol.smpp_tables import STATUSES
from tests.support.engine import PATIENCE_S, Daemon, Sink, daemon, sink, wait_until
from tests.support.ports import free_port
from tests.support.smpp_intake import Client, bound, sm, until


def settings(port: int, *smscs: Sink) -> str:
    carriers = "".join(
        f"""
[[carrier]]
name = "c{smsc.port}"
host = "127.0.0.1"
port = {smsc.port}
system_id = "us"
password = "secret"
"""
        for smsc in smscs
    )
    return f"""
[[listener]]
kind = "smpp"
address = "127.0.0.1:{port}"

[[account]]
system_id = "app"
password = "secret"
{carriers}"""


async def receipt(client: Client) -> DeliverSm:
    """What it is sent next."""
    await until(lambda: client.unasked)
    pdu = client.unasked.pop()
    assert isinstance(pdu, DeliverSm), pdu
    return pdu


async def lose(client: Client, pdu: DeliverSm) -> None:
    client.wire.abort()


async def refuse(client: Client, pdu: DeliverSm) -> None:
    client.wire.respond(pdu, DeliverSmResp(command_status=STATUSES["ESME_RX_T_APPN"]))
    await asyncio.sleep(0.1)  # its answer is on disk, and the next try far away
    client.wire.abort()


async def story(port: int, *fates: Callable[[Client, DeliverSm], Awaitable[None]]) -> None:
    client = await bound(port)
    message_id = (
        await client.ask(sm(source_addr=b"436600000009", source_addr_ton=1, source_addr_npi=1, registered_delivery=1))
    ).message_id
    async with asyncio.timeout(PATIENCE_S / 2):
        for fate in fates:
            pdu = await receipt(client)
            assert message_id in pdu.short_message
            await fate(client, pdu)
            client = await bound(port)
        pdu = await receipt(client)
        assert message_id in pdu.short_message
        client.wire.respond(pdu, DeliverSmResp())
        await client.ask(Unbind())


def told(engine: Daemon) -> list[str]:
    return [event["type"] for event in engine.events() if event["destination"].startswith("account:")]


def test_a_receipt_waits_however_often_the_connection_is_lost(tmp_path: Path) -> None:
    """It goes at once when the application is bound again; nothing of mail's rule of two."""
    port = free_port()
    with sink(tmp_path / "smsc", "--smpp", save=False) as smsc, daemon(tmp_path, settings(port, smsc)) as engine:
        asyncio.run(story(port, lose, lose, lose))
        wait_until(lambda: told(engine) == ["unknown"] * 3 + ["handed-over"], "the receipt")
        engine.empty()
        assert "end of data" not in engine.log_text() and engine.metrics()["internal_errors"] == 0


def test_a_receipt_that_is_put_off_goes_when_the_application_is_bound_again_and_to_no_carrier(tmp_path: Path) -> None:
    port = free_port()
    with (
        sink(tmp_path / "a", "--smpp", save=False) as first,
        sink(tmp_path / "b", "--smpp", save=False) as second,
        sink(tmp_path / "c", "--smpp", save=False) as third,
        daemon(tmp_path, settings(port, first, second, third)) as engine,
    ):
        wait_until(lambda: all(row["state"] == "bound" for row in engine.ask("binds")), "all carriers")
        asyncio.run(story(port, refuse, refuse))
        wait_until(lambda: told(engine) == ["deferred"] * 2 + ["handed-over"], "the receipt")
        engine.empty()
        assert sum(smsc.status()["messages"] for smsc in (first, second, third)) == 1


def test_an_application_that_answers_nothing_for_a_while_loses_nothing(tmp_path: Path) -> None:
    """Its window is full of receipts that were to be taken at once; those in the spool go on when it answers."""
    port, count = free_port(), 70

    async def slow(engine: Daemon) -> None:
        client = await bound(port)
        ids = {(await client.ask(sm(b"%d" % n, registered_delivery=1))).message_id for n in range(count)}
        await until(lambda: len(client.unasked) == 50)
        await asyncio.to_thread(wait_until, lambda: engine.status()["queued"] == count, "all in the spool")
        told: set[bytes] = set()
        async with asyncio.timeout(PATIENCE_S):
            while len(told) < count or client.unasked:
                while client.unasked:
                    pdu = client.unasked.pop(0)
                    assert isinstance(pdu, DeliverSm)
                    told.add(pdu.short_message.partition(b" ")[0].removeprefix(b"id:"))
                    client.wire.respond(pdu, DeliverSmResp())
                await asyncio.sleep(0.01)
        await client.ask(Unbind())
        assert told == ids

    with sink(tmp_path / "smsc", "--smpp", save=False) as smsc, daemon(tmp_path, settings(port, smsc)) as engine:
        asyncio.run(slow(engine))
        engine.empty()
        again = [event for event in engine.events("handed-over") if "may have been sent before" in event["reply"]]
        assert engine.tally()["handed-over"] == count and len(again) == engine.tally()["unknown"] == 50
        assert engine.metrics()["internal_errors"] == 0
