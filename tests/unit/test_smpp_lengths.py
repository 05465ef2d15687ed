"""Wrong lengths inside a message: refused of a client, so that nothing is lost; read as far as can be of a carrier."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.protocol.smpp_codec import encode
from engine.protocol.smpp_frames import PduParser
from engine.protocol.smpp_lengths import mended, wrong_length
from engine.protocol.smpp_multi import SmeAddress
from engine.protocol.smpp_pdu import DataSm, DeliverSm, Pdu, ReplaceSm, SubmitMulti, SubmitSm
from engine.protocol.smpp_tables import TAGS, status_name
from engine.protocol.sms_udh import MESSAGE_PAYLOAD
from tests.support.smpp_intake import Client, play, sm, taking

VENDOR = (0x1400, b"1101\0")
USER = TAGS["user_message_reference"]


def head(tag: int, length: int) -> bytes:
    return tag.to_bytes(2, "big") + length.to_bytes(2, "big")


def with_end(wire: bytes, end: bytes) -> bytes:
    """The PDU with more at its end, and a command_length to match."""
    return (len(wire) + len(end)).to_bytes(4, "big") + wire[4:] + end


def short_by(octets: int) -> Callable[[bytes], bytes]:
    """sm_length says so many less than there are; the message is at the end, and shorter than 16."""

    def change(wire: bytes) -> bytes:
        text = b"hello world, hi"
        at = wire.rindex(bytes((len(text),)) + text)
        return wire[:at] + bytes((len(text) - octets,)) + wire[at + 1 :]

    return change


def ending(end: bytes) -> Callable[[bytes], bytes]:
    return lambda wire: with_end(wire, end)


def read(pdu: Pdu, change: Callable[[bytes], bytes]) -> Any:
    parser = PduParser()
    parser.feed(change(encode(pdu)))
    return parser.next_pdu()


async def ask(client: Client, pdu: Pdu, change: Callable[[bytes], bytes]) -> str:
    answer = client.ask_soon(pdu)
    out = client.wire.session._out
    out[-1] = change(out[-1])
    return status_name((await answer).command_status)


TEXT = sm(b"hello world, hi")
MULTI = SubmitMulti(
    source_addr=b"Acme", dest_addresses=(SmeAddress(1, 1, b"447700900123"),), short_message=b"hello world, hi"
)
DATA = DataSm(source_addr=b"Acme", destination_addr=b"447700900123")
CASES = [
    (TEXT, short_by(12), "ESME_RINVMSGLEN"),
    (MULTI, short_by(3), "ESME_RINVMSGLEN"),
    (TEXT, ending(b"x"), "ESME_RINVMSGLEN"),
    (TEXT, ending(head(USER, 20) + b"\0\1"), "ESME_RINVPARLEN"),
    (TEXT, ending(head(0x1401, 5) + b"1102"), "ESME_RINVPARLEN"),
    (sm(b""), ending(head(MESSAGE_PAYLOAD, 100) + b"hello"), "ESME_RINVPARLEN"),
    (DATA, ending(head(MESSAGE_PAYLOAD, 6) + b"hello"), "ESME_RINVPARLEN"),
    (DATA, ending(b"\4\x24"), "ESME_RINVOPTPARSTREAM"),
    (sm(b"hello", tlvs=(VENDOR,)), ending(b"abcdef"), "ESME_RINVOPTPARSTREAM"),
]


@pytest.mark.parametrize(("pdu", "change", "status"), CASES)
def test_a_client_is_told_and_its_session_goes_on(
    tmp_path: Path, pdu: Pdu, change: Callable[[bytes], bytes], status: str
) -> None:
    async def story() -> None:
        async with taking(tmp_path) as intake, intake.bound() as client:
            assert await ask(client, pdu, change) == status
            assert not intake.accepted and intake.rejected("sms-syntax") == 1
            assert (await client.submit()).command_status == 0

    play(story)


@pytest.mark.parametrize(
    "end",
    [b"\0", b"\0\0\0\0", head(0xFFFF, 1) + b"x", head(0x1400, 0), head(USER, 2) + b"\0\1" + head(USER, 2) + b"\0\2"],
)
def test_what_vendors_put_there_in_whole_is_taken(tmp_path: Path, end: bytes) -> None:
    async def story() -> None:
        async with taking(tmp_path) as intake, intake.bound() as client:
            assert await ask(client, TEXT, ending(end)) == "ESME_ROK"
            assert [sms.text for _, _, sms in intake.stored()] == ["hello world, hi"]

    play(story)


def test_a_replacement_is_looked_at_in_the_same_way() -> None:
    pdu = read(ReplaceSm(short_message=b"hello world, hi"), short_by(12))
    assert status_name(wrong_length(pdu)) == "ESME_RINVMSGLEN"
    assert wrong_length(read(SubmitSm(), lambda wire: wire)) == 0


@pytest.mark.parametrize(
    ("pdu", "change", "message"),
    [
        (DeliverSm(short_message=b"hello world, hi"), short_by(12), b"hello world, hi"),
        (DeliverSm(), ending(head(MESSAGE_PAYLOAD, 100) + b"hello"), b"hello"),
        (DataSm(tlvs=(VENDOR,)), ending(head(MESSAGE_PAYLOAD, 100) + b"hello"), b"hello"),
    ],
)
def test_of_a_carrier_as_much_as_there_is_is_read(pdu: Pdu, change: Callable[[bytes], bytes], message: bytes) -> None:
    """A message from a phone comes once."""
    after = mended(read(pdu, change))
    assert (after.tlv(MESSAGE_PAYLOAD), after.rest) == (message, b"")
    assert getattr(after, "short_message", b"") == b""


@pytest.mark.parametrize(
    ("pdu", "end"),
    [
        (DeliverSm(short_message=b"hello"), head(USER, 20) + b"\0\1"),
        (DeliverSm(short_message=b"hello", tlvs=(VENDOR,)), b"abcdef"),
        (DeliverSm(short_message=b"hello"), head(MESSAGE_PAYLOAD, 100) + b"other"),
        (DataSm(), head(MESSAGE_PAYLOAD, 100)),
    ],
)
def test_what_is_not_its_text_stays_raw_beside_it(pdu: Pdu, end: bytes) -> None:
    before = read(pdu, ending(end))
    assert mended(before) == before and before.rest == end
