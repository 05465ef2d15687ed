"""What applications submit over SMPP: what is stored, what is refused and by which status, and when they are told."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from engine.base.errors import StorageError
from engine.base.settings import Account
from engine.base.units import Rate
from engine.message.number import normalise as real
from engine.protocol.smpp_codec import encode
from engine.protocol.smpp_multi import DistributionList, SmeAddress
from engine.protocol.smpp_pdu import (
    BindReceiver,
    BindTransceiver,
    DataSm,
    DataSmResp,
    DeliverSm,
    EnquireLink,
    SubmitMulti,
)
from engine.protocol.smpp_tables import STATUSES, TAGS, status_name
from engine.protocol.sms_udh import MESSAGE_PAYLOAD
from engine.storage.spool.files import DiskFiles
from tests.support.smpp_intake import ACCOUNT, GUARD_S, Client, Intake, play, sm, taking, until
from tests.support.spool import FaultyFiles

DAY_S = 86400.0
FOUR_PARTS = ((MESSAGE_PAYLOAD, b"x" * 460),)


async def refused(client: Client, pdu: Any) -> str:
    return status_name((await client.ask(pdu)).command_status)


def test_a_message_is_stored_as_it_was_meant_and_gets_our_id(tmp_path: Path) -> None:
    async def story() -> None:
        async with taking(tmp_path) as intake, intake.bound() as client:
            response = await client.submit(
                b"\x00 caf\x05", registered_delivery=1, service_type=b"CMT", protocol_id=3, priority_flag=1,
                tlvs=((0x1400, b"1001"),),
            )  # fmt: skip
            [(destination, numbers, sms)] = intake.stored()
            [delivery] = intake.accepted
            assert response.message_id.decode() == delivery.message.id
            assert (destination, numbers, sms.text) == ("sms:uk", ["+447700900123"], "@ café")
            assert (sms.source, sms.source_ton, sms.source_npi, sms.dest_ton) == ("Acme", 5, 0, 1)
            assert (sms.registered, sms.service_type, sms.protocol_id, sms.priority) == (1, "CMT", 3, 1)
            assert sms.tlvs == ((0x1400, b"1001"),)
            assert delivery.message.hot is not None
            envelope = delivery.message.hot[0]
            assert (envelope.sender, envelope.user, envelope.channel) == ("Acme", "app", "sms")
            assert envelope.expires_at == intake.clock.time() + 72 * 3600
            assert "account=app" in intake.lines[0]
            assert intake.metrics.sms_requests.labels("SubmitSm", "ESME_ROK").value == 1
            assert intake.metrics.accepted.labels("bulk").value == 1

    play(story)


def test_a_data_sm_and_a_payload_are_messages_too(tmp_path: Path) -> None:
    async def story() -> None:
        async with taking(tmp_path) as intake, intake.bound() as client:
            response = await client.ask(
                DataSm(destination_addr=b"447700900123", source_addr=b"1234", tlvs=((MESSAGE_PAYLOAD, b"x" * 400),))
            )
            assert isinstance(response, DataSmResp) and len(response.message_id) == 14
            [(_, _, sms)] = intake.stored()
            assert (sms.text, sms.source, sms.source_ton) == ("x" * 400, "1234", 3)

    play(story)


def test_submit_multi_is_one_message_and_says_who_is_refused(tmp_path: Path) -> None:
    """Two carriers, one number twice, one that is none, one that nobody serves, and a list."""
    handsets = [b"447700900001", b"79161234567", b"447700900001", b"12", b"99999999999"]
    places = tuple(SmeAddress(1, 1, one) for one in handsets)

    async def story() -> None:
        async with taking(tmp_path) as intake, intake.bound() as client:
            pdu = SubmitMulti(
                source_addr=b"Acme", dest_addresses=(*places, DistributionList(b"friends")), short_message=b"hi"
            )
            response = await client.ask(pdu)
            assert response.command_status == 0
            assert [(one.destination_addr, status_name(one.error_status_code)) for one in response.unsuccess_smes] == [
                (b"12", "ESME_RINVDSTADR"), (b"99999999999", "ESME_RINVDSTADR"), (b"friends", "ESME_RINVDLNAME"),
            ]  # fmt: skip
            assert [(destination, numbers) for destination, numbers, _ in intake.stored()] == [
                ("sms:uk", ["+447700900001"]), ("sms:world", ["+79161234567"]),
            ]  # fmt: skip
            assert {delivery.message.id.encode() for delivery in intake.accepted} == {response.message_id}
            none = replace(pdu, dest_addresses=places[3:])
            assert await refused(client, none) == "ESME_RINVDSTADR"
            assert await refused(client, replace(pdu, dest_addresses=())) == "ESME_RINVNUMDESTS"
            assert await refused(client, replace(pdu, dest_addresses=(DistributionList(b"x"),))) == "ESME_RINVDLNAME"

    play(story)


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        ("ESME_RINVDSTADR", {"destination_addr": b"hello"}),
        ("ESME_RINVDSTADR", {"destination_addr": b""}),
        ("ESME_RINVDSTADR", {"destination_addr": b"\xff\xff"}),
        ("ESME_RINVDSTADR", {"destination_addr": b"99999999999"}),
        ("ESME_RINVSRCADR", {"source_addr": b""}),
        ("ESME_RINVSRCADR", {"source_addr": b"twelve chars"}),
        ("ESME_RINVSRCADR", {"source_addr": b"\xc3\xa9"}),
        ("ESME_RINVSRCADR", {"source_addr": b"0000", "source_addr_ton": 1}),
        ("ESME_RINVSRCTON", {"source_addr_ton": 9}),
        ("ESME_RINVSRCNPI", {"source_addr_npi": 200}),
        ("ESME_RINVDSTTON", {"dest_addr_ton": 7}),
        ("ESME_RINVDSTNPI", {"dest_addr_npi": 200}),
        ("ESME_RINVSERTYP", {"service_type": b"\xff"}),
        ("ESME_RINVMSGLEN", {"destination_addr": b"79161234567", "short_message": b"", "tlvs": FOUR_PARTS}),
        ("ESME_RINVMSGLEN", {"short_message": b"", "tlvs": ((MESSAGE_PAYLOAD, b"x" * 64000),)}),
        ("ESME_RINVMSGLEN", {"short_message": b"abc", "data_coding": 8}),
        ("ESME_RINVESMCLASS", {"esm_class": 0x04}),
        ("ESME_RINVREPFLAG", {"replace_if_present_flag": 1}),
        ("ESME_RINVDFTMSGID", {"sm_default_msg_id": 1}),
        ("ESME_RINVPRTFLG", {"priority_flag": 9}),
        ("ESME_RINVREGDLVFLG", {"registered_delivery": 0x80}),
        ("ESME_RINVSCHED", {"schedule_delivery_time": b"tomorrow"}),
        ("ESME_RINVSCHED", {"schedule_delivery_time": b"990000000000000R"}),
        ("ESME_RINVEXPIRY", {"validity_period": b"soon"}),
        ("ESME_RINVEXPIRY", {"validity_period": b"000101000000000+"}),
        ("ESME_RINVEXPIRY", {"validity_period": b"000000000100000R", "schedule_delivery_time": b"000000000200000R"}),
    ],
)  # fmt: skip
def test_what_cannot_be_sent_is_refused_by_its_own_status(tmp_path: Path, status: str, fields: dict[str, Any]) -> None:
    """And the session goes on, with nothing stored."""

    async def story() -> None:
        async with taking(tmp_path) as intake, intake.bound() as client:
            assert await refused(client, sm(**fields)) == status
            assert (await client.submit()).command_status == 0
            assert len(intake.accepted) == 1

    play(story)


def test_a_data_sm_has_its_validity_in_a_tlv(tmp_path: Path) -> None:
    def data(value: bytes) -> DataSm:
        tlvs = ((MESSAGE_PAYLOAD, b"hi"), (TAGS["qos_time_to_live"], value), (0x1400, b"x"))
        return DataSm(destination_addr=b"447700900123", source_addr=b"1234", tlvs=tlvs)

    async def story() -> None:
        async with taking(tmp_path) as intake, intake.bound() as client:
            assert await refused(client, data(bytes(4))) == "ESME_RINVEXPIRY"
            assert await refused(client, data(b"\1")) == "ESME_RINVPARLEN"
            assert await refused(client, data((90).to_bytes(4, "big"))) == "ESME_ROK"
            [(_, _, sms)] = intake.stored()
            assert (sms.validity, sms.tlvs) == (intake.clock.time() + 90, ((0x1400, b"x"),))
            assert intake.accepted[0].message.expires_at == sms.validity

    play(story)


def test_a_sender_with_the_prefix_that_is_dialled_is_a_number(tmp_path: Path) -> None:
    async def story() -> None:
        async with taking(tmp_path) as intake, intake.bound() as client:
            intake.admission._normalise = lambda *number: real(*number, country="GB")
            assert await refused(client, sm(source_addr=b"00447700900999", source_addr_ton=1)) == "ESME_ROK"
            assert await refused(client, sm(source_addr=b"0000", source_addr_ton=3)) == "ESME_ROK"
            assert await refused(client, sm(source_addr=b"000", source_addr_ton=1)) == "ESME_RINVSRCADR"
            kinds = [(sms.source, sms.source_ton) for _, _, sms in intake.stored()]
            assert kinds == [("+447700900999", 1), ("0000", 3)]

    play(story)


def test_parts_are_counted_by_the_rules_of_the_carrier_and_never_cut(tmp_path: Path) -> None:
    async def story() -> None:
        async with taking(tmp_path) as intake, intake.bound() as client:
            for size, expected in ((1530, "ESME_ROK"), (1531, "ESME_RINVMSGLEN")):  # ten parts of 153
                payload = ((MESSAGE_PAYLOAD, b"x" * size),)
                assert await refused(client, sm(b"", tlvs=payload)) == expected
            assert "parts=10" in intake.lines[0]

    play(story)


def test_sender_ids_are_those_of_the_account(tmp_path: Path) -> None:
    account = replace(ACCOUNT, senders=("Acme", "+447700900999"))

    async def story() -> None:
        async with taking(tmp_path, account) as intake, intake.bound() as client:
            assert await refused(client, sm(source_addr=b"Other")) == "ESME_RINVSRCADR"
            for source, ton in ((b"Acme", 0), (b"447700900999", 1), (b"", 0)):
                assert await refused(client, sm(source_addr=source, source_addr_ton=ton)) == "ESME_ROK"
            kinds = [(sms.source, sms.source_ton, sms.source_npi) for _, _, sms in intake.stored()]
            assert kinds == [("Acme", 5, 0), ("+447700900999", 1, 0), ("Acme", 5, 0)]

    play(story)


def test_who_wants_nothing_gets_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with taking(tmp_path) as intake, intake.bound() as client:
            intake.suppressed.add(("Acme", "+447700900123"))
            assert await refused(client, sm()) == "ESME_RINVDSTADR"
            assert intake.rejected("sms-suppressed") == 1
            assert await refused(client, sm(source_addr=b"Other")) == "ESME_ROK"
            intake.suppressed.fault = StorageError("no table")
            assert await refused(client, sm(source_addr=b"Other")) == "ESME_RMSGQFUL"
            assert intake.rejected("sms-storage") == 1

    play(story)


def test_the_quota_of_a_day_is_counted_in_parts(tmp_path: Path) -> None:
    async def story() -> None:
        async with taking(tmp_path, replace(ACCOUNT, quota=3)) as intake, intake.bound() as client:
            long = sm(b"x" * 200)
            assert [await refused(client, pdu) for pdu in (long, long, sm(), sm())] == [
                "ESME_ROK", "ESME_RSUBMITFAIL", "ESME_ROK", "ESME_RSUBMITFAIL",
            ]  # fmt: skip
            intake.clock.advance(DAY_S)
            assert await refused(client, long) == "ESME_ROK"

    play(story)


def test_a_rate_throttles_and_comes_back(tmp_path: Path) -> None:
    async def story() -> None:
        async with taking(tmp_path, replace(ACCOUNT, rate=Rate(5))) as intake, intake.bound() as client:
            answers = [await refused(client, sm()) for _ in range(7)]
            assert answers == ["ESME_ROK"] * 5 + ["ESME_RTHROTTLED"] * 2
            intake.clock.advance(0.5)
            assert [await refused(client, sm()) for _ in range(3)] == ["ESME_ROK"] * 2 + ["ESME_RTHROTTLED"]
            assert intake.rejected("sms-rate") == 3

    play(story)


class HeldFiles(DiskFiles):
    """A disk that syncs nothing until it may."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.may.set()

    def append(self, descriptor: int, pieces: Any) -> None:
        self.may.wait(GUARD_S)
        super().append(descriptor, pieces)


