"""Admission: what becomes of a submission, and S1: nobody hears of success before the store said durable."""

import asyncio
import dataclasses
import re
from collections.abc import Coroutine
from typing import Any

import pytest

from engine.base.errors import StorageError
from engine.base.metrics import Metrics
from engine.base.settings import Node, Settings
from engine.base.settings_tracking import Tracking, TrackLevel
from engine.intake.admission import Admission, Origin, Refused, Submission
from engine.message.address import destination_of
from engine.message.envelope import MessageClass, Notify, Recipient, Track
from engine.message.ids import IdSource
from tests.support.clock import FakeClock
from tests.support.intake import MemoryStore

ORIGIN = Origin(
    client="unknown[192.0.2.1]", trace=b"from a.example (unknown [192.0.2.1])\r\n\tby mx.example with ESMTP id "
)
CONTENT = b"From: Ada <ada@example.org>\r\nSubject: x\r\n\r\nbody\r\n"


class Desk:
    """An Admission over a memory store."""

    def __init__(
        self, settings: Settings | None = None, suppressions: Any = None, levels: dict[str, Track] | None = None
    ) -> None:
        self.clock = FakeClock(1_767_268_800.0)
        self.store = MemoryStore()
        self.metrics = Metrics()
        self.log: list[str] = []
        self.admission = Admission(
            self.store,
            IdSource("mx.example", 0, self.clock),
            self.clock,
            self.metrics,
            settings or Settings(node=Node(name="mx.example")),
            self.log.append,
            lambda destination: "google" if destination == "x.example" else "other",
            suppressions,
            level_of=levels.__getitem__ if levels is not None else None,
        )


def submission(*addresses: str, sender: str = "ada@example.org", **more: Any) -> Submission:
    made = Submission()
    made.sender = sender
    for address in addresses or ("bob@example.net",):
        made.recipients.append(Recipient(address))
        made.destinations.append(destination_of(address))
    for name, value in more.items():
        setattr(made, name, value)
    return made


def run(coroutine: Coroutine[Any, Any, str]) -> str:
    return asyncio.run(coroutine)


def test_message_is_completed_and_stored_with_its_envelope() -> None:
    desk = Desk()
    made = submission(ret="HDRS", envid="e1")
    message_id = run(desk.admission.submit(made, CONTENT, ORIGIN, framed=True))
    stored = desk.store.messages[0]
    assert stored.content == (
        b"Received: from a.example (unknown [192.0.2.1])\r\n\tby mx.example with ESMTP id %b\r\n"
        b"\tfor <bob@example.net>;\r\n\tThu, 01 Jan 2026 12:00:00 +0000\r\n"
        b"From: Ada <ada@example.org>\r\nSubject: x\r\n"
        b"Date: Thu, 01 Jan 2026 12:00:00 +0000\r\nMessage-ID: <%b@mx.example>\r\n\r\nbody\r\n"
    ) % (message_id.encode(), message_id.encode())
    envelope = stored.envelope
    assert envelope.id == message_id
    assert (envelope.sender, envelope.ret, envelope.envid) == ("ada@example.org", "HDRS", "e1")
    assert envelope.content_bytes == len(stored.content)
    assert envelope.header_from == "example.org"
    assert envelope.client == "unknown[192.0.2.1]"
    assert (envelope.received_at, envelope.expires_at) == (desk.clock.now, desk.clock.now + 72 * 3600)


def test_recipients_are_split_by_destination_and_each_is_kept_once() -> None:
    desk = Desk()
    made = submission("a@x.example", "b@y.example", "c@X.EXAMPLE", "a@x.example.", "A@x.example", "b@Y.example")
    made.recipients[0] = Recipient("a@x.example", int(Notify.NEVER))
    run(desk.admission.submit(made, CONTENT, ORIGIN))
    stored = desk.store.messages[0]
    assert [r.address for r in stored.envelope.recipients] == [
        "a@x.example",
        "b@y.example",
        "c@X.EXAMPLE",
        "A@x.example",
    ]
    assert stored.envelope.recipients[0].notify == Notify.NEVER
    assert stored.splits == [("x.example", (0, 2, 3)), ("y.example", (1,))]
    assert b"\tfor <" not in stored.content  # or each would see the others


def test_class_decides_the_expiry() -> None:
    desk = Desk()
    run(desk.admission.submit(submission(), b"X-Postrider-Class: transactional\r\n\r\n", ORIGIN))
    origin = Origin(client="c", trace=b"t ", default_class=MessageClass.TRANSACTIONAL)
    run(desk.admission.submit(submission(), CONTENT, origin))
    run(desk.admission.submit(submission(), b"X-Postrider-Class: bulk\r\n\r\n", origin))
    hours = [(m.envelope.expires_at - m.envelope.received_at) / 3600 for m in desk.store.messages]
    assert hours == [24, 24, 72]
    assert [m.envelope.message_class for m in desk.store.messages] == [0, 0, 1]


