"""`postrider track`: what is named is what is withdrawn, of those who are meant and of nobody else."""

import asyncio
import contextlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from engine.cli.main import main
from engine.message.envelope import Track
from engine.message.link_token import FIRST_LINK
from engine.message.short_link import ShortCodes, ShortLink
from engine.storage.ledger.sent import Sent
from engine.storage.tables.batch_levels import BatchLevels
from engine.storage.tables.credentials import Credentials
from engine.storage.tables.withdrawals import Withdrawals
from engine.tracking.withdrawn import Withdrawn
from tests.support.clock import FakeClock
from tests.support.tracking import KEY, LINKS, Mailing, paths, settings

CYRILLIC = "https://Shop.example/привет?a=1&b=2"
CYRILLIC_TARGET = "https://Shop.example/%D0%BF%D1%80%D0%B8%D0%B2%D0%B5%D1%82?a=1&b=2"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    config = tmp_path / "postrider.toml"
    config.write_text(f'[node]\nname = "mx.test"\ndata_dir = "{tmp_path / "data"}"\n{settings()}')
    monkeypatch.setenv("POSTRIDER_CONFIG", str(config))
    (tmp_path / "data").mkdir(mode=0o700)
    return tmp_path / "data"


def noted(data: Path, *scopes: dict[str, Any], short: int | None = None) -> list[Sent]:
    """A message of each, all with the same links. short: the number of the first one's short links."""

    async def story() -> list[Sent]:
        mailing = Mailing(data)
        sent = [mailing.note("ada@one.test", **scope) for scope in scopes]
        if short is not None:
            mailing.short(short, sent[0])
        await mailing.close()
        return sent

    return asyncio.run(story())


def hit(data: Path, messages: list[Sent], link: int = FIRST_LINK) -> list[bool]:
    """Of which of them this link leads nowhere."""
    withdrawn = Withdrawn(Withdrawals(data))
    try:
        return [withdrawn.holds(each, link, LINKS[link - FIRST_LINK]) for each in messages]
    finally:
        withdrawn.close()


