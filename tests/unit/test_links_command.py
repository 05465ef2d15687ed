"""`postrider links`: a message as a recipient would get it, its links, and what a token says."""

import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest

from engine.base.settings_tracking import LedgerSettings
from engine.cli.main import main
from engine.message.ids import IdSource
from engine.message.link_token import OPEN, UNSUBSCRIBE, LinkTokens, as_local_part
from engine.storage.ledger.sent import Sent, table_hash
from engine.storage.ledger.writer import Ledger
from tests.support.clock import FakeClock

MAIL = b"""From: ada@home.test
Content-Type: text/html; charset=utf-8

<a href="http://a.test/?x=1&amp;y">one</a> <a href="mailto:a@b.test">write</a> <a data-no-track href="http://b.test/">
"""
KEY = b"k" * 32


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "postrider.toml"
    path.write_text(
        f'[tracking]\nbase_url = "https://go.test"\nlevel = "full"\nkeys = ["3:{KEY.hex()}"]\nexpire_after = "1d"\n'
    )
    monkeypatch.setenv("POSTRIDER_CONFIG", str(path))
    (tmp_path / "mail.eml").write_bytes(MAIL)
    return path


def preview(config: Path, *options: str) -> int:
    return main(["links", "preview", str(config.with_name("mail.eml")), *options])


def test_preview_prints_the_message_with_the_links_of_nobody(config: Path, capfdbinary: Any) -> None:
    assert preview(config) == 0
    out = capfdbinary.readouterr().out
    header, _, body = out.partition(b"\r\n\r\n")
    assert b"List-Unsubscribe: <https://go.test/u/" in header
    before, _, after = MAIL.replace(b"\n", b"\r\n").partition(b"\r\n\r\n")[2].partition(b"http://a.test/?x=1&amp;y")
    assert body.startswith(before + b"https://go.test/c/") and body.endswith(after)
    assert preview(config, "--base-url", "https://x.test/y/", "--opens", "--honeypot") == 0
    out = capfdbinary.readouterr().out
    assert out.count(b'"https://x.test/y/c/') == 2 and out.count(b'"https://x.test/y/o/') == 1
    link = out.partition(b"/c/")[2].partition(b'"')[0].decode()
    assert main(["links", "decode", link]) == 1, "a preview is no way to make links"


