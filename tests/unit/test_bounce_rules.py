"""What replies mean: the rules that are shipped, what holds of all rules, and mistakes that `problems` finds."""

import random
import typing

import pytest

from engine.base.settings_bounces import PHASES, BounceRule, Kind
from engine.base.settings_file import load_bounce_rules
from engine.message import outcome
from engine.message.bounce_rules import Classifier, problems
from tests.support.judging import RULES, shipped
from tests.support.replies import Known, replies


def test_every_shipped_rule_does_what_its_samples_say() -> None:
    found: list[str] = []
    rules = load_bounce_rules(RULES, found)
    assert found == problems(rules) == []
    assert len(rules) > 40


def test_phases_are_those_of_outcomes() -> None:
    assert set(PHASES) == {*outcome.PHASES, "smpp"}


#: Blocks on us, of every provider that says so in its own words, most of them with words of a dead address, too.
BLOCKS = [
    "554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using zen.spamhaus.org",
    "550 5.1.1 Mail from 192.0.2.7 refused, your address is blacklisted",
    "550 5.7.1 Unfortunately, messages from [192.0.2.7] weren't sent (S3150).",
    "550 5.7.606 Access denied, banned sending IP [192.0.2.7]",
    "553 5.7.1 [BL21] Connections not accepted from IP addresses on a list",
    "421 4.7.0 [TSS04] Messages from 192.0.2.7 temporarily deferred due to unexpected volume or user complaints",
    "554 IP=192.0.2.7 - a problem occurred: your IP address has a bad reputation (WB-S)",
    "550 5.7.1 <bob@example.net>: Recipient address rejected: Your server 192.0.2.7 is listed in SORBS",
    "550 Your domain example.org has been blocked due to spam complaints",
    "521 5.2.1 (CON:B1) your IP address is blocked because of complaints",
    "554 5.7.1 You are not allowed to connect. Client host rejected: Access denied",
    "550 5.7.1 Connections from the host mx.example.org (192.0.2.7) are not accepted",
    "554 resimta comcast 192.0.2.7 found on one or more DNSBLs",
    "550 5.7.0 Local policy violation",
    "550 5.7.1 recipient only accepts mail from approved senders",
    "550 Ip frequency limited",
    "450 4.7.1 too many messages from 192.0.2.7 per hour",
    "550 5.7.1 Your message to this mailbox was blocked by the recipient",
    "550 permanent failure for one or more recipients (bob@example.net:blocked)",
    "554 5.7.1 You've reached your daily relay quota",
    "550 Denied by policy",
    "550 5.7.1 Command rejected",
]
HARD = [
    "550 5.1.1 <spam-quota@example.net>: Recipient address rejected: User unknown in virtual mailbox table",
    "550 5.1.1 <blocked.by.spamhaus@example.net> user unknown",
    "550 No such person at this address",
    "550 5.1.1 unknown or illegal alias: bob@example.net",
    "554 30 Sorry, your message to bob@example.net cannot be delivered. This mailbox is disabled",
    "550 5.2.1 The email account that you tried to reach is inactive",
    "550 #5.1.0 Address rejected.",
    "550 5.1.1 User does not exist",
    "550 Account bob@example.net does not exist",
    "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
    "550 5.4.1 Recipient address rejected: Access denied",
    "556 5.1.10 <bob@example.net>: Recipient address rejected: Domain example.net does not accept mail (nullMX)",
    "550 invalid mailbox. Local mailbox bob is unavailable: user not found",
    "550 Invalid recipient",
    "550 cuda_nsu <bob@example.net> not found",
    "554 5.5.0 Error: no inbox for recipient",
    "550 Recipient Rejected: No account by that name here",
    "550 5.1.1 Recipient rejected",
    "511 sorry, no mailbox here by that name (#5.1.1 - chkuser)",
]
TEMPORARY = [
    "450 4.1.1 <bob@example.net>: Recipient address rejected: User unknown in local recipient table",
    "450 user unknown",
    "451 4.1.8 Domain of sender address does not resolve",
    "421 4.3.0 no such user in our directory at the moment",
    "452 4.2.2 mailbox does not exist yet",
    "4.4.1 unknown host",
    "550 mailbox temporarily disabled",
]


