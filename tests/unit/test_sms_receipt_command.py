"""`postrider sms receipt`: a JSON line for each line, whatever bytes it holds."""

import io
import json
from typing import Any

import pytest

from engine.cli.main import main
from engine.protocol.smpp_codec import encode
from engine.protocol.smpp_pdu import DataSm, DeliverSm, EnquireLink

TEXT = b"id:7 sub:001 dlvrd:001 submit date:2503141015 done date:250314101559 stat:FAILED err:034 text:Hello"
ROW = {
    "id": "7",
    "state": "FAILED",
    "meaning": "UNDELIV",
    "final": True,
    "error": "034",
    "submitted_at": "2025-03-14T10:15:00Z",
    "done_at": "2025-03-14T10:15:59Z",
}
NONE = {"receipt": False}


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def read(data: bytes, *options: str) -> list[dict[str, Any]]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert main(["sms", "receipt", *options]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return read


def test_one_row_a_line(rows: Any) -> None:
    assert rows(TEXT + b"\r\n\nHello, Bob\n\xff\0id:\xfe\n" + TEXT) == [ROW, NONE, NONE, NONE, ROW]
    assert rows(b"") == []
    assert rows(b"id:\xe9\x01 stat:ENROUTE done date:0000000000\n") == [
        dict.fromkeys(ROW) | {"id": "é\x01", "state": "ENROUTE", "meaning": "ENROUTE", "final": False}
    ]


def test_hexadecimal(rows: Any) -> None:
    lines = [TEXT.hex(), TEXT.hex(" ").upper(), TEXT.decode().encode("utf-16-be").hex(), "7", "xy", "\u0663", ""]
    assert rows("\n".join(lines).encode() + b"\n\xff\n", "--hex") == [ROW, ROW, ROW, NONE, NONE, NONE, NONE, NONE]


def test_whole_pdus(rows: Any) -> None:
    """With what only their TLVs say."""
    pdu = encode(DeliverSm(short_message=TEXT, esm_class=0x04), 7)
    assert rows(pdu.hex().encode() + b"\n", "--hex") == [ROW]
    tlvs = ((0x001E, b"9\0"), (0x0427, b"\x02"), (0x0423, b"\x03\0\x05"))
    told = rows(encode(DataSm(esm_class=0x04, tlvs=tlvs), 8).hex().encode() + b"\n", "--hex")
    assert told == [
        dict.fromkeys(ROW) | {"id": "9", "state": "DELIVRD", "meaning": "DELIVRD", "final": True, "error": "005"}
    ]
    assert rows(encode(EnquireLink(), 9).hex().encode() + b"\n", "--hex") == [NONE]
