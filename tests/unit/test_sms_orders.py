"""What an operator does to the queue of a carrier or an application."""

from pathlib import Path

import pytest

from engine.admin import views
from engine.base.errors import EngineError
from engine.base.settings import Account, Carrier
from engine.message.channels import CHANNEL, carrier_key
from engine.message.envelope import Envelope, Recipient
from engine.message.sms import Kind, Sms, encode_sms
from tests.support.queue import Stage, play
from tests.support.routing import House

HOUR = 3600.0
ALPHA, SHOP = "+447700900123@sms:alpha", "60999@account:shop"


def known(s: Stage) -> None:
    """The routes of these settings, not of a stage."""
    rows = tuple(Carrier(name=name, host="a", system_id="us") for name in ("alpha", "beta"))
    s.parts.router = House(carrier=rows, account=(Account(system_id="shop", password="x"),)).router


async def three(s: Stage) -> None:
    for destination in ("sms:alpha", "account:shop", "one.test"):
        s.throttle(destination).close(s.clock.time() + HOUR, "unbound")
    await s.put(ALPHA, name="sms")
    await s.put(SHOP, name="answer")
    await s.put("a@one.test", name="mail")


@pytest.mark.parametrize(
    ("target", "left"), [("sms:alpha", ["answer", "mail"]), ("account:shop", ["sms", "mail"]), ("*", [])]
)
def test_purge(tmp_path: Path, target: str, left: list[str]) -> None:
    async def story(s: Stage) -> None:
        await three(s)
        assert (await s.do("purge", target))["deliveries"] == 3 - len(left)
        assert await s.queued() == left

    play(tmp_path, story)


def test_hold_and_resume_of_a_queue_that_is_empty_yet(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        known(s)
        assert (await s.do("hold", "sms:alpha"))["deliveries"] == 0
        for wrong in ("sms:gamma", "account:bank"):
            with pytest.raises(EngineError, match="no queued message and no destination of that name"):
                await s.do("hold", wrong)
        await three(s)
        held = {row["destination"]: row["held"] for row in await s.view(views.queues)}
        assert held == {"sms:alpha": 1, "account:shop": 0, "one.test": 0}
        assert (await s.do("resume", "sms:alpha"))["deliveries"] == 1

    play(tmp_path, story)


def test_move_to_another_carrier(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        known(s)
        await three(s)
        assert (await s.do("move", "sms:alpha", "sms:beta"))["deliveries"] == 1
        vias = {row["destination"]: row["via"] for row in await s.view(views.queues)}
        assert vias == {"sms:alpha": "sms:beta", "account:shop": None, "one.test": None}

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("target", "relay", "why"),
    [
        ("sms:alpha", "sms:gamma", "relay: there is no [[carrier]] gamma"),
        ("sms:alpha", "relay.test:25", "relay: relay.test:25 takes no SMS; sms:NAME, a carrier, does"),
        ("sms:alpha", "account:shop", "relay: account:shop is no way"),
        ("one.test", "sms:beta", "relay: sms:beta takes no mail; host:port does"),
        ("account:shop", "sms:beta", "account:shop: what is for an application goes to its own binds only"),
        ("sms:", "sms:beta", "sms: is not the queue of a carrier or an account, sms:NAME or account:SYSTEM_ID"),
    ],
)
def test_a_way_that_is_none(tmp_path: Path, target: str, relay: str, why: str) -> None:
    async def story(s: Stage) -> None:
        known(s)
        await three(s)
        with pytest.raises(EngineError) as caught:
            await s.do("move", target, relay)
        assert str(caught.value) == why

    play(tmp_path, story)


async def put(s: Stage, number: str, carrier: str, sms: Sms) -> str:
    """An SMS as intake stores one; its id."""
    now, content = s.clock.time(), encode_sms(sms)
    made = Envelope(s._source.next(), sms.source, (Recipient(number),), now, now + HOUR, len(content), channel=CHANNEL)
    await s.spool.accept(made, content, [(carrier_key(carrier), (0,))])
    await s.rest()
    return made.id


def test_why_a_number_has_nothing_yet(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        await three(s)
        s.throttle("sms:beta").close(s.clock.time() + HOUR, "unbound")
        await put(s, "+447700900123", "alpha", Sms(text="x"))
        wanted = await put(s, "+447700900124", "beta", Sms(text="x"))
        [row] = await s.view(views.why, "0044 7700 900124")
        assert (row["id"], row["queue"]) == (wanted, "sms:beta")
        assert "unbound" in row["limit"]
        assert await s.view(views.why, "+447700900125") == []
        with pytest.raises(EngineError, match="neither the id of a message nor an address, nor the number of a phone"):
            await s.view(views.why, "sms:beta")

    play(tmp_path, story)


def test_what_is_shown_of_a_message_is_not_what_it_says(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        for sms, header in (
            (
                Sms(source="Shop", source_ton=5, text="your code is 1234"),
                "kind: message\nsource: Shop, TON 5, NPI 0\ncharacters: 17",
            ),
            (
                Sms(kind=Kind.ANSWER, source="60999", body=b"code 1234", data_coding=4),
                "kind: answer\nsource: 60999, TON 0, NPI 0\noctets: 9, data_coding 4",
            ),
        ):
            [row] = await s.view(views.show, await put(s, "+447700900123", "alpha", sms))
            assert row["header"] == header
            assert [one["destination"] for one in row["deliveries"]] == ["sms:alpha"]

    play(tmp_path, story)


def test_all_that_is_moved_by_a_relay_is_mail(tmp_path: Path) -> None:
    """And the other way round; what cannot go that way is neither counted nor changed, and keeps its own move."""

    async def story(s: Stage) -> None:
        known(s)
        await three(s)
        await s.do("hold", "sms:alpha")  # a row as well as deliveries in hand
        await s.put(ALPHA, name="more")
        assert (await s.do("move", "sms:alpha", "sms:beta"))["deliveries"] == 2
        assert (await s.do("move", "*", "relay.test:25"))["deliveries"] == 1

        async def vias() -> dict[str, str | None]:
            return {row["destination"]: row["via"] for row in await s.view(views.queues)}

        moved = {"sms:alpha": "sms:beta", "account:shop": None, "one.test": "relay.test:25"}
        assert await vias() == moved
        [status] = await s.view(views.status)
        assert [move["relay"] for move in status["moves"]] == ["sms:beta", "relay.test:25"]
        assert (await s.do("move", "*", "sms:beta"))["deliveries"] == 2
        assert await vias() == moved
        assert (await s.do("move", "*", ""))["deliveries"] == 4
        assert await vias() == {"sms:alpha": None, "account:shop": None, "one.test": None}

    play(tmp_path, story)