def test_nobody_is_told_before_it_is_durable_and_over_the_window_throttled(tmp_path: Path) -> None:
    """S1, and the window of the account."""
    files = HeldFiles()

    async def story() -> None:
        async with taking(tmp_path, replace(ACCOUNT, window=10), files=files) as intake, intake.bound() as client:
            await client.submit()
            files.may.clear()
            answers = [client.ask_soon(sm()) for _ in range(12)]
            await client.ask(EnquireLink())  # it is answered after they were read
            assert [answer.done() for answer in answers] == [False] * 10 + [True] * 2
            assert {status_name(answer.result().command_status) for answer in answers[10:]} == {"ESME_RTHROTTLED"}
            files.may.set()
            async with asyncio.timeout(GUARD_S):
                assert all([not (await answer).command_status for answer in answers[:10]])
            assert len(intake.accepted) == 11

    play(story)


def test_a_disk_that_fails_is_an_error_and_then_a_full_queue(tmp_path: Path) -> None:
    files = FaultyFiles()
    account = replace(ACCOUNT, quota=10)

    async def story() -> None:
        async with taking(tmp_path, account, files=files) as intake, intake.bound() as client:
            files.fail["sync"] = 1000
            assert await refused(client, sm()) == "ESME_RSYSERR"
            assert await refused(client, sm()) == "ESME_RMSGQFUL"
            assert intake.accepted == []
            assert intake.quota.used("app", intake.clock.time()) == 0  # given back
            files.fail["sync"] = 0
            await until(lambda: intake.spool.refusal() is None)
            assert await refused(client, sm()) == "ESME_ROK"
            assert intake.rejected("sms-storage") == 2

    play(story)


