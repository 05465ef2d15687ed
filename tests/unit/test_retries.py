"""When something is tried again: what is owed to an application as long as it is kept, all else by the schedule."""

import random

import pytest
from msgspec.structs import replace

from engine.base.settings import Retry
from engine.delivery import sms_trouble, verdicts
from engine.delivery.retries import Retries
from engine.message.envelope import Envelope, Recipient
from engine.message.outcome import Outcome, Status
from engine.storage.spool.entry import Delivery, Message

NOW, DAY = 1_700_000_000.0, 86400.0
UNKNOWN = sms_trouble.unanswered(0, "one[127.0.0.1:2775]")


@pytest.fixture
def retries() -> Retries:
    made = Retries(random.Random(1))
    made.reload(Retry(schedule="1m, 5m", jitter=0.0))
    return made


def a_delivery(destination: str, channel: str = "sms") -> tuple[Delivery, Envelope]:
    envelope = Envelope("m", "ACME", (Recipient("+447700900123"),), NOW, NOW + 7 * DAY, 1, channel=channel)
    return Delivery(Message(envelope, b""), 0, destination, (0,)), envelope


def decide(retries: Retries, delivery: Delivery, envelope: Envelope, outcome: Outcome, now: float) -> tuple[str, float]:
    delivery.attempts += 1
    [decided], due_at = retries.decide(delivery, envelope, [outcome], now)
    return decided.status.name, (due_at or now) - now


def test_what_an_application_is_owed_waits_until_it_is_kept_no_longer(retries: Retries) -> None:
    owed = a_delivery("account:app")
    assert [decide(retries, *owed, UNKNOWN, NOW) for _ in range(20)] == [("UNKNOWN", 60), *[("UNKNOWN", 300)] * 19]
    assert decide(retries, *owed, replace(UNKNOWN, retry_at=NOW), NOW) == ("UNKNOWN", 0), "its bind was lost"
    deferred = sms_trouble.slowed_down(0, "app")
    assert decide(retries, *owed, deferred, NOW + 7 * DAY - 1) == ("DEFERRED", 300)
    assert decide(retries, *owed, deferred, NOW + 7 * DAY) == ("EXPIRED", 0)


@pytest.mark.parametrize(
    ("destination", "channel", "words"),
    [("sms:one", "sms", verdicts.UNANSWERED_SMS), ("one.test", "", verdicts.UNANSWERED)],
)
def test_D3_all_else_goes_once_more(retries: Retries, destination: str, channel: str, words: str) -> None:
    delivery, envelope = a_delivery(destination, channel)
    assert decide(retries, delivery, envelope, UNKNOWN, NOW) == ("UNKNOWN", 60)
    [decided], _ = retries.decide(delivery, envelope, [UNKNOWN], NOW)
    assert decided.status is Status.FAILED and decided.reply.startswith(f"{words}: ")


def test_a_schedule_that_is_over_ends_what_is_not_owed(retries: Retries) -> None:
    delivery, envelope = a_delivery("sms:one")
    deferred = sms_trouble.slowed_down(0, "one")
    assert [decide(retries, delivery, envelope, deferred, NOW) for _ in range(3)] == [
        ("DEFERRED", 60), ("DEFERRED", 300), ("EXPIRED", 0),
    ]  # fmt: skip
