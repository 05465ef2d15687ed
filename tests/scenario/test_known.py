"""What comes back is tied to what was sent, by whatever it gives back; what follows is in the scope of that message."""

import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.message.dkim_keys import SigningKey
from tests.support import dns
from tests.support.client import letter, submit
from tests.support.dkim import rsa_key, sign
from tests.support.engine import daemon, sink, wait_until
from tests.support.inbound import BOUNCES, COMPLAINTS, FEEDBACK, REPLIES, RETURN_PATH, Stage, complaint, listens, report
from tests.support.ports import free_port
from tests.support.relay import relayed, route

PROVIDER = SigningKey("provider.test", "s1", rsa_key())
STRANGER = SigningKey("stranger.test", "s1", rsa_key())
NEWS = ("X-Postrider-Tenant: shop", "X-Postrider-Stream: news", "X-Postrider-Batch: spring")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    path, port = tmp_path_factory.mktemp("known"), free_port()
    zone = {key.dns_name: [f'TXT "{key.record[:200]}" "{key.record[200:]}"'] for key in (PROVIDER, STRANGER)}
    with dns.start(zone) as names, sink(path / "receiver") as receiver:
        rows = (RETURN_PATH, f'{COMPLAINTS}\ntrusted = ["Provider.test"]', f'domain = "{REPLIES}"\nkind = "reply"')
        resolver = f'[resolver]\nnameservers = ["{names.address}"]\n'
        settings = resolver + listens(port, *rows) + route(receiver.address)
        with daemon(path / "engine", settings) as engine:
            yield Stage(engine, receiver, port)


def test_a_complaint_is_of_the_tenant_whose_message_it_is_about(stage: Stage) -> None:
    """Whoever else writes from there, by the same return path, is not meant."""
    message, _, content = stage.sent("ada@far.test", *NEWS)
    event = stage.returns(f"fbl@{FEEDBACK}", complaint(content), sender="fbl@provider.test")
    assert (event["message"], event["recipient"], event["proof"]) == (message, "ada@far.test", "token")
    assert (event["tenant"], event["stream"], event["batch"]) == ("shop", "news", "spring")
    assert stage.is_suppressed("ada@far.test", *NEWS) and stage.is_suppressed("ada@far.test", NEWS[0])
    assert not stage.is_suppressed("ada@far.test")
    assert not stage.is_suppressed("ada@far.test", "X-Postrider-Tenant: other")


def test_an_address_is_told_as_it_was_sent_to(stage: Stage) -> None:
    """Mail systems write tokens in any case; a mailbox may not be the same in another."""
    message, sender, _ = stage.sent("Bob.Marley@Far.test")
    event = stage.returns(sender.upper(), report("bob.marley@far.test", "4.2.2", "452 4.2.2 mailbox full"))
    assert (event["message"], event["recipient"]) == (message, "Bob.Marley@Far.test")
    plain = stage.returns(f"x@{BOUNCES}", report("BOB.MARLEY@far.test", "5.1.1", "550 no", returned=stage.sent(
        "Bob.Marley@Far.test", "Message-ID: <bob.1@news.test>")[2]))  # fmt: skip
    assert plain["recipient"] == "Bob.Marley@Far.test" and not plain.get("proof")


@pytest.mark.parametrize(
    ("own", "fields"),
    [
        ("c1@news.test", "In-Reply-To: <{}>"),
        ("c2@news.test", "References: <older@else.test> <{}>\n <mine@far.test>"),
        ("c3@news.test", "In-Reply-To: your mail <{}> of then"),
    ],
)
def test_a_reply_is_tied_by_the_message_id_that_the_client_gave(stage: Stage, own: str, fields: str) -> None:
    message, _, _ = stage.sent("Carl@far.test", f"Message-ID: <{own}>", *NEWS)
    words = f"From: carl@far.test\nSubject: Re: hello\n{fields.format(own)}\n\nNo, thank you.\n"
    event = stage.returns(f"shop@{REPLIES}", words, sender="carl@elsewhere.test")
    assert (event["type"], event["message"], event["recipient"]) == ("replied", message, "Carl@far.test")
    assert (event["tenant"], event["stream"]) == ("shop", "news")


