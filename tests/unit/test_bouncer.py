"""Who is told of what: NOTIFY, RET, null senders (RFC 3461), and notifications that are messages like others."""

from email import message_from_bytes
from email.policy import SMTP

import msgspec
import pytest

from engine.base.settings import Dsn, Node, Retry, RetryClass, Settings
from engine.base.units import Duration, Size
from engine.delivery.bouncer import Bouncer
from engine.delivery.verdicts import UNANSWERED
from engine.message.envelope import Envelope, MessageClass, Notify, Recipient
from engine.message.ids import IdSource
from engine.message.outcome import Outcome, Scope, Status
from engine.protocol.dsn import Action

NOW = 1_700_000_100.0
CONTENT = b"Subject: hello\r\n\r\n" + b"text\r\n" * 100


class StillClock:
    def time(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return NOW


def bouncer(**dsn: object) -> Bouncer:
    settings = Settings(
        node=Node(name="Mx.example.com"),
        retry=Retry(transactional=RetryClass(expire_after=Duration(600))),
        dsn=Dsn(**dsn),  # type: ignore[arg-type]  # chosen by the test
    )
    return Bouncer(settings, IdSource("mx", 0, StillClock()), StillClock())


def envelope(*notify: int, sender: str = "eve@example.com", ret: str = "", body: str = "7BIT") -> Envelope:
    return Envelope(
        "0Hs7kQpf3Za2Wq",
        sender,
        tuple(Recipient(f"r{n}@example.org", value) for n, value in enumerate(notify)),
        received_at=NOW - 3600,
        expires_at=NOW + 3600,
        content_bytes=len(CONTENT),
        ret=ret,
        body=body,
        envid="QQ314159",
    )


def outcome(index: int = 0, status: Status = Status.FAILED, reply: str = "550 5.1.1 no such user") -> Outcome:
    return Outcome(
        index=index,
        status=status,
        scope=Scope.RECIPIENT,
        status_code="2.0.0" if status is Status.DELIVERED else "5.1.1",
        reply=reply,
        remote="mx1.example.org[192.0.2.7]:25",
        phase="rcpt",
    )


def reported(content: bytes) -> list[str]:
    return [line.decode() for line in content.split(b"\r\n") if line.startswith(b"Final-Recipient:")]


ASKED_ALL = Notify.SUCCESS | Notify.FAILURE | Notify.DELAY


@pytest.mark.parametrize(
    ("notify", "told"),
    [
        (Notify.UNSET, {"failed"}),
        (Notify.NEVER, set()),
        (Notify.FAILURE, {"failed"}),
        (Notify.DELAY, {"delayed"}),
        (Notify.SUCCESS, {"delivered", "relayed", "expanded"}),
        (ASKED_ALL, {"failed", "delayed", "delivered", "relayed", "expanded"}),
        (ASKED_ALL | Notify.NEVER, set()),
    ],
)
def test_who_is_told_of_what(notify: int, told: set[str]) -> None:
    statuses: dict[Action, Status] = {
        "failed": Status.FAILED,
        "delayed": Status.DEFERRED,
        "delivered": Status.DELIVERED,
        "relayed": Status.DELIVERED,
        "expanded": Status.DELIVERED,
    }
    found = {
        action
        for action, status in statuses.items()
        if bouncer().compose(envelope(notify), CONTENT, [outcome(status=status)], action)
    }
    assert found == told


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (Status.DELIVERED, {"delivered"}),
        (Status.DEFERRED, {"delayed"}),
        (Status.UNKNOWN, {"delayed"}),
        (Status.FAILED, {"failed"}),
        (Status.EXPIRED, {"failed"}),
        (Status.SUPPRESSED, {"failed"}),
        (Status.REMOVED, set()),
    ],
)
def test_what_a_status_is_reported_as(status: Status, told: set[str]) -> None:
    """An operator's purge is silent; nothing that failed is."""
    actions: tuple[Action, ...] = ("failed", "delayed", "delivered")
    source = envelope(ASKED_ALL)
    assert {a for a in actions if bouncer().compose(source, CONTENT, [outcome(status=status)], a)} == told


def test_delays_are_told_to_everybody_if_the_settings_say_so() -> None:
    deferred = [outcome(status=Status.DEFERRED)]
    assert bouncer(delay_by_default=True).compose(envelope(Notify.UNSET), CONTENT, deferred, "delayed")
    assert not bouncer(delay_by_default=True).compose(envelope(Notify.FAILURE), CONTENT, deferred, "delayed")


def test_a_null_sender_is_never_answered_so_no_notification_is() -> None:
    assert bouncer().compose(envelope(ASKED_ALL, sender=""), CONTENT, [outcome()], "failed") is None
    first = bouncer().compose(envelope(0), CONTENT, [outcome()], "failed")
    assert first is not None
    assert first[0].sender == ""
    assert bouncer().compose(*first, [outcome()], "failed") is None


