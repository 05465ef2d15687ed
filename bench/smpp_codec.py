"""What SMPP's codec and session cost on one core, beside smpplib.

    .venv/bin/python -m bench.smpp_codec

Medians of seven runs. Decoding is from a stream in chunks of 64 KiB, framing included. The bar is issue 4's: 200,000
submit_sm a second.
"""

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

from smpplib import smpp  # type: ignore[import-untyped]  # it has no annotations

from bench.common import ROOT, machine
from engine.protocol.smpp_codec import encode
from engine.protocol.smpp_events import Received
from engine.protocol.smpp_frames import PduParser
from engine.protocol.smpp_pdu import (
    BindTransceiver,
    BindTransceiverResp,
    DataSm,
    DeliverSm,
    DeliverSmResp,
    EnquireLink,
    Pdu,
    SubmitSm,
    SubmitSmResp,
)
from engine.protocol.smpp_session import Session
from engine.protocol.smpp_states import Role, Timers

BAR_PER_S = 200_000
_CHUNK_BYTES = 64 << 10

SUBMIT = SubmitSm(
    sequence_number=7,
    source_addr_ton=5,
    source_addr=b"Postrider",
    dest_addr_ton=1,
    dest_addr_npi=1,
    destination_addr=b"447700900123",
    registered_delivery=1,
    short_message=b"Your parcel is with our driver and comes today between 14:00 and 15:00. Not at home? Answer STOP.",
)
RECEIPT = DeliverSm(
    sequence_number=8,
    source_addr=b"447700900123",
    destination_addr=b"Postrider",
    esm_class=4,
    short_message=b"id:0123456789 sub:001 dlvrd:001 submit date:2601011200 done date:2601011201 stat:DELIVRD err:000",
    tlvs=((0x001E, b"0123456789\0"), (0x0427, b"\2")),
)
PDUS: dict[str, Pdu] = {
    "submit_sm": SUBMIT,
    "submit_sm_resp": SubmitSmResp(sequence_number=7, message_id=b"0123456789"),
    "deliver_sm, 2 TLVs": RECEIPT,
    "deliver_sm_resp": DeliverSmResp(sequence_number=8),
    "data_sm, 1 TLV": DataSm(destination_addr=b"447700900123", tlvs=((0x0424, SUBMIT.short_message),)),
    "enquire_link": EnquireLink(sequence_number=9),
}


def per_second(work: Callable[[], int]) -> float:
    """The median rate of seven runs. work: gives how many it did."""
    rates = []
    for _ in range(7):
        began = time.perf_counter()
        done = work()
        rates.append(done / (time.perf_counter() - began))
    return statistics.median(rates)


def _decoded(stream: bytes) -> int:
    parser, count = PduParser(), 0
    for start in range(0, len(stream), _CHUNK_BYTES):
        parser.feed(stream[start : start + _CHUNK_BYTES])
        while parser.next_pdu() is not None:
            count += 1
    return count


def _encoded(pdu: Pdu) -> int:
    for _ in range(20_000):
        encode(pdu)
    return 20_000


def _by_smpplib(wire: bytes) -> int:
    for _ in range(1000):
        smpp.parse_pdu(wire, sequence=1, allow_unknown_opt_params=True)
    return 1000


def _submitted(window: int) -> int:
    """Through two sessions, a window at a time: sent, read, answered, and the answer read."""
    client = Session(Role.ESME, Timers(), 0, window=window)
    server = Session(Role.SMSC, Timers(), 0)
    answers: dict[type[Pdu], Pdu] = {
        BindTransceiver: BindTransceiverResp(), SubmitSm: SubmitSmResp(message_id=b"0123456789"),
    }  # fmt: skip

    def to_and_fro() -> None:
        server.receive(client.data_to_send(), 0)
        for event in server.events():
            assert isinstance(event, Received)
            server.respond(event.pdu, answers[type(event.pdu)])
        client.receive(server.data_to_send(), 0)

    client.request(BindTransceiver(), 0)
    to_and_fro()
    done = -1  # the bind
    for _ in range(10_000 // window):
        for _ in range(window):
            client.request(SUBMIT, 0)
        to_and_fro()
        done += len(client.events())
    return done


def main() -> int:
    print(machine(ROOT))
    print(f"{'a second':20}{'decoded':>10}{'encoded':>10}{'smpplib decodes':>18}")
    decoded = {}
    for name, pdu in PDUS.items():
        wire = encode(pdu)
        decoded[name] = per_second(partial(_decoded, wire * 20_000))
        encoded, theirs = per_second(partial(_encoded, pdu)), per_second(partial(_by_smpplib, wire))
        print(f"{name:20}{decoded[name]:10,.0f}{encoded:10,.0f}{theirs:18,.0f}")
    for window in (1, 10, 100):
        rate = per_second(partial(_submitted, window))
        print(f"submit_sm and its answer, through a session on both sides, window {window}: {rate:,.0f}/s")
    enough = decoded["submit_sm"] >= BAR_PER_S
    print(f"submit_sm decoded: {decoded['submit_sm']:,.0f}/s, bar {BAR_PER_S:,}/s: {'ok' if enough else 'MISSED'}")
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
