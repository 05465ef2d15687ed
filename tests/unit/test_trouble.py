"""What replies and faults mean: tables."""

import pytest

from engine.base.errors import EngineError, NetworkError, ProtocolError
from engine.delivery import trouble, verdicts
from engine.delivery.trouble import SessionFailed
from engine.message.outcome import Outcome, Scope, Status
from engine.net.stream import TimedOut, TlsFailed
from engine.protocol.smtp_client import Transaction
from engine.protocol.smtp_content import Content
from engine.protocol.smtp_reply import Reply
from engine.routing.plan import NoRoute

REMOTE = "mx.example.test[192.0.2.1]:25"


def reply(text: str) -> Reply:
    code, _, rest = text.partition(" ")
    return Reply(int(code), (rest.encode(),))


def transaction(
    mail: str = "", *rcpts: str, data: str = "", end: str = "", closing: str = "", sent: bool = False, go: bool = False
) -> Transaction:
    made = Transaction(Content(b"", b"x\r\n"))
    made.mail = reply(mail) if mail else None
    made.rcpts = [reply(rcpt) for rcpt in rcpts]
    made.data = reply(data) if data else None
    made.end = reply(end) if end else None
    made.closing = reply(closing) if closing else None
    made.end_sent, made.go_ahead = sent, go
    made.heard = bool(mail or closing)
    return made


def brief(outcomes: list[Outcome]) -> list[str]:
    return [f"{o.index} {o.status.name} {o.scope.name} {o.status_code} {o.phase}" for o in outcomes]


def settled(made: Transaction, count: int = 1, fault: EngineError | None = None) -> list[str]:
    return brief(trouble.settled(made, range(count), REMOTE, fault))


def test_some_delivered_some_refused_some_deferred() -> None:
    made = transaction(
        "250 ok", "250 ok", "550 5.1.1 no", "450 4.2.0 grey", "251 forwarded", end="250 2.6.0 queued", sent=True
    )
    assert settled(made, 4) == [
        "0 DELIVERED RECIPIENT 2.6.0 end-of-data",
        "1 FAILED RECIPIENT 5.1.1 rcpt",
        "2 DEFERRED RECIPIENT 4.2.0 rcpt",
        "3 DELIVERED RECIPIENT 2.6.0 end-of-data",
    ]


def test_d1_what_happens_after_the_final_250_changes_nothing() -> None:
    made = transaction("250 ok", "250 ok", end="250 queued", sent=True)
    assert settled(made, 1, ProtocolError("nonsense")) == ["0 DELIVERED RECIPIENT 2.0.0 end-of-data"]


@pytest.mark.parametrize("fault", [NetworkError("gone"), TimedOut("timed out"), ProtocolError("354 at the end")])
def test_d3_end_of_data_sent_and_no_reply_is_unknown_for_the_accepted(fault: EngineError) -> None:
    made = transaction("250 ok", "250 ok", "550 5.1.1 no", sent=True)
    code = "4.5.0" if isinstance(fault, ProtocolError) else "4.4.2"
    assert settled(made, 3, fault) == [
        f"0 UNKNOWN SESSION {code} end-of-data",
        "1 FAILED RECIPIENT 5.1.1 rcpt",
        f"2 UNKNOWN SESSION {code} end-of-data",
    ]


