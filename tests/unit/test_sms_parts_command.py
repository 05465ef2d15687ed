"""`postrider sms parts`: what a text would cost, on a terminal and as JSON."""

import io
import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from engine.cli import main


def run(*argv: str) -> int:
    return main.main(["sms", "parts", *argv])


def as_json(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert run("--json", *argv) == 0
    row = json.loads(capsys.readouterr().out)
    assert isinstance(row, dict)
    return row


def test_encoding_parts_and_what_transliteration_would_save(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("Grüße – bis morgen" + "!" * 60, "--transliterate", "--price", "0.03") == 0
    assert capsys.readouterr().out.splitlines() == [
        "ucs-2, 78 units in 2 parts, 0.06",
        "  1  67 of 67  Grüße – bis morgen" + "!" * 49,
        "  2  11 of 67  " + "!" * 11,
        "transliterated: gsm, 78 units in 1 part, 0.03; 1 part saved",
        '  "–" becomes "-"',
        "  1  78 of 160  Grüße - bis morgen" + "!" * 60,
    ]


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    row = as_json(capsys, "“hi”", "--transliterate", "--price", "0.1")
    after = row.pop("transliterated")
    assert row == {
        "encoding": "ucs-2",
        "data_coding": 8,
        "locking": None,
        "single_shift": None,
        "units": 4,
        "room": 70,
        "price": "0.1",
        "parts": [{"units": 4, "text": "“hi”"}],
    }
    assert (after["encoding"], after["text"], after["parts_saved"]) == ("gsm", '"hi"', 0)
    assert after["changes"] == [{"from": "“", "to": '"', "times": 1}, {"from": "”", "to": '"', "times": 1}]


@pytest.mark.parametrize(
    ("options", "encoding", "rooms"),
    [
        ([], "ucs-2", (67, 3)),
        (["--language", "tr"], "gsm", (149, 2)),
        (["--reference", "16"], "ucs-2", (66, 3)),
        (["--reference", "sar", "--language", "tr"], "ucs-2", (66, 3)),
        (["--spare", "10"], "ucs-2", (62, 3)),
    ],
)
def test_the_carriers_rules(
    options: list[str], encoding: str, rooms: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    row = as_json(capsys, "Ş" * 180, *options)
    assert (row["encoding"], row["room"], len(row["parts"])) == (encoding, *rooms)


def test_a_text_from_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for typed, text in ((b"h\xc3\xa9\n", "hé"), (b"a\n\n", "a\n"), (b"\xff", "\ufffd"), (b"", "")):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(typed)))
        assert as_json(capsys, "-")["parts"][0]["text"] == text


def test_what_the_terminal_would_obey_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("a\x1b[2Jb\r\n") == 0
    assert "a\\x1b[2Jb\\r\\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "status", "text"),
    [
        (["a" * 2000], 1, "at least 13 parts are needed, the limit is 10"),
        (["a" * 161, "--max-parts", "1"], 1, "at least 2 parts are needed, the limit is 1"),
        (["a", "--language", "xx", "--language", "yy"], 2, "--language yy: not one of tr,"),
        (["a", "--max-parts", "0"], 2, "max_parts: 0 is not 1 to 255"),
        (["a", "--spare", "-1"], 2, "spare_octets: -1 is not 0 to 100"),
    ],
)
def test_what_cannot_be_done_is_said(
    argv: list[str], status: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*argv) == status
    assert text in capsys.readouterr().err


@pytest.mark.parametrize("price", ["x", "-1", "NaN", "Infinity"])
def test_a_price_is_a_number(price: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("a", f"--price={price}")
    assert "is not a price" in capsys.readouterr().err