@pytest.mark.parametrize("known", replies(), ids=lambda known: f"{known.family}: {known.reply[:60]}")
def test_what_the_worlds_servers_say(known: Known) -> None:
    """In a report, which does not tell the phase, and in a session."""
    for phase in ("", "rcpt", "end-of-data"):
        assert shipped().judge(known.reply, phase=phase).kind == known.kind


def test_the_replies_are_many_and_each_is_there_once() -> None:
    assert len({known.reply for known in replies()}) == len(replies()) > 500
    assert {known.kind for known in replies()} == set(typing.get_args(Kind)) - {
        "auto-reply", "complaint", "challenge", "unknown",
    }  # fmt: skip


@pytest.mark.parametrize("reply", BLOCKS)
def test_a_block_on_us_is_never_about_the_address(reply: str) -> None:
    for phase in ("", "rcpt", "data", "end-of-data", "connect", "mail"):
        assert shipped().judge(reply, phase=phase).kind == "block"


@pytest.mark.parametrize("reply", HARD)
def test_a_dead_address_is_hard_whatever_it_is_called(reply: str) -> None:
    assert shipped().judge(reply).kind == shipped().judge(reply, phase="rcpt").kind == "hard"


@pytest.mark.parametrize("reply", TEMPORARY)
def test_nothing_temporary_is_hard(reply: str) -> None:
    assert shipped().judge(reply).kind != "hard"


@pytest.mark.parametrize("known", [known for known in replies() if known.kind == "hard"], ids=lambda known: known.reply)
def test_words_about_us_or_about_now_make_no_address_dead(known: Known) -> None:
    """Whichever rule would call it so: guards hold for all."""
    judge = shipped().judge
    for words in (
        "temporarily", "due to maintenance", "try again later", "Absender unbekannt", "отправитель не найден",
        "rejected by the user", "您的邮件被用户拒绝", "заблокирован пользователем",
    ):  # fmt: skip
        assert judge(f"{known.reply} {words}").kind != "hard", words


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("550 Mailbox unknown. To the sender: ask for another address", "hard"),
        ("550 5.1.1 bob nicht im Domino-Verzeichnis aufgeführt", "hard"),
        ("550 5.1.1 RCP-P2 http://example.com/response_codes?ip=192.0.2.7#rcp Unable to find recipient", "hard"),
        ("421-4.7.29 this message wasn't sent over a TLS connection", "config"),
        ("554 5.4.6 mail for example.net loops back to myself", "config"),
        ("550 DMARC Sender Invalid - envelope rejected", "auth"),
        (
            "550 5.7.515 Access denied, sending domain example.org doesn't meet the required authentication level",
            "auth",
        ),
        ("550 Domain name not found in sender address", "config"),
        ("550 Verification failed for <ada@example.org>", "config"),
        ("554 Domain example.net is not local", "config"),
        ("554 5.5.1 Error: no valid recipients", "config"),
        ("552 5.7.0 This message was blocked because its content presents a potential security issue", "content"),
        ("553 Mail data refused by AISP, rule [13]", "content"),
        ("550 Mailbox quota exceeded", "quota"),
        ("422 The recipient's mailbox is over its storage limit", "quota"),
        ("554 5.2.0 STOREDRV.Deliver.Exception:QuotaExceededException; Failed to process message", "quota"),
        ("550 5.4.300 Message expired", "expired"),
        ("554 5.4.14 Hop count exceeded - possible mail loop", "soft"),
        ("554 Transaction failed", "unknown"),
        ("550 no", "unknown"),
    ],
)
def test_what_is_neither_a_block_nor_a_dead_address(reply: str, kind: str) -> None:
    assert shipped().judge(reply).kind == kind