def test_before_the_end_of_data_a_lost_connection_is_deferred() -> None:
    gone = NetworkError("gone")
    assert settled(transaction(), 1, gone) == ["0 DEFERRED SESSION 4.4.2 mail"]
    assert settled(transaction("250 ok"), 1, gone) == ["0 DEFERRED SESSION 4.4.2 rcpt"]
    assert settled(transaction("250 ok", "250 ok"), 1, gone) == ["0 DEFERRED SESSION 4.4.2 data"]
    assert settled(transaction("250 ok", "250 ok", go=True), 1, gone) == ["0 DEFERRED SESSION 4.4.2 end-of-data"]


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (transaction("550 no", "503 no", "503 no"), "FAILED MESSAGE 5.0.0 mail"),
        (transaction("552 5.3.4 too big"), "FAILED MESSAGE 5.3.4 mail"),
        (transaction("451 4.3.0 later"), "DEFERRED MESSAGE 4.3.0 mail"),
        (transaction("421 4.3.2 bye", closing="421 4.3.2 bye"), "DEFERRED SESSION 4.3.2 mail"),
        (transaction("451 4.7.1 you send too much"), "DEFERRED SITE 4.7.1 mail"),
        (transaction("421 4.7.0 [TSS04] deferred", closing="421 4.7.0 [TSS04] deferred"), "DEFERRED SITE 4.7.0 mail"),
        (transaction("550 5.7.1 blocked"), "FAILED MESSAGE 5.7.1 mail"),
        (transaction("250 ok", "450 4.7.1 Greylisted, come back"), "DEFERRED RECIPIENT 4.7.1 rcpt"),
        (transaction("250 ok", "450 4.7.25 no reverse name"), "DEFERRED SITE 4.7.25 rcpt"),
        (transaction("250 ok", "552 too many recipients"), "DEFERRED RECIPIENT 4.5.3 rcpt"),
        (transaction("250 ok", "552 5.2.2 mailbox full"), "FAILED RECIPIENT 5.2.2 rcpt"),
        (transaction("250 ok", "452 too many"), "DEFERRED RECIPIENT 4.3.1 rcpt"),
        (transaction("250 ok", "550 not here"), "FAILED RECIPIENT 5.0.0 rcpt"),
        (transaction("250 ok", "550 4.1.1 confused"), "FAILED RECIPIENT 5.0.0 rcpt"),
        (transaction("250 ok", "250 ok", data="451 no room"), "DEFERRED MESSAGE 4.3.0 data"),
        (transaction("250 ok", "250 ok", data="554 no"), "FAILED MESSAGE 5.0.0 data"),
        (transaction("250 ok", "250 ok", end="554 5.7.1 spam", sent=True), "FAILED MESSAGE 5.7.1 end-of-data"),
        (transaction("250 ok", "250 ok", end="451 4.3.0 later", sent=True), "DEFERRED MESSAGE 4.3.0 end-of-data"),
        (transaction("250 ok", "250 ok", end="552 5.2.2 full", sent=True), "FAILED MESSAGE 5.2.2 end-of-data"),
        (transaction("250 ok", "250 ok", end="421 bye", closing="421 bye", sent=True),
         "DEFERRED SESSION 4.3.2 end-of-data"),
        (transaction(closing="421 bye"), "DEFERRED SESSION 4.3.2 mail"),
    ],
)  # fmt: skip
def test_replies_by_phase(made: Transaction, wanted: str) -> None:
    assert settled(made) == [f"0 {wanted}"]


@pytest.mark.parametrize(
    ("failure", "wanted"),
    [
        (SessionFailed(REMOTE, "connect", fault=NetworkError("refused")), "SITE 4.4.1 connect"),
        (SessionFailed(REMOTE, "connect", fault=TimedOut("no connection within 30 s")), "SITE 4.4.1 connect"),
        (SessionFailed(REMOTE, "banner", reply=reply("554 go away")), "SITE 4.0.0 banner"),
        (SessionFailed(REMOTE, "banner", reply=reply("521 no mail here")), "SITE 4.3.2 banner"),
        (SessionFailed(REMOTE, "banner", reply=reply("421 4.3.2 too many connections")), "SESSION 4.3.2 banner"),
        (SessionFailed(REMOTE, "banner", reply=reply("421 4.7.0 blocked")), "SITE 4.7.0 banner"),
        (SessionFailed(REMOTE, "ehlo", reply=reply("550 5.7.1 bad name")), "SITE 4.7.1 ehlo"),
        (SessionFailed(REMOTE, "ehlo", fault=NetworkError("gone")), "SESSION 4.4.2 ehlo"),
        (SessionFailed(REMOTE, "ehlo", fault=ProtocolError("nonsense")), "SESSION 4.5.0 ehlo"),
        (SessionFailed(REMOTE, "starttls", fault=TlsFailed("untrusted")), "SESSION 4.7.5 starttls"),
        (SessionFailed(REMOTE, "starttls", words="not offered", status_code="4.7.4"), "SESSION 4.7.4 starttls"),
        (SessionFailed(REMOTE, "auth", reply=reply("535 5.7.8 wrong")), "SITE 4.7.8 auth"),
        (SessionFailed(REMOTE, "auth", words="no TLS"), "SESSION 4.7.0 auth"),
    ],
)
def test_before_mail_nothing_is_permanent(failure: SessionFailed, wanted: str) -> None:
    assert brief(trouble.session_failed(failure, (4, 7))) == [f"4 DEFERRED {wanted}", f"7 DEFERRED {wanted}"]
    assert REMOTE in str(failure)


