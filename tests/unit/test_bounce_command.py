"""`postrider bounce`: an order to the queue as before, and the words `explain` and `classify`."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from engine.cli.main import main
from tests.support.bounces import ORIGINAL_ID, samples

SAMPLES = {sample.name: sample.content for sample in samples()}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "postrider.toml"
    path.write_text("")
    monkeypatch.setenv("POSTRIDER_CONFIG", str(path))
    return path


def rows(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def typed(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_explain_prints_a_row_for_each_recipient(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = config.with_name("a.eml"), config.with_name("b.eml")
    first.write_bytes(SAMPLES["qmail quotes a remote host"])
    second.write_bytes(SAMPLES["a report that names nobody"])
    assert main(["bounce", "explain", str(first), str(second), "--json"]) == 0
    found = rows(capsys)
    assert found[0] == {
        "file": str(first), "recipient": "bob@example.net", "kind": "hard", "status": "5.1.1",
        "reply": "550 5.1.1 unknown user", "original_message_id": ORIGINAL_ID, "reason": "550 5.1.1 unknown user",
    }  # fmt: skip
    assert [(row["file"], row["recipient"], row["kind"]) for row in found[1:]] == [
        (str(first), "eve@example.com", "quota"),
        (str(second), None, "hard"),
    ]
    assert found[2].keys() == found[0].keys()


def test_options_may_stand_anywhere(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = config.with_name("a.eml")
    file.write_bytes(SAMPLES["Gmail"])
    for words in (["--json", str(file)], [str(file), "--json", "-c", str(config)]):
        assert main(["bounce", "explain", *words]) == 0
        assert [row["recipient"] for row in rows(capsys)] == ["bob@example.net"]


def test_explain_reads_standard_input_and_an_mbox(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    box = b"".join(b"From x@y Mon Nov  2 09:00:00 2026\r\n" + SAMPLES[name] + b"\r\n" for name in ("Gmail", "Domino"))
    typed(monkeypatch, box)
    assert main(["bounce", "explain", "-", "--json"]) == 0
    assert [(row["file"], row["recipient"]) for row in rows(capsys)] == [("-", "bob@example.net")] * 2


def test_without_json_it_is_for_people(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = config.with_name("a.eml")
    file.write_bytes(
        SAMPLES["Postfix, user unknown"].replace(b"User unknown in local", b"User \x1b[31m unknown in local")
    )
    assert main(["bounce", "explain", str(file)]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[0] == f"{file}: bob@example.net: hard"
    assert "\x1b" not in shown


def test_a_file_that_cannot_be_read_keeps_the_others(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = config.with_name("a.eml")
    file.write_bytes(SAMPLES["Gmail"])
    assert main(["bounce", "explain", "none.eml", str(file), "--json"]) == 2
    output = capsys.readouterr()
    assert (len(output.out.splitlines()), output.err) == (1, "postrider: none.eml: No such file or directory\n")


def test_whatever_a_file_holds_is_an_answer(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = config.with_name("a.eml")
    for content in (b"", b"\0\xff", b"Hello\n", b"From "):
        file.write_bytes(content)
        assert main(["bounce", "explain", str(file), "--json"]) == 0
        assert [(row["recipient"], row["kind"]) for row in rows(capsys)] == [(None, "unknown")]


def test_explain_says_what_it_did_not_read(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = config.with_name("a.eml")
    notice = b"From: MAILER-DAEMON@x.test\nSubject: failure notice\n\nHi. This is the qmail-send program.\n\n"
    file.write_bytes(notice + b"<bob@example.net>:\nno mailbox here by that name.\n\n" + b"more words\n" * (1 << 19))
    assert main(["bounce", "explain", str(file), "--json"]) == 0
    assert [(row["recipient"], row["truncated"]) for row in rows(capsys)] == [("bob@example.net", True)]
    assert main(["bounce", "explain", str(file)]) == 0
    assert "truncated            more may be named" in capsys.readouterr().out


def test_classify_prints_kind_and_rule(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, b"550 5.1.1 user unknown\n\n452 4.2.2 mailbox full\r\nhello\xff\n")
    assert main(["bounce", "classify", "--json"]) == 0
    assert [(row["kind"], row["rule"]) for row in rows(capsys)] == [
        ("hard", "address-first"), ("quota", "full"), ("unknown", None),
    ]  # fmt: skip
    typed(monkeypatch, b"550 5.1.1 user unknown\n")
    assert main(["bounce", "classify"]) == 0
    assert capsys.readouterr().out.split() == ["hard", "address-first", "550", "5.1.1", "user", "unknown"]


def test_classify_knows_phases(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, b"ESME_RINVDSTADR\n")
    assert main(["bounce", "classify", "--phase", "smpp", "--json"]) == 0
    assert rows(capsys)[0]["rule"] == "smpp-number"
    assert main(["bounce", "classify", "--phase", "lunch"]) == 2
    assert "--phase lunch: not one of connect, " in capsys.readouterr().err


def test_rules_of_ones_own_are_used_and_checked(
    config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = config.with_name("bounces.toml")
    own.write_text('[[rule]]\nname = "mine"\nkind = "soft"\ntext = ["user"]\nmatches = ["user"]\nmisses = ["x"]\n')
    typed(monkeypatch, b"550 5.1.1 user unknown\n")
    assert main(["bounce", "classify", "--json"]) == 0
    assert rows(capsys)[0]["rule"] == "mine"
    own.write_text(own.read_text().replace('matches = ["user"]', 'matches = ["lost"]'))
    for command in (["bounce", "classify"], ["check"]):
        assert main(command) == 2
        output = capsys.readouterr()
        assert 'bounces.toml: [[rule]] 1 "mine": matches "lost": no rule takes it' in output.out + output.err


def test_check_finds_what_a_rule_cannot_mean(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = config.with_name("bounces.toml")
    own.write_text(
        '[node]\n[[rule]]\nname = "a"\nkind = "odd"\n[[rule]]\nname = "b"\nkind = "soft"\ntext = ["x"]\n'
        'provider = ["nobody"]\nphase = ["lunch"]\n[[rule]]\nname = "c"\nkind = "soft"\ntext = ["x"]\n'
        'provider = ["nobody"]\nmatches = ["x"]\nmisses = ["y"]\n'
    )
    assert main(["check"]) == 2
    shown = capsys.readouterr().out
    assert "bounces.toml: [node]: unknown table; this file holds [[rule]] only" in shown
    assert 'bounces.toml: [[rule]] 1 kind: "odd" is not one of "hard", "soft", ' in shown
    assert 'bounces.toml: [[rule]] "c": provider "nobody" is in no provider table' in shown


def test_a_rules_file_that_is_named_must_be_there(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text('[bounces]\nrules_file = "none.toml"\n')
    assert main(["check"]) == 2
    assert f"[bounces] rules_file: {config.parent}/none.toml does not exist" in capsys.readouterr().out


def test_without_settings_the_shipped_rules_serve(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("POSTRIDER_CONFIG", raising=False)
    monkeypatch.setattr("engine.cli.bounce.DEFAULT_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setattr("engine.cli.common.DEFAULT_CONFIG", str(tmp_path / "none.toml"))
    typed(monkeypatch, b"550 5.1.1 user unknown\n")
    assert main(["bounce", "classify"]) == 0
    assert capsys.readouterr().out.startswith("hard")
    assert main(["bounce", "classify", "-c", str(tmp_path / "other.toml")]) == 2
    assert "other.toml: no such file" in capsys.readouterr().err


def test_bounce_is_still_an_order_to_the_queue(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bounce", "example.net", "--reason", "closed"]) == 1
    assert "postrider: " in capsys.readouterr().err, "no daemon runs here"
    with pytest.raises(SystemExit):
        main(["bounce"])
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["bounce", "--help"])
    shown = capsys.readouterr().out
    assert "explain" in shown and "classify" in shown and "--reason" in shown
    with pytest.raises(SystemExit):
        main(["bounce", "explain", "--help"])
    assert "FILE" in capsys.readouterr().out