def test_the_batch_is_stored_with_the_message_and_logged() -> None:
    desk = Desk()
    run(desk.admission.submit(submission(), b"X-Postrider-Batch: spring-sale\r\nSubject: x\r\n\r\n", ORIGIN))
    run(desk.admission.submit(submission(), CONTENT, ORIGIN))
    assert [m.envelope.batch for m in desk.store.messages] == ["spring-sale", ""]
    assert all(b"Batch" not in m.content for m in desk.store.messages)
    assert [", batch=spring-sale" in line for line in desk.log] == [True, False]


def test_success_is_said_only_after_the_store_is_done() -> None:
    """S1."""

    async def scenario() -> str:
        desk = Desk()
        desk.store.hold, desk.store.waiting = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(desk.admission.submit(submission(), CONTENT, ORIGIN))
        await desk.store.waiting.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not task.done()
        assert desk.log == []
        desk.store.hold.set()
        return await task

    assert len(asyncio.run(scenario())) == 14


def test_failing_store_is_a_451_and_counts_nothing() -> None:
    """S4: the client keeps the message."""
    desk = Desk()
    desk.store.fault = StorageError("disk on fire")
    with pytest.raises(Refused) as caught:
        run(desk.admission.submit(submission(), CONTENT, ORIGIN))
    assert caught.value.reply.startswith("451 4.3.0 ")
    assert "fire" not in caught.value.reply
    assert desk.metrics.accepted.labels("bulk").value == 0
    assert desk.log == []


def test_disk_guard_refuses_in_the_words_of_the_store() -> None:
    desk = Desk()
    desk.store.refused = "452 4.3.1 Insufficient system storage"
    with pytest.raises(Refused, match="Insufficient system storage"):
        run(desk.admission.submit(submission(), CONTENT, ORIGIN))


def test_smtputf8_and_8bitmime_are_claimed_only_where_needed() -> None:
    desk = Desk()
    cases = [
        (submission(smtputf8=True), CONTENT, (False, "7BIT")),
        (submission(smtputf8=True), CONTENT + b"\xff\r\n", (False, "8BITMIME")),
        (submission(smtputf8=True), b"Subject: \xc3\xa4\r\n\r\n", (True, "8BITMIME")),
        (submission("ä@x.example", smtputf8=True), CONTENT, (True, "8BITMIME")),
        (submission(smtputf8=False), b"Subject: \xc3\xa4\r\n\r\n", (False, "8BITMIME")),
    ]
    for made, content, expected in cases:
        run(desk.admission.submit(made, content, ORIGIN))
        envelope = desk.store.messages[-1].envelope
        assert (envelope.smtputf8, envelope.body) == expected


def test_log_line_says_who_and_how_much_and_is_one_line() -> None:
    desk = Desk()
    origin = Origin(client="evil\r\nname[192.0.2.1]", trace=b"t ", user="ada")
    message_id = run(desk.admission.submit(submission("a@x.example", "b@y.example"), CONTENT, origin))
    size = desk.store.messages[0].envelope.content_bytes
    assert desk.log == [
        f"{message_id}: client=evil\\r\\nname[192.0.2.1], from=<ada@example.org>, size={size}, nrcpt=2, class=bulk, "
        "sasl_username=ada"
    ]


def test_accepted_messages_are_counted_by_class_and_their_recipients_by_provider() -> None:
    desk = Desk()
    for number in (1, 2):
        run(desk.admission.submit(submission("a@x.example", "b@x.example", "c@y.example"), CONTENT, ORIGIN))
        value = desk.metrics.registry.get_sample_value
        assert value("postrider_accepted_total", {"class": "bulk"}) == number
        for provider, count in (("google", 2), ("other", 1)):
            labels = {"provider": provider, "class": "bulk"}
            assert value("postrider_accepted_recipients_total", labels) == number * count


def test_reload_changes_limits_and_expiry() -> None:
    desk = Desk()
    old = Settings(node=Node(name="mx.example"))
    desk.admission.reload(
        Settings(
            node=old.node,
            intake=type(old.intake)(max_received=0),
            retry=type(old.retry)(expire_after=type(old.retry.expire_after)(60)),
        )
    )
    run(desk.admission.submit(submission(), CONTENT, ORIGIN))
    assert desk.store.messages[0].envelope.expires_at == desk.clock.now + 60
    with pytest.raises(Refused, match="Too many hops"):
        run(desk.admission.submit(submission(), b"Received: x\r\n\r\n", ORIGIN))


def test_date_follows_the_clock() -> None:
    desk = Desk()
    for _ in range(2):
        run(desk.admission.submit(submission(), CONTENT, ORIGIN))
        desk.clock.advance(61)
    dates = [re.findall(rb"12:0\d:0\d \+0000", m.content) for m in desk.store.messages]
    assert dates == [[b"12:00:00 +0000"] * 2, [b"12:01:01 +0000"] * 2]


class Unwanted:
    """Three addresses, one of them for one tenant, one for a stream of his. fault: what is raised instead."""

    fault: Exception | None = None

    def mail(self, address: str, tenant: str = "", stream: str = "") -> bool:
        if self.fault is not None:
            raise self.fault
        wanted = {"c@y.example": tenant != "shop", "d@z.example": (tenant, stream) != ("shop", "news")}
        return not wanted.get(address, address != "b@x.example")