@pytest.mark.parametrize(
    ("made", "stale"),
    [
        (transaction(), True),
        (transaction(sent=True), False),  # D3: it may have been taken
        (transaction("250 ok"), False),
        (transaction(closing="421 4.4.2 idle too long"), True),
        (transaction(closing="421 4.7.0 too much mail"), False),
    ],
)
def test_a_stale_connection_took_nothing(made: Transaction, stale: bool) -> None:
    assert trouble.is_stale(made) is stale


def test_421_to_mail_on_a_used_connection_is_stale_but_to_rcpt_it_is_not() -> None:
    goodbye = reply("421 4.4.2 idle too long")
    made = transaction(sent=True)
    made.mail = made.closing = goodbye
    assert trouble.is_stale(made)
    made.mail, made.rcpts = reply("250 ok"), [goodbye]
    assert not trouble.is_stale(made)


def test_fates_decided_without_asking() -> None:
    null_mx = NoRoute(Status.FAILED, "5.1.10", "example.test does not accept mail (null MX)", 0.0)
    assert brief(verdicts.no_route(null_mx, (2,))) == ["2 FAILED SITE 5.1.10 connect"]
    assert brief(verdicts.expired((1,), "450 4.2.0 grey")) == ["1 EXPIRED MESSAGE 4.4.7 queue"]
    assert "450 4.2.0 grey" in verdicts.expired((1,), "450 4.2.0 grey")[0].reply
    assert brief(verdicts.purged((1,))) == ["1 REMOVED MESSAGE 5.0.0 queue"]
    assert brief(verdicts.bounced((1,), "on request")) == ["1 FAILED MESSAGE 5.7.1 queue"]
    assert brief(verdicts.internal((1,))) == ["1 DEFERRED SESSION 4.3.0 queue"]


def test_recipients_for_whom_a_transaction_was_full_go_in_the_next_one_if_it_took_anybody() -> None:
    def outcome(index: int, status: Status, code: str, phase: str = "rcpt") -> Outcome:
        return verdicts.everyone((index,), status, Scope.RECIPIENT, code, "x", phase=phase)[0]

    taken = outcome(0, Status.DELIVERED, "2.0.0", "end-of-data")
    full = [outcome(index, Status.DEFERRED, "4.5.3") for index in (1, 2)]
    assert trouble.too_many_at_once([taken, *full]) == ([taken], (1, 2))
    assert trouble.too_many_at_once(full) == (full, ())
    assert trouble.too_many_at_once([taken]) == ([taken], ())


def test_a_stop_rule_closes_the_site_until_its_time() -> None:
    def stop_for(text: str) -> float | None:
        return 7200.0 if "[TSS04]" in text else None

    said = "421 4.7.0 [TSS04] Messages from 192.0.2.9 temporarily deferred"
    [hit] = trouble.settled(transaction(said, closing=said), (0,), REMOTE)
    assert verdicts.stopped(hit, stop_for, 1000.0).retry_at == 8200.0
    assert verdicts.stopped(hit, stop_for, 1000.0).scope is Scope.SITE
    [miss] = trouble.settled(transaction("451 4.3.0 later"), (0,), REMOTE)
    assert verdicts.stopped(miss, stop_for, 1000.0) is miss
    [final] = trouble.settled(transaction("550 [TSS04]"), (0,), REMOTE)
    assert verdicts.stopped(final, stop_for, 1000.0) is final


def test_words_are_short_whatever_is_said() -> None:
    made = transaction("550 " + "x" * 5000)
    assert len(trouble.settled(made, (0,), REMOTE)[0].reply) == verdicts.MAX_WORDS
