"""Receipts as gateways, SMSCs and simulators are known to write them; values invented."""

import pytest

from engine.protocol.receipt import parse_receipt
from engine.protocol.receipt_states import State

DELIVERED, UNDELIVERABLE, REJECTED = State.DELIVERED, State.UNDELIVERABLE, State.REJECTED

#: Who writes like this; the text; id, state, error, and whether the dates of submission and end are there.
SHAPES: list[tuple[str, str, tuple[str, State, str | None, bool, bool]]] = [
    ("appendix B", "id:1234567890 sub:001 dlvrd:001 submit date:2503141015 done date:2503141016 stat:DELIVRD err:000 "
     "Text: . . .", ("1234567890", DELIVERED, "000", True, True)),
    ("Logica SMSCsim", "id:Smsc2001 sub:1 dlvrd:1 submit date:2503141015 done date:2503141015 stat:DELIVRD err:0 "
     "text:Hi", ("Smsc2001", DELIVERED, "0", True, True)),
    ("SMPPSim", "id:17 sub:001 dlvrd:001 submit date:2503141015 done date:2503141020 stat:UNDELIV err:008 Text:Hi",
     ("17", UNDELIVERABLE, "008", True, True)),
    ("Kannel, opensmppbox", "id:6b29fc40-ca47-1067-b31d-00dd010662da sub:001 dlvrd:000 submit date:250314101500 "
     "done date:250314101502 stat:REJECTD err:069 text:Your code is",
     ("6b29fc40-ca47-1067-b31d-00dd010662da", REJECTED, "069", True, True)),
    ("Jasmin", "id:5b1c4f2e-0f6a-4d9e-8a4b-3f1d2c7e9a10 submit date:2503141015 done date:2503141016 "
     "stat:UNDELIV err:011", ("5b1c4f2e-0f6a-4d9e-8a4b-3f1d2c7e9a10", UNDELIVERABLE, "011", True, True)),
    ("a word nobody knows", "id:9 stat:ESME_RINVDSTADR err:11", ("9", State.UNKNOWN, "11", False, False)),
    ("node-smpp examples", "id:0000000001 sub:001 dlvrd:001 submit date:2503141015 done date:2503141015 stat:ACCEPTD "
     "err:000 text:", ("0000000001", State.ACCEPTED, "000", True, True)),
    ("Net::SMPP examples", "id: 1 sub: 001 dlvrd: 001 submit date: 2503141015 done date: 2503141016 stat: DELIVRD "
     "err: 0 text: hello", ("1", DELIVERED, "0", True, True)),
    ("Infobip-like", "id:40072910491427628 sub:001 dlvrd:001 submit date:2503141015 done date:2503141015 stat:DELIVRD "
     "err:000 ", ("40072910491427628", DELIVERED, "000", True, True)),
    ("Twilio-like", "id:SM1f0e8ae6ade43cb3c0ce4525424e404f sub:001 dlvrd:000 submit date:2503141015 done date:250314"
     "1016 stat:UNDELIV err:30003 text:", ("SM1f0e8ae6ade43cb3c0ce4525424e404f", UNDELIVERABLE, "30003", True, True)),
    ("CLX-like", "id:AAJq7AAAbkz1-4x_Q sub:001 dlvrd:001 submit date:2503141015 done date:2503141016 stat:EXPIRED "
     "err:415 text:no text available", ("AAJq7AAAbkz1-4x_Q", State.EXPIRED, "415", True, True)),
    ("Clickatell-like", "id:c7a2d9b0e1f34a6b8c9d0e1f2a3b4c5d sub:001 dlvrd:001 submit date:2503141215 done date:25031"
     "41216 stat:DELETED err:013 text:x", ("c7a2d9b0e1f34a6b8c9d0e1f2a3b4c5d", State.DELETED, "013", True, True)),
    ("Vonage-like", "id:0C000000A1B2C3D4 sub:001 dlvrd:001 submit date:2503141015 done date:2503141015 stat:FAILED "
     "err:1 text:Hello", ("0C000000A1B2C3D4", UNDELIVERABLE, "1", True, True)),
    ("hexadecimal err", "id:7b sub:001 dlvrd:000 submit date:250314101553 done date:250314101559 stat:UNDELIV "
     "err:0x0000001B text:", ("7b", UNDELIVERABLE, "0x0000001B", True, True)),
    ("Russian operators", "id:4294967296123 sub:001 dlvrd:001 submit date:20250314131553 done date:20250314131558 "
     "stat:DELIVRD err:0 text:Ваш код", ("4294967296123", DELIVERED, "0", True, True)),
    ("CMPP behind SMPP", "id:0314101512345678901 sub:001 dlvrd:000 submit date:2503141015 done date:2503141016 "
     "stat:MK:0001 err:001", ("0314101512345678901", UNDELIVERABLE, "001", True, True)),
    ("CMPP, a code like a label", "id:77 submit_time:2503141015 done_time:2503141016 stat:ID:0076 err:ID:0076",
     ("77", UNDELIVERABLE, "ID:0076", True, True)),
    ("CMPP's field names", "Msg_Id:815 Stat:UNDELIV Submit_time:2503141015 Done_time:2503141017",
     ("815", UNDELIVERABLE, None, True, True)),
    ("CMPP's length", "id:9 submit date:202503141015 done date:202503141016 stat:DELIVRD err:000",
     ("9", DELIVERED, "000", True, True)),
    ("camel case", "Id:9 Sub:001 Dlvrd:001 SubmitDate:2503141015 DoneDate:2503141016 Stat:Delivered Err:000 Text:",
     ("9", DELIVERED, "000", True, True)),
    ("capitals", "ID:9 SUB:001 DLVRD:001 SUBMIT DATE:2503141015 DONE DATE:2503141016 STAT:DELIVRD ERR:000 TEXT:A",
     ("9", DELIVERED, "000", True, True)),
    ("base64 id", "id:aGVsbG8/d29ybGQ+IQ== sub:001 dlvrd:001 stat:DELIVRD err:000",
     ("aGVsbG8/d29ybGQ+IQ==", DELIVERED, "000", False, False)),
    ("dots in the id", "id:10.20.30.40-5 stat:DELIVRD", ("10.20.30.40-5", DELIVERED, None, False, False)),
    ("state first", "stat:DELIVRD err:000 id:9 done date:2503141016", ("9", DELIVERED, "000", False, True)),
    ("numeric state", "id:9 sub:001 dlvrd:000 done date:2503141016 stat:5 err:0",
     ("9", UNDELIVERABLE, "0", False, True)),
    ("numeric state, padded", "id:9 stat:002 err:0", ("9", DELIVERED, "0", False, False)),
    ("status, error code", "message id: 9, status: DELIVERED, error code: 0, done date: 2025-03-14 10:16:00",
     ("9", DELIVERED, "0", False, True)),
    ("two words", "id:9 stat:NOT DELIVERED err:1", ("9", UNDELIVERABLE, "1", False, False)),
    ("no spaces between", "id:9sub:001dlvrd:001submit date:2503141015done date:2503141016stat:5err:000text:x",
     ("9", UNDELIVERABLE, "000", True, True)),
    ("a line each", "id:9\nsub:001\nsubmit date:2503141015\ndone date:2503141016\nstat:DELIVRD\nerr:000\ntext:x",
     ("9", DELIVERED, "000", True, True)),
    ("semicolons", "id:9;sub:001;submit date:2503141015;done date:2503141016;stat:DELIVRD;err:000;",
     ("9", DELIVERED, "000", True, True)),
    ("labels nobody knows", "id:9 imsi:250011234567890 submit date:2503141015 smsc:79001234567 done date:2503141016 "
     "vlr:1 stat:DELIVRD mccmnc:25001 reason:no failure err:000 price:0.03 text:x",
     ("9", DELIVERED, "000", True, True)),
    ("empty values", "id:9 sub: dlvrd: submit date: done date: stat:EXPIRED err: text:",
     ("9", State.EXPIRED, None, False, False)),
    ("said twice", "id:9 err: stat:DELIVRD err:5 stat:UNDELIV id:10", ("9", DELIVERED, "5", False, False)),
    ("underscore of GSM 03.38", "id:a\x11b stat:DND\x11REJECTED", ("a_b", REJECTED, None, False, False)),
    ("words before", "Delivery report: id:9 stat:DELIVRD", ("9", DELIVERED, None, False, False)),
    ("impossible dates", "id:9 submit date:2502301015 done date:9999999999 stat:DELIVRD",
     ("9", DELIVERED, None, False, False)),
]  # fmt: skip


@pytest.mark.parametrize(("text", "want"), [shape[1:] for shape in SHAPES], ids=[shape[0] for shape in SHAPES])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-be"])
def test_the_field(text: str, want: tuple[str, State, str | None, bool, bool], encoding: str) -> None:
    if encoding == "utf-16-be":
        text = text.replace("\x11", "_")
    receipt = parse_receipt(text.encode(encoding))
    assert receipt is not None
    dates = receipt.submitted_at is not None, receipt.done_at is not None
    assert (receipt.id, receipt.state, receipt.error, *dates) == want


def test_counts_are_numbers_or_nothing() -> None:
    for value, count in [("001", 1), ("0", 0), ("", None), ("-1", None), ("x", None), ("٣", None), ("9" * 5000, None)]:
        receipt = parse_receipt(f"id:9 sub:{value} dlvrd:{value} stat:DELIVRD".encode())
        assert receipt is not None and (receipt.sub, receipt.dlvrd) == (count, count)