def test_a_url_is_withdrawn_as_tables_of_messages_have_it(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["track", "withdraw", "url", f"  {CYRILLIC} "]) == 0
    assert main(["track", "list", "--json"]) == 0
    said, row = capsys.readouterr().out.splitlines()
    assert said == f"url {CYRILLIC_TARGET}: withdrawn"
    assert json.loads(row)["what"] == CYRILLIC_TARGET
    assert main(["track", "restore", "url", CYRILLIC]) == 0


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://x", "neither http nor https"),
        ("javascript:alert(1)", "neither http nor https"),
        ("nonsense", "begins with no scheme"),
        ("//shop.example/", "begins with no scheme"),
        ("", "empty"),
        ("#top", "within a page"),
        ("https://", "no sound URL"),
        ("https://a.test/{{name}}", "nobody filled in"),
        ("https://a.test/" + "x" * 5000, "too long"),
    ],
)
def test_a_url_that_no_link_can_lead_to_is_refused(
    data: Path, url: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["track", "withdraw", "url", url]) == 2
    assert reason in capsys.readouterr().err
    assert main(["track", "list", "--json"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", ["link", "content", "url"])
def test_what_is_listed_can_be_restored_though_its_message_is_forgotten(data: Path, kind: str) -> None:
    [sent] = noted(data, {"tenant": "t1"})
    assert main(["track", "withdraw", kind, LINKS[0] if kind == "url" else paths(sent, 3)[0]]) == 0
    with contextlib.closing(Withdrawals(data)) as table:
        [row] = table.all()
    shutil.rmtree(data / "ledger")
    assert main(["track", "restore", kind, row.what]) == 0
    assert hit(data, [sent]) == [False]
    assert main(["track", "restore", kind, row.what]) != 0


@pytest.mark.parametrize("kind", ["batch", "tenant"])
def test_nothing_is_no_name(data: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["track", "withdraw", kind, ""]) == 2
    assert f"which {kind}?" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["link", "content"])
def test_others_with_the_same_links_keep_theirs(data: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    scope = {"tenant": "t1", "stream": "news", "batch": "b1"}
    sent = noted(data, scope, scope, *({**scope, name: "else"} for name in scope), {**scope, "channel": "sms"})
    assert main(["track", "withdraw", kind, f"https://click.test{paths(sent[0], 3)[0]}"]) == 0
    assert hit(data, sent) == [True, True, False, False, False, False]
    assert hit(data, sent[:1], FIRST_LINK + 1) == [kind == "content"]
    assert "(tenant t1, stream news, batch b1): withdrawn" in capsys.readouterr().out
    assert main(["track", "list"]) == 0
    assert "(tenant t1, stream news, batch b1)" in capsys.readouterr().out
    assert main(["track", "restore", kind, paths(sent[1], 3)[0].rpartition("/")[2]]) == 0
    assert hit(data, sent) == [False] * 6


@pytest.mark.parametrize("kind", ["link", "content"])
def test_a_short_link_names_its_text(data: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    sent = noted(data, {"channel": "sms", "tenant": "t1"}, {"channel": "sms", "tenant": "t2"}, short=77)
    code = ShortCodes([KEY]).code(ShortLink(77, 1))
    for what in (code, f"https://s.test/{code}", f"https://s.test/x/{code}/?a=b"):
        assert main(["track", "withdraw", kind, what]) == 0
        assert hit(data, sent, FIRST_LINK + 1) == [True, False]
        assert hit(data, sent) == [kind == "content", False]
        assert main(["track", "restore", kind, what]) == 0
    assert main(["links", "decode", "--json", f"https://s.test/{code}"]) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[-1])
    expected = {"kind": "click", "message": sent[0].id, "link": 4, "number": 77, "url": LINKS[1], "tenant": "t1"}
    assert {**row, **expected} == row


def test_short_links_of_nobody(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lost, forged = (ShortCodes([key]).code(ShortLink(9, 0)) for key in (KEY, b"x" * 32))
    assert main(["links", "decode", lost]) == main(["track", "withdraw", "link", lost]) == 1
    assert capsys.readouterr().err.count("short link number 9, of no message that is known") == 2
    assert (main(["links", "decode", forged]), main(["track", "withdraw", "link", forged])) == (1, 2)
    assert "no link of this node's keys" in capsys.readouterr().err


def test_a_batch_has_a_level_that_is_listed_and_told(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clock = FakeClock()
    with contextlib.closing(BatchLevels(data, clock)) as levels:
        assert levels.of("november") is Track.FULL
        assert main(["track", "level", "batch", "november", "anonymous", "--reason", "asked by law"]) == 0
        assert main(["track", "level", "batch", "november", "anonymous"]) == 0
        assert levels.of("november") is Track.FULL, "looked at once a second"
        clock.advance(1.0)
        assert [levels.of(batch) for batch in ("november", "december")] == [Track.ANONYMOUS, Track.FULL]
        assert main(["track", "list", "--json"]) == 0
        said, again, row = capsys.readouterr().out.splitlines()
        assert (said, again) == ("batch november: anonymous", "batch november: anonymous, as it was")
        listed = json.loads(row)
        assert (listed["kind"], listed["what"], listed["about"]) == ("batch", "november", "level anonymous")
        assert listed["reason"] == "asked by law"
        main(["track", "level", "batch", "november", "none"])
        clock.advance(1.0)
        assert levels.of("november") is Track.NONE
        main(["track", "level", "batch", "november", "full"])
        clock.advance(1.0)
        assert levels.of("november") is Track.FULL and levels.all() == []
    with contextlib.closing(sqlite3.connect(data / "tables.db")) as db:
        told = [text for (text,) in db.execute("select text from owed_events order by number")]
    assert [text.partition(", by ")[0] for text in told] == [
        f"links of batch november tell {level}" for level in ("anonymous", "none", "full")
    ]
    assert told[0].endswith(": asked by law")


def test_a_tenant_whom_nothing_knows_is_withdrawn_with_a_word(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.closing(Credentials(data / "tables.db")) as table:
        table.add("acme", "a password of one")
    assert main(["track", "withdraw", "tenant", "acme"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["track", "withdraw", "tenant", "acne"]) == 0
    out, err = capsys.readouterr()
    assert out == "tenant acne: withdrawn\n" and "has the name acne" in err