def test_of_mail_with_one_message_id_a_reply_is_tied_to_what_its_writer_got(stage: Stage) -> None:
    messages = [stage.sent(f"d{n}@far.test", "Message-ID: <mailing@news.test>")[0] for n in range(3)]
    words = "From: d1@far.test\nIn-Reply-To: <mailing@news.test>\n\nHello.\n"
    assert stage.returns(f"shop@{REPLIES}", words, sender="d1@far.test")["message"] == messages[1]


def test_a_vacation_is_tied_too_and_a_stranger_is_not(stage: Stage) -> None:
    message, _, _ = stage.sent("emma@far.test", "Message-ID: <emma.1@news.test>")
    words = "From: emma@far.test\nAuto-Submitted: auto-replied\nSubject: Away\n{}\n\nI am away until Monday.\n"
    away = stage.returns(f"shop@{REPLIES}", words.format("References: <emma.1@news.test>"))
    assert (away["type"], away["message"], away["recipient"]) == ("auto-replied", message, "emma@far.test")
    nobody = stage.returns(f"shop@{REPLIES}", words.format("References: <unknown@news.test>"))
    assert (nobody["type"], nobody["message"]) == ("auto-replied", "")


def _signed(content: str, key: SigningKey) -> str:
    framed = content.replace("\n", "\r\n").encode()
    return (sign(framed, [key]) + framed).decode().replace("\r\n", "\n")


def test_a_report_that_a_trusted_provider_has_signed_is_certain(stage: Stage) -> None:
    """F1, about mail whose return path was not ours: by the Message-ID that it gives back."""
    plain = ("Message-ID: <frida.1@other.test>", *NEWS)
    message, sender, content = stage.sent("Frida@far.test", *plain, sender="shop@other.test")
    assert sender == "shop@other.test"
    said = _signed(complaint(content, "frida@FAR.test"), PROVIDER)
    event = stage.returns(f"fbl@{FEEDBACK}", said, sender="fbl@provider.test")
    assert (event["type"], event["proof"]) == ("complained", "dkim")
    assert (event["message"], event["recipient"], event["tenant"]) == (message, "Frida@far.test", "shop")
    assert stage.is_suppressed("frida@far.test", *NEWS) and not stage.is_suppressed("frida@far.test")


def test_a_redacted_complaint_is_about_the_only_one_it_can_be_about(stage: Stage) -> None:
    fields = ("Message-ID: <gina.1@other.test>", *NEWS)
    _, _, content = stage.sent("gina@far.test", *fields, sender="shop@other.test")
    content = content.replace(b"To: somebody@example.test", b"To: undisclosed-recipients:;")
    event = stage.returns(f"fbl@{FEEDBACK}", _signed(complaint(content), PROVIDER), sender="fbl@provider.test")
    assert (event["recipient"], event["proof"]) == ("gina@far.test", "dkim")


@pytest.mark.parametrize("way", ["to", "shared"])
def test_a_redacted_address_is_that_of_the_message_if_it_went_to_one(stage: Stage, way: str) -> None:
    """Whatever the header that is given back says it is to; of two with one Message-ID nobody can tell."""
    whom, given = f"hana-{way}@far.test", f"Message-ID: <hana-{way}@other.test>"
    if way == "shared":
        stage.sent("other-hana@far.test", given, *NEWS, sender="shop@other.test")
    message, _, content = stage.sent(whom, given, *NEWS, sender="shop@other.test")
    event = stage.returns(f"fbl@{FEEDBACK}", _signed(complaint(content), PROVIDER), sender="fbl@provider.test")
    assert event["message"] == message
    found = (event["recipient"], event.get("proof", "")) == (whom, "dkim")
    assert found is stage.is_suppressed(whom, *NEWS) is (way != "shared")