def test_preview_lists_the_links_and_why_others_are_left(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert preview(config, "--table") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["3", "text/html", "http://a.test/?x=1&y", "-"],
        ["-", "text/html", "mailto:a@b.test", "scheme"],
        ["-", "text/html", "http://b.test/", "no-track"],
    ]
    assert preview(config, "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == {"link": 3, "part": "text/html", "url": "http://a.test/?x=1&y", "left": None}
    assert [row["left"] for row in rows] == [None, "scheme", "no-track"]


@pytest.mark.parametrize(
    ("mail", "word"),
    [
        (b"Content-Type: multipart/signed; boundary=b\n\n--b\n\nx\n--b--\n", "multipart/signed"),
        (b"DKIM-Signature: v=1\n" + MAIL, "signed"),
    ],
)
def test_preview_says_what_is_left_alone_as_a_whole(config: Path, mail: bytes, word: str, capfd: Any) -> None:
    config.with_name("mail.eml").write_bytes(mail)
    assert preview(config) == 0
    out, err = capfd.readouterr()
    assert word in err and "go.test/c/" not in out
    assert preview(config, "--table") == 0
    assert word in capfd.readouterr().out


@pytest.mark.parametrize(
    ("fields", "more", "left"),
    [
        (b"X-Postrider-Track: none\n", "", "level none"),
        (b"X-Postrider-Track: full\nX-Postrider-Track: none\n", "", "level none"),
        (b"X-Postrider-Track: anonymous\n", "", ""),
        (b"X-Postrider-Track: full\n", 'level = "none"\n', "level none"),
        (b"X-Postrider-Track: full\n", 'level = "anonymous"\n', ""),
        (b"", 'level = "full"\n[spool]\nlarge_bytes = "100"\n', "large"),
        (b"", 'level = "full"\n[[click_domain]]\ntenant = "other"\nbase_url = "https://other.test"\n', ""),
    ],
)
def test_preview_is_of_what_would_be_sent(config: Path, fields: bytes, more: str, left: str, capfdbinary: Any) -> None:
    if more:
        text = config.read_text().replace('level = "full"\n', "")
        config.write_text(text + more)
    mail = config.with_name("mail.eml")
    mail.write_bytes(b"X-Postrider-Tenant: acme\nX-Postrider-Batch: b1\nBcc: x@y.test\n" + fields + MAIL)
    assert preview(config, "--honeypot", "--opens") == 0
    out, err = capfdbinary.readouterr()
    assert b"X-Postrider" not in out and b"Bcc" not in out and b"List-Unsubscribe: <https://go.test/u/" in out
    assert (b"https://go.test/c/" in out) == (b"https://go.test/o/" in out) == (not left)
    assert left.encode() in err and bool(err) == bool(left)
    body = MAIL.partition(b"\n\n")[2].replace(b"\n", b"\r\n")
    assert (out.partition(b"\r\n\r\n")[2] == body) == bool(left)
    assert preview(config, "--json") == 0
    assert json.loads(capfdbinary.readouterr().out.splitlines()[0])["left"] == (left or None)


def test_preview_has_the_tenants_domain_and_the_class(config: Path, capfdbinary: Any) -> None:
    config.write_text(config.read_text() + '[[click_domain]]\ntenant = "acme"\nbase_url = "https://acme.test"\n')
    mail = config.with_name("mail.eml")
    mail.write_bytes(b"X-Postrider-Tenant: acme\n" + MAIL)
    assert preview(config) == 0
    out = capfdbinary.readouterr().out
    assert out.count(b"https://acme.test/") == 2 and b"go.test" not in out
    assert preview(config, "--class", "transactional") == 0
    assert b"List-Unsubscribe" not in capfdbinary.readouterr().out
    mail.write_bytes(b"X-Postrider-Class: transactional\n" + MAIL)
    assert preview(config) == 0
    assert b"List-Unsubscribe" not in capfdbinary.readouterr().out


def test_preview_says_what_admission_would_refuse(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.with_name("mail.eml").write_bytes(b"X-Postrider-Track: some\n" + MAIL)
    assert preview(config) == 2
    assert "would be refused: 550 5.6.0 X-Postrider-Track must be" in capsys.readouterr().err


def test_preview_reads_standard_input_and_needs_no_settings(
    tmp_path: Path, capfdbinary: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POSTRIDER_CONFIG", raising=False)
    monkeypatch.setattr("engine.cli.links.DEFAULT_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setattr("engine.cli.common.DEFAULT_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(MAIL)))
    assert main(["links", "preview", "-"]) == 0
    assert b"https://click.example.org/c/" in capfdbinary.readouterr().out


def test_what_cannot_be_read_or_used_is_said(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["links", "preview", "no-such-file"]) == 2
    assert preview(config, "--base-url", 'https://x.test/"') == 2
    assert "no-such-file: No such file" in capsys.readouterr().err


def sent(config: Path, level: str = "full") -> tuple[str, LinkTokens]:
    """A message in the ledger: its id."""
    clock = FakeClock()
    message, links = IdSource("mx.test", 0, clock).next(), ("http://a.test/", "http://b.test/")
    note = Sent(
        id=message, at=clock.time(), recipients=("bob@far.test", "carl@far.test"), stream="news", level=level,
        table=table_hash(links),
    )  # fmt: skip

    async def story() -> None:
        ledger = Ledger(config.with_name("data"), 0, LedgerSettings(), 86400.0 * 365_000, clock)
        ledger.note(note, links)
        await ledger.keep()
        await ledger.close()

    asyncio.run(story())
    return message, LinkTokens({3: KEY})


def decoded(capsys: pytest.CaptureFixture[str], link: str) -> dict[str, Any]:
    assert main(["links", "decode", "--json", link]) == 0
    row: dict[str, Any] = json.loads(capsys.readouterr().out)
    return row


def test_decode_tells_which_link_to_whom_and_where_it_leads(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message, tokens = sent(config)
    click, opened, leave = (each.decode() for each in tokens.made(message, 1, (4, OPEN, UNSUBSCRIBE)))
    expected = {
        "kind": "click", "message": message, "link": 4, "recipient": 1, "at": 1_000_000.0, "expired": True,
        "address": "carl@far.test", "url": "http://b.test/", "level": "full", "tenant": "", "stream": "news",
        "batch": "",
    }  # fmt: skip
    for link in (click, f"https://go.test/c/{click}", f"http://other.test/x/c/{click}?utm=1#x"):
        assert decoded(capsys, link) == expected
    assert decoded(capsys, f"https://go.test/o/{opened}.gif")["kind"] == "open"
    for link in (leave, f"https://go.test/u/{leave}", as_local_part(leave), f"{as_local_part(leave).upper()}@x.test"):
        row = decoded(capsys, link)
        assert (row["kind"], row["address"], row["url"]) == ("unsubscribe", "carl@far.test", None)
    assert main(["links", "decode", click]) == 0
    assert "address    carl@far.test\n" in capsys.readouterr().out


def test_decode_of_what_is_not_in_the_ledger_tells_what_the_token_says(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = IdSource("mx.test", 0, FakeClock()).next()
    row = decoded(capsys, LinkTokens({3: KEY}).made(message, None, (5,))[0].decode())
    assert (row["message"], row["link"]) == (message, 5) and "url" not in row


def test_decode_refuses_what_is_none_of_ours(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message, _ = sent(config)
    forged = LinkTokens({3: b"x" * 32}).made(message, 0, (3,))[0].decode()
    right = LinkTokens({3: KEY}).made(message, 0, (3,))[0].decode()
    for link in (forged, f"https://go.test/o/{right}.gif", "", "https://go.test/", "\x1b[31m"):
        assert main(["links", "decode", link]) == 1
    assert "\x1b" not in capsys.readouterr().err


def test_decode_makes_no_keys(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text("")
    assert main(["links", "decode", "A" * 28]) == 1
    assert "no keys of links" in capsys.readouterr().err
    assert not config.with_name("data").exists()


def test_preview_says_what_the_daemon_does_where_a_tenant_has_a_domain_and_the_node_has_none(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(
        '[tracking]\nlevel = "full"\n[[click_domain]]\ntenant = "acme"\nbase_url = "https://go.acme.test"\n'
    )
    config.with_name("mail.eml").write_bytes(b"X-Postrider-Tenant: acme\n" + MAIL)
    assert preview(config) == 0
    assert '"https://go.acme.test/c/' in capsys.readouterr().out
    config.with_name("mail.eml").write_bytes(MAIL)
    assert preview(config, "--table") == 0
    assert "no base_url" in capsys.readouterr().out