def test_one_notification_for_all_who_failed_and_want_to_be_told() -> None:
    source = envelope(Notify.UNSET, Notify.NEVER, Notify.FAILURE, Notify.UNSET)
    outcomes = [outcome(0), outcome(1), outcome(2, Status.EXPIRED), outcome(3, Status.DELIVERED)]
    made = bouncer().compose(source, CONTENT, outcomes, "failed")
    assert made is not None
    assert reported(made[1]) == [
        "Final-Recipient: rfc822; r0@example.org",
        "Final-Recipient: rfc822; r2@example.org",
    ]


def test_nobody_to_tell_makes_no_notification() -> None:
    assert bouncer().compose(envelope(0), CONTENT, [], "failed") is None
    assert bouncer().compose(envelope(0), CONTENT, [outcome(status=Status.DELIVERED)], "failed") is None


def test_the_notification_is_a_message_like_any_other() -> None:
    made = bouncer().compose(envelope(0), CONTENT, [outcome()], "failed")
    assert made is not None
    sent, content = made
    assert sent == Envelope(
        id=sent.id,
        sender="",
        recipients=(Recipient("eve@example.com", notify=Notify.NEVER),),
        received_at=NOW,
        expires_at=NOW + 600,
        content_bytes=len(content),
        message_class=MessageClass.TRANSACTIONAL,
        body="7BIT",
        header_from="mx.example.com",
    )
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(sent), type=Envelope) == sent
    message = message_from_bytes(content, policy=SMTP)
    assert message["From"].addresses[0].addr_spec == "MAILER-DAEMON@Mx.example.com"
    assert message["To"].addresses[0].addr_spec == "eve@example.com"
    assert message["Message-ID"] == f"<{sent.id}@Mx.example.com>"
    assert b"\r\nOriginal-Envelope-Id: QQ314159\r\n" in content


def test_a_postmaster_of_ones_own_signs_with_its_domain() -> None:
    made = bouncer(postmaster="postmaster@Example.com").compose(envelope(0), CONTENT, [outcome()], "failed")
    assert made is not None
    assert made[0].header_from == "example.com"


def test_a_sender_beyond_ascii_makes_an_smtputf8_message() -> None:
    made = bouncer().compose(envelope(0, sender="björn@example.com"), CONTENT, [outcome()], "failed")
    assert made is not None
    assert made[0].smtputf8
    assert made[0].body == "8BITMIME"


@pytest.mark.parametrize(
    ("action", "ret", "limit", "body", "whole"),
    [
        ("failed", "", 10_000, "7BIT", True),
        ("failed", "FULL", 10_000, "7BIT", True),
        ("failed", "HDRS", 10_000, "7BIT", False),
        ("failed", "", 10, "7BIT", False),
        ("failed", "FULL", 10, "7BIT", False),
        ("failed", "FULL", 10_000, "BINARYMIME", False),
        ("delayed", "FULL", 10_000, "7BIT", False),
        ("delivered", "FULL", 10_000, "7BIT", False),
    ],
)
def test_how_much_comes_back(action: Action, ret: str, limit: int, body: str, whole: bool) -> None:
    """RFC 3461 4.3: RET is about failures."""
    status = {"failed": Status.FAILED, "delayed": Status.DEFERRED, "delivered": Status.DELIVERED}[action]
    source = envelope(ASKED_ALL, ret=ret, body=body)
    made = bouncer(max_return_bytes=Size(limit)).compose(source, CONTENT, [outcome(status=status)], action)
    assert made is not None
    assert (CONTENT in made[1]) == whole
    assert b"Subject: hello\r\n" in made[1]


_SAID = "mx1.example.org answered: 550 5.1.1 no such user"


@pytest.mark.parametrize(
    ("status", "reply", "text"),
    [
        (Status.FAILED, "550 5.1.1 no such user", _SAID),
        (Status.EXPIRED, "550 5.1.1 no such user", f"Given up after 2h. The last answer was: {_SAID}"),
        (
            Status.EXPIRED,
            "message expired; last: 550 5.1.1 no such user",
            f"Given up after 2h. The last answer was: {_SAID}",
        ),
        (
            Status.EXPIRED,
            "message expired; last: 4.4.2 timed out",
            "Given up after 2h. The last trouble was: 4.4.2 timed out",
        ),
        (Status.EXPIRED, "message expired", "Given up after 2h."),
        (Status.FAILED, UNANSWERED, UNANSWERED),
    ],
)
def test_the_reason_is_a_sentence_and_an_answer_is_what_a_server_said(status: Status, reply: str, text: str) -> None:
    made = bouncer().compose(envelope(0), CONTENT, [outcome(status=status, reply=reply)], "failed")
    assert made is not None
    words = b" ".join(made[1].split()).decode()
    assert text in words
    assert ("answered:" in words) is ("answered:" in text)
    assert words.count("message expired") <= 1, "in Diagnostic-Code, for programs"


def test_what_we_found_ourselves_names_no_server() -> None:
    ours = Outcome(
        index=0, status=Status.FAILED, scope=Scope.RECIPIENT, status_code="5.4.4", reply="no such domain", phase="queue"
    )
    made = bouncer().compose(envelope(0), CONTENT, [ours], "failed")
    assert made is not None
    assert b"\r\n    no such domain\r\n" in made[1]
    assert b"Remote-MTA" not in made[1]
    assert b"Last-Attempt-Date" not in made[1]