@pytest.mark.parametrize(
    ("user", "splits", "unwanted"),
    [
        ("", [("x.example", (0,)), ("y.example", (2,)), ("x.example", (1,))], 1),
        ("shop", [("x.example", (0,)), ("x.example", (1,)), ("y.example", (2,))], 2),
    ],
)
def test_who_is_suppressed_is_part_of_the_message_in_splits_of_his_own(
    user: str, splits: list[tuple[str, tuple[int, ...]]], unwanted: int
) -> None:
    desk = Desk(suppressions=Unwanted())
    three = submission("a@x.example", "b@x.example", "c@y.example")
    run(desk.admission.submit(three, CONTENT, dataclasses.replace(ORIGIN, user=user)))
    [stored] = desk.store.messages
    assert (stored.splits, stored.unwanted, len(stored.envelope.recipients)) == (splits, unwanted, 3)
    run(desk.admission.submit(submission("b@x.example"), CONTENT, ORIGIN))
    assert (desk.store.messages[-1].splits, desk.store.messages[-1].unwanted) == ([("x.example", (0,))], 1)
    run(desk.admission.submit(submission("a@x.example"), CONTENT, ORIGIN))
    assert desk.store.messages[-1].unwanted == 0


@pytest.mark.parametrize(
    ("user", "header", "unwanted"),
    [
        ("shop", b"", 0),
        ("shop", b"X-Postrider-Stream: news\r\n", 1),
        ("agency", b"X-Postrider-Stream: news\r\n", 0),
        ("agency", b"X-Postrider-Stream: news\r\nX-Postrider-Tenant: shop\r\n", 1),
        ("shop", b"X-Postrider-Stream: news\r\nX-Postrider-Tenant: other\r\n", 0),
    ],
)
def test_the_list_is_asked_in_the_name_of_the_tenant_and_the_stream_of_the_message(
    user: str, header: bytes, unwanted: int
) -> None:
    desk = Desk(suppressions=Unwanted())
    run(desk.admission.submit(submission("d@z.example"), header + CONTENT, dataclasses.replace(ORIGIN, user=user)))
    [stored] = desk.store.messages
    assert stored.unwanted == unwanted and b"X-Postrider" not in stored.content
    envelope = stored.envelope
    said = header.decode()
    assert (envelope.user, envelope.tenant in said, envelope.stream in said) == (user, True, True)
    assert envelope.owner == (envelope.tenant or user)


@pytest.mark.parametrize(
    ("url", "level", "said", "track"),
    [
        ("https://c.example", "full", "", "full"),
        ("https://c.example", "full", "anonymous", "anonymous"),
        ("https://c.example", "full", "none", "none"),
        ("https://c.example", "anonymous", "full", "anonymous"),
        ("https://c.example", "none", "full", "none"),
        ("", "full", "", "none"),
        ("", "full", "full", "none"),
    ],
)
def test_of_the_settings_and_the_message_the_stricter_word_about_tracking_holds_and_stays(
    url: str, level: TrackLevel, said: str, track: str
) -> None:
    desk = Desk(Settings(tracking=Tracking(base_url=url, level=level)))
    header = f"X-Postrider-Track: {said}\r\n".encode() if said else b""
    run(desk.admission.submit(submission(), header + CONTENT, ORIGIN))
    desk.admission.reload(Settings(tracking=Tracking(base_url=url, level="full")))
    assert desk.store.messages[0].envelope.track == track


@pytest.mark.parametrize(
    ("level", "batch", "said", "track"),
    [
        ("full", "none", "", "none"), ("full", "anonymous", "full", "anonymous"), ("full", "full", "none", "none"),
        ("full", "anonymous", "none", "none"), ("anonymous", "full", "", "anonymous"), ("none", "full", "", "none"),
    ],
)  # fmt: skip
def test_a_batch_may_tell_less_than_settings_and_message(level: TrackLevel, batch: str, said: str, track: str) -> None:
    tracking = Tracking(base_url="https://c.example", level=level)
    desk = Desk(Settings(tracking=tracking), levels={"b1": Track[batch.upper()]})
    header = f"X-Postrider-Batch: b1\r\n{f'X-Postrider-Track: {said}' if said else 'X-A: b'}\r\n".encode()
    run(desk.admission.submit(submission(), header + CONTENT, ORIGIN))
    run(desk.admission.submit(submission(), CONTENT, ORIGIN))
    assert [each.envelope.track for each in desk.store.messages] == [track, level]


def test_a_list_that_cannot_be_asked_is_no_reason_to_send() -> None:
    unwanted = Unwanted()
    unwanted.fault = StorageError("no table")
    desk = Desk(suppressions=unwanted)
    with pytest.raises(Refused, match=r"^451 4\.3\.0"):
        run(desk.admission.submit(submission(), CONTENT, ORIGIN))
    assert desk.store.messages == []
