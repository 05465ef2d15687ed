"""Kinds of failures: who has one, by which rules; and frames of before there were any."""

import msgspec
import pytest

from engine.base.settings import Inbound, Node, Settings, Source
from engine.base.settings_file import shipped
from engine.delivery.kinds import Kinds
from engine.message.bounce_rules import load_classifier
from engine.message.channels import CHANNEL
from engine.message.envelope import Envelope, Recipient
from engine.message.outcome import Outcome, Scope, Status
from engine.storage.spool.frame import Frame, FrameType
from engine.storage.spool.records import is_sound, outcome_header, outcomes_in

SETTINGS = Settings(
    node=Node(name="mx.test"),
    source=(Source(name="one", address="192.0.2.7", address6="2001:db8::7", ehlo="out.test"),),
    inbound=(Inbound(domain="bounces.test", kind="return-path"),),
)
KINDS = Kinds(load_classifier(shipped("bounces.toml")), SETTINGS)
MAIL = Envelope("0Hs7kQpf3Za2Wq", "a@b.test", (Recipient("c@d.test"),), 1.0, 2.0, 10)
SMS = msgspec.structs.replace(MAIL, channel=CHANNEL)


def outcome(status: Status, reply: str, code: str = "5.0.0", phase: str = "rcpt", kind: str = "") -> Outcome:
    return Outcome(
        index=0, status=status, scope=Scope.RECIPIENT, status_code=code, reply=reply, phase=phase, kind=kind
    )  # fmt: skip


@pytest.mark.parametrize(
    ("envelope", "failure", "kind"),
    [
        (MAIL, outcome(Status.FAILED, "550 5.1.1 no such user", "5.1.1"), "hard"),
        (MAIL, outcome(Status.DEFERRED, "452 4.2.2 mailbox full", "4.2.2"), "quota"),
        (MAIL, outcome(Status.EXPIRED, "message expired; last: 550 5.1.1 no such user", "4.4.7"), "expired"),
        (MAIL, outcome(Status.DELIVERED, "250 5.1.1 no such user"), ""),
        (MAIL, outcome(Status.SUPPRESSED, "550 5.1.1 no such user"), ""),
        (MAIL, outcome(Status.REMOVED, "removed by an operator"), ""),
        (SMS, outcome(Status.FAILED, "ESME_RINVDSTADR Invalid Dest Addr", "5.1.1", "submit"), "hard"),
        (SMS, outcome(Status.FAILED, "ESME_RINVSRCADR Invalid Source Addr", "5.1.8", "submit"), "config"),
        (SMS, outcome(Status.DEFERRED, "ESME_RSYSERR System Error", "4.3.0", "submit"), "soft"),
    ],
)
def test_a_failure_has_the_kind_that_the_rules_say(envelope: Envelope, failure: Outcome, kind: str) -> None:
    delivered = outcome(Status.DELIVERED, "250 ok")
    first, second = KINDS.judged(envelope, [delivered, failure], "other")
    assert (first.kind, second.kind) == ("", kind)
    assert msgspec.structs.replace(second, kind="") == failure


@pytest.mark.parametrize(
    "reply",
    [
        "550 5.1.1 <shop@news.test>: user unknown",
        "550 Domain news.test does not exist",
        "550 5.1.1 user unknown, <abc=bob=far.test@bounces.test>",
        "550 5.1.2 unknown host out.test",
        "550 host MX.test not found",
        "550 5.1.1 user unknown (client [192.0.2.7])",
        "550 5.1.1 user unknown 2001:db8:0::7",
        "550 5.1.1 <bob@far.test>: user unknown, from <Shop@news.test>",
    ],
)
def test_a_refusal_that_names_us_is_not_hard(reply: str) -> None:
    """With a recipient elsewhere; the same of somebody else is."""
    envelope = Envelope("0Hs7kQpf3Za2Wq", "shop@news.test", (Recipient("bob@far.test"),), 1.0, 2.0, 10)
    [judged] = KINDS.judged(envelope, [outcome(Status.FAILED, reply)], "other")
    assert judged.kind == "config"
    elsewhere = Kinds(load_classifier(shipped("bounces.toml")), Settings())
    other = msgspec.structs.replace(envelope, sender="x@other.test")
    [judged] = elsewhere.judged(other, [outcome(Status.FAILED, reply)], "other")
    assert judged.kind == "hard"


def test_the_domain_of_the_header_is_ours_too() -> None:
    envelope = Envelope(
        "0Hs7kQpf3Za2Wq", "b@x.test", (Recipient("bob@far.test"),), 1.0, 2.0, 10, header_from="news.test"
    )
    [judged] = KINDS.judged(envelope, [outcome(Status.FAILED, "550 Domain news.test does not exist")], "other")
    assert judged.kind == "config"


@pytest.mark.parametrize(
    ("recipient", "reply"),
    [
        ("bob@news.test", "550 5.1.1 <bob@news.test>: no such user at news.test"),
        ("bob@mx.test", "550 5.1.1 no such user at mx.test"),
        ("bob@far.test", "550 5.1.1 <bob@far.test>: forwards to <eshop@news.test.example>, user unknown"),
        ("bob@far.test", "550 5.1.1 <bob@far.test>: user unknown at host mx.far.test[198.51.100.9] said 1.2.3"),
    ],
)
def test_who_is_of_our_own_domain_may_be_unknown(recipient: str, reply: str) -> None:
    envelope = Envelope("0Hs7kQpf3Za2Wq", "shop@news.test", (Recipient(recipient),), 1.0, 2.0, 10)
    [judged] = KINDS.judged(envelope, [outcome(Status.FAILED, reply)], "other")
    assert judged.kind == "hard"


def _header(*outcomes: Outcome) -> list[object]:
    snapshot = ["d.test", (0,), 1.0, 1, (), 0, ""]
    made = outcome_header(MAIL.id, 0, 1.0, "other", snapshot, outcomes, None)
    return list(msgspec.msgpack.decode(msgspec.msgpack.encode(made)))


def test_a_frame_keeps_the_kind_and_one_of_before_has_none() -> None:
    plain, judged = outcome(Status.FAILED, "550 no"), outcome(Status.FAILED, "550 no", kind="hard")
    header = _header(plain, judged)
    rows = header[6]
    assert isinstance(rows, list) and [len(row) for row in rows] == [7, 8], "what has none is as it always was"
    frame = Frame(FrameType.OUTCOME, 1, header, memoryview(b""), 0, 0)
    assert is_sound(frame) and outcomes_in(frame) == [plain, judged]
    for bad in ([*rows[1][:7], 5], rows[0][:6]):
        assert not is_sound(frame._replace(header=[*header[:6], [bad], None]))
