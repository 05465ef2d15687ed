"""Our server as smpplib's client, which nobody here wrote, sees it."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from smpplib import client as smpplib_client  # type: ignore[import-untyped]  # it has no annotations
from smpplib import consts, exceptions

from engine.protocol.smpp_events import Answered
from engine.protocol.smpp_pdu import DeliverSm
from tests.support.smpp_intake import GUARD_S, Intake, play, taking, until


def in_thread(intake: Intake, talk: Callable[[Any], Any]) -> "asyncio.Future[Any]":
    """smpplib blocks: it talks in a thread, connected and bound."""

    def run() -> Any:
        client = smpplib_client.Client(*intake.listener.address, timeout=GUARD_S, allow_unknown_opt_params=True)
        client.connect()
        try:
            return talk(client)
        finally:
            client.disconnect()

    return asyncio.get_running_loop().run_in_executor(None, run)


def test_it_binds_submits_and_unbinds(tmp_path: Path) -> None:
    logging.getLogger("smpp").setLevel(logging.CRITICAL)

    def talk(client: Any) -> list[str]:
        ids: list[str] = []
        client.set_message_sent_handler(lambda pdu: ids.append(pdu.message_id.decode()))
        client.bind_transceiver(system_id="app", password="secret")
        for text in (b"one", b"two"):
            client.send_message(
                source_addr_ton=consts.SMPP_TON_ALNUM, source_addr="Acme", dest_addr_ton=consts.SMPP_TON_INTL,
                destination_addr="447700900123", short_message=text, registered_delivery=True,
            )  # fmt: skip
            client.read_once()
        client.unbind()
        return ids

    async def story() -> None:
        async with taking(tmp_path) as intake:
            ids = await in_thread(intake, talk)
            assert ids == [delivery.message.id for delivery in intake.accepted]
            assert [sms.text for _, _, sms in intake.stored()] == ["one", "two"]
            await until(lambda: intake.told == ["+app", "-app"])

    play(story)


def test_it_understands_a_refusal(tmp_path: Path) -> None:
    def talk(client: Any) -> int:
        try:
            client.bind_transceiver(system_id="app", password="wrong")
        except exceptions.PDUError as exc:
            return int(exc.args[1])
        return 0

    async def story() -> None:
        async with taking(tmp_path) as intake:
            assert await in_thread(intake, talk) == consts.SMPP_ESME_RINVPASWD

    play(story)


def test_it_is_sent_what_waits_for_it(tmp_path: Path) -> None:
    def talk(client: Any) -> bytes:
        got: list[bytes] = []
        client.set_message_received_handler(lambda pdu: got.append(pdu.short_message))
        client.bind_receiver(system_id="app", password="secret")
        client.read_once()
        return got[0]

    async def story() -> None:
        async with taking(tmp_path) as intake:
            answered: list[object] = []
            talking = in_thread(intake, talk)
            await until(lambda: intake.binds.receivers("app"))
            [wire] = intake.binds.receivers("app")
            wire.request(DeliverSm(short_message=b"id:1 stat:DELIVRD", esm_class=4), answered.append)
            assert await talking == b"id:1 stat:DELIVRD"
            await until(lambda: answered)
            assert isinstance(answered[0], Answered)

    play(story)