def test_times_relative_and_absolute(tmp_path: Path) -> None:
    async def story() -> None:
        async with taking(tmp_path) as intake, intake.bound() as client:
            now = intake.clock.time()
            await client.submit(schedule_delivery_time=b"000000010000000R", validity_period=b"000000020000000R")
            await client.submit(validity_period=b"990000000000000R")
            [first, second] = intake.accepted
            assert (first.due_at, first.message.expires_at) == (now + 3600, now + 7200)
            assert (second.due_at, second.message.expires_at) == (now, now + 366 * DAY_S)
            assert [sms.schedule for _, _, sms in intake.stored()] == [now + 3600, 0.0]

    play(story)


def test_only_a_transmitter_may_submit(tmp_path: Path) -> None:
    async def story() -> None:
        async with taking(tmp_path) as intake, intake.client():
            reader, writer = await asyncio.open_connection(*intake.listener.address)
            statuses = []
            for pdu in (sm(), BindReceiver(system_id=b"app", password=b"secret"), sm()):
                writer.write(encode(pdu, 1))
                statuses.append(await _status(reader))
            assert statuses == [STATUSES["ESME_RINVBNDSTS"], 0, STATUSES["ESME_RINVBNDSTS"]]
            writer.close()

    play(story)


async def _status(reader: asyncio.StreamReader) -> int:
    async with asyncio.timeout(GUARD_S):
        length = int.from_bytes(await reader.readexactly(4))
        return int.from_bytes((await reader.readexactly(length - 4))[4:8])