@pytest.mark.parametrize("phase", ["connect", "banner", "ehlo", "starttls", "auth", "mail"])
@pytest.mark.parametrize("reply", HARD)
def test_before_rcpt_nothing_is_about_the_address(phase: str, reply: str) -> None:
    assert shipped().judge(reply, phase=phase).kind != "hard"


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ("ESME_RINVDSTADR", "hard"),
        ("ESME_RTHROTTLED", "soft"),
        ("ESME_RINVSRCADR", "config"),
        ("ESME_RINVMSGLEN", "content"),
        ("UNDELIV err:001", "unknown"),
        ("EXPIRED err:000", "expired"),
        ("REJECTD blacklisted", "block"),
        ("550 5.1.1 user unknown", "unknown"),
        ("", "unknown"),
    ],
)
def test_carriers_are_judged_by_rules_of_their_own(reply: str, kind: str) -> None:
    assert shipped().judge(reply, phase="smpp").kind == kind


def test_words_of_carriers_mean_nothing_in_mail() -> None:
    assert shipped().judge("ESME_RINVDSTADR").kind == "unknown"


def rule(**fields: object) -> BounceRule:
    values: dict[str, object] = {"name": "x", "kind": "soft", "matches": ("450 x",), "misses": ("450 y",), **fields}
    return BounceRule(**values)  # type: ignore[arg-type]


def test_the_first_rule_wins_and_every_condition_must_hold() -> None:
    classifier = Classifier(
        [
            rule(name="provider", kind="block", text=("no",), provider=("qq",)),
            rule(name="phase", kind="content", text=("no",), phase=("data",)),
            rule(name="code", kind="config", text=("no",), code=("55",)),
            rule(name="status", kind="quota", text=("no",), status=("x.2.x",)),
            rule(name="text", kind="hard", text=("no way",)),
            rule(name="guard", kind="block", text=("no way",), guard=True, status=("5.1.x",)),
            rule(name="last", kind="soft", code=("4",)),
        ]
    )
    names = {
        classifier.judge("550 no", provider="qq").rule: "provider",
        classifier.judge("450 no", phase="data").rule: "phase",
        classifier.judge("550 no", phase="rcpt", provider="x").rule: "code",
        classifier.judge("450 4.2.9 no").rule: "status",
        classifier.judge("no", status="5.2.0").rule: "code",
        classifier.judge("450 NO\tWAY").rule: "text",
        classifier.judge("540 5.1.1 no way").rule: "guard",
        classifier.judge("450 yes").rule: "last",
        classifier.judge("530 yes").rule: "",
    }
    assert names == {name: name for name in names}


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"text": ("(",)}, "not a pattern that RE2 knows"),
        ({"text": (r"(?=x)",)}, "not a pattern that RE2 knows"),
        ({"text": ("",)}, "in every reply"),
        ({"text": ("x*",)}, "matches a reply without words"),
        ({"text": (r"4\\.7",)}, "doubled backslash"),
        ({"text": ("x",), "code": ("5xx",)}, "beginning of a code"),
        ({"text": ("x",), "status": ("5.1",)}, "not an enhanced code"),
        ({"text": ("x",), "matches": ()}, "samples are missing"),
        ({"text": ("x",), "guard": True, "kind": "hard"}, "guard: is for rules that are not hard"),
        ({"guard": True, "code": ("4",)}, "guard: is for rules that are not hard"),
        ({}, "would take everything"),
        ({"text": ("z",)}, 'matches "450 x": no rule takes it'),
        ({"text": ("y",), "matches": ("450 y",)}, 'misses "450 y": it matches'),
    ],
)
def test_a_rule_that_cannot_be_meant_is_found(wrong: dict[str, object], says: str) -> None:
    found = problems([rule(**wrong)])
    assert any(says in problem for problem in found), found
    assert all(problem.startswith('[[rule]] 1 "x": ') for problem in found)


def test_a_sample_that_another_rule_takes_is_found_with_its_name() -> None:
    rows = [rule(name="wide", text=("x",), misses=("450 z",)), rule(name="narrow", text=("450 x",))]
    assert problems(rows) == ['[[rule]] 2 "narrow": matches "450 x": "wide" takes it']
    assert any("there already" in problem for problem in problems([rows[0], rows[0]]))


def test_ten_thousand_codes_do_not_fill_memory() -> None:
    draw = random.Random(7)
    classifier = shipped()
    for _ in range(10_000):
        classifier.judge(
            f"{draw.randrange(200, 600)} {draw.randrange(2, 6)}.{draw.randrange(99)}.{draw.randrange(999)} x"
        )
    assert len(classifier._by_code) <= 4096