@pytest.mark.parametrize(
    "what", ["unsigned", "stranger", "changed", "another", "unknown", "length", "type", "elsewhere"]
)
def test_what_nobody_vouches_for_suppresses_nobody(stage: Stage, what: str) -> None:
    fields = (f"Message-ID: <{what}.1@other.test>", *NEWS)
    _, _, content = stage.sent(f"{what}@far.test", *fields, sender="shop@other.test")
    whom = "somebody-else@far.test" if what == "another" else f"{what}@far.test"
    if what == "unknown":
        content = content.replace(b"unknown.1@", b"unheard.1@")
    words = complaint(content, whom)
    if what != "unsigned":
        words = _signed(words, STRANGER if what == "stranger" else PROVIDER)
    if what == "changed":
        words = words.replace("An email abuse report.", "An email abuse report!")
    elif what == "length":
        words = words.replace("v=1;", "v=1; l=10;", 1)
    elif what == "type":
        words = words.replace("From: ", 'Content-Type: multipart/report; boundary="c"\nFrom: ', 1)
    to = f"x@{BOUNCES}" if what == "elsewhere" else f"fbl@{FEEDBACK}"
    event = stage.returns(to, words, sender="fbl@provider.test")
    assert not event.get("proof")
    assert not stage.is_suppressed(f"{what}@far.test", *NEWS)


def _refused(stage: Stage, content: bytes) -> str:
    with smtplib.SMTP("127.0.0.1", stage.port, timeout=60) as client:
        client.ehlo("remote.test")
        client.mail("eve@remote.test")
        client.rcpt(f"shop@{REPLIES}")
        code, reply = client.data(content)
        assert code in (550, 554)
        return f"{code} {reply.decode()}"


def test_mail_that_is_refused_is_an_event(stage: Stage) -> None:
    before = len(stage.engine.events("refused"))
    said = [
        _refused(stage, b"From: eve@remote.test\r\nSubject: a\0b\r\n\r\nText.\r\n"),
        _refused(stage, b"Received: from x by y\r\n" * 60 + b"Subject: loop\r\n\r\nText.\r\n"),
    ]
    events = wait_until(lambda: (found := stage.engine.events("refused")[before:])[1:] and found, "both events")
    assert [event["reply"] for event in events] == said
    assert {(event["sender"], event["destination"]) for event in events} == {("eve@remote.test", f"shop@{REPLIES}")}
    assert [event["status"] for event in events] == ["5.6.0", "5.4.6"]


def test_it_is_known_after_a_restart_and_by_every_worker(tmp_path: Path) -> None:
    port = free_port()
    settings = f"""
        [[listener]]
        kind = "inbound"
        address = "127.0.0.1:{port}"
        [[inbound]]
        domain = "{REPLIES}"
        kind = "reply"
        """
    with relayed(tmp_path, more=settings, workers=2) as (engine, receiver):
        stage = Stage(engine, receiver, port)
        messages = [stage.sent(f"h{n}@far.test", f"Message-ID: <h{n}@news.test>")[0] for n in range(4)]
        engine.stop()
        engine.start()
        for n, message in enumerate(messages):
            words = f"From: h{n}@far.test\nIn-Reply-To: <h{n}@news.test>\n\nHello.\n"
            assert stage.returns(f"shop@{REPLIES}", words, sender=f"h{n}@far.test")["message"] == message


def test_outcomes_that_are_failures_say_what_they_mean(tmp_path: Path) -> None:
    rules = ("rcpt:gone*=550 5.1.1 no such user", "rcpt:grey*=451 4.7.1 greylisted, try again later x1")
    options = [part for rule in rules for part in ("--reply", rule)]
    with relayed(tmp_path, *options, more='[retry]\nschedule = "100ms*"\n') as (engine, _):
        submit(engine.port, "", ["gone@far.test", "grey@far.test", "there@far.test"], letter())
        engine.until(delivered=2)
        kinds = {(event["recipient"], event["type"]): event.get("kind", "") for event in engine.events()}
        assert kinds["gone@far.test", "failed"] == "hard"
        assert kinds["grey@far.test", "deferred"] == "soft"
        assert kinds["there@far.test", "delivered"] == kinds["grey@far.test", "delivered"] == ""