async def _raw(intake: Intake) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(*intake.listener.address)
    writer.write(encode(BindTransceiver(system_id=b"app", password=b"secret"), 1))
    assert await _status(reader) == 0
    return reader, writer


def test_odd_clients_get_a_status_and_keep_their_session(tmp_path: Path) -> None:
    """An unknown command, a body that ends too early, a deliver_sm, and a submit byte by byte."""

    async def story() -> None:
        async with taking(tmp_path) as intake:
            reader, writer = await _raw(intake)
            good = encode(sm(), 7)
            unknown = (16).to_bytes(4) + (0x1234).to_bytes(4) + good[8:16]
            short = (20).to_bytes(4) + good[4:20]
            length = bytearray(good)
            length[-6] = 200  # sm_length
            for piece in (unknown, short, bytes(length), encode(DeliverSm(), 9)):
                writer.write(piece)
            assert [status_name(await _status(reader)) for _ in range(4)] == [
                "ESME_RINVCMDID", "ESME_RINVCMDLEN", "ESME_RINVMSGLEN", "ESME_RINVBNDSTS",
            ]  # fmt: skip
            for at in range(len(good)):
                writer.write(good[at : at + 1])
                await writer.drain()
                await asyncio.sleep(0)
            assert await _status(reader) == 0
            writer.write(b"\xff" * 16)  # a command_length that cannot be ends it
            assert status_name(await _status(reader)) == "ESME_RINVCMDLEN"
            assert await reader.read() == b""
            writer.close()
            assert len(intake.accepted) == 1

    play(story)


def test_a_client_that_leaves_before_its_answer_has_its_message_sent(tmp_path: Path) -> None:
    files = HeldFiles()

    async def story() -> None:
        async with taking(tmp_path, files=files) as intake:
            async with intake.bound() as client:
                files.may.clear()
                client.ask_soon(sm())
                await client.ask(EnquireLink())
            await until(lambda: not intake.listener.connections)
            files.may.set()
            await until(lambda: len(intake.accepted) == 1)

    play(story)


def test_many_clients_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with taking(tmp_path, ACCOUNT, Account(system_id="b", password="secret")) as intake:
            async with intake.bound() as one, intake.bound(system_id="b") as two:
                answers = [client.ask_soon(sm(b"%d" % at)) for at in range(500) for client in (one, two)]
                ids = {(await answer).message_id for answer in answers}
            assert len(ids) == 1000 == len(intake.accepted)
            assert {delivery.message.tenant for delivery in intake.accepted} == {"app", "b"}

    play(story)
