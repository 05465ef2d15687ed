"""`postrider sms receipt`: a JSON line for each line, whatever bytes it holds."""

import io
import json
from typing import Any

import pytest

from engine.cli.main import main

TEXT = b"id:7 sub:001 dlvrd:001 submit date:2503141015 done date:250314101559 stat:FAILED err:034 text:Hello"
ROW = {
    "id": "7",
    "state": "UNDELIV",
    "stat": "FAILED",
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
        dict.fromkeys(ROW) | {"id": "é\x01", "state": "ENROUTE", "stat": "ENROUTE", "final": False}
    ]


def test_hexadecimal(rows: Any) -> None:
    lines = [TEXT.hex(), TEXT.hex(" ").upper(), TEXT.decode().encode("utf-16-be").hex(), "7", "xy", "\u0663", ""]
    assert rows("\n".join(lines).encode() + b"\n\xff\n", "--hex") == [ROW, ROW, ROW, NONE, NONE, NONE, NONE, NONE]
