"""`postrider sms receipt`: what delivery receipts say.

$ postrider sms receipt <receipts.txt
$ echo 69643a372073746174... | postrider sms receipt --hex
"""

import argparse
import contextlib
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from engine.cli.common import Commands, print_json

if TYPE_CHECKING:
    from engine.protocol.receipt_values import Receipt


def add(subcommands: Commands) -> None:
    """Add the command to `postrider sms`."""
    parser = subcommands.add_parser("receipt", help="read delivery receipts, one a line; print them as JSON lines")
    parser.add_argument("--hex", action="store_true", help="each line is a PDU, or a short_message, in hexadecimal")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0, whatever the lines hold: to say that one is no receipt is an answer."""
    for line in sys.stdin.buffer:
        print_json([_row(line.rstrip(b"\r\n"), args.hex)])
    return 0


def _row(line: bytes, in_hex: bool) -> dict[str, Any]:
    from engine.protocol.receipt import parse_receipt

    receipt: Receipt | None = None
    if not in_hex:
        receipt = parse_receipt(line)
    else:
        with contextlib.suppress(ValueError):
            receipt = _of_bytes(bytes.fromhex(line.decode("ascii")))
    if receipt is None:
        return {"receipt": False}
    meaning = receipt.state.word
    word = receipt.stat.upper()
    return {
        "id": receipt.id,
        "state": meaning if not word or word.isdecimal() else word,
        "meaning": meaning,
        "final": receipt.final,
        "error": receipt.error,
        "submitted_at": _stamp(receipt.submitted_at),
        "done_at": _stamp(receipt.done_at),
    }


def _of_bytes(data: bytes) -> "Receipt | None":
    """Of a whole PDU, which begins with its length, or of the message alone."""
    from engine.protocol.receipt import parse_receipt
    from engine.protocol.smpp_frames import PduParser
    from engine.protocol.smpp_pdu import DataSm, DeliverSm

    if int.from_bytes(data[:4], "big") != len(data):
        return parse_receipt(data)
    parser = PduParser()
    parser.feed(data)
    pdu = parser.next_pdu()
    if not isinstance(pdu, DeliverSm | DataSm):
        return None
    message = pdu.short_message if isinstance(pdu, DeliverSm) else b""
    return parse_receipt(message, data_coding=pdu.data_coding, esm_class=pdu.esm_class, tlvs=dict(pdu.tlvs))


def _stamp(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
