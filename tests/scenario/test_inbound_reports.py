"""Reports that prove less than they seem to, or are refused: about ourselves, of other kinds, too large."""

import smtplib
from collections.abc import Iterator

import pytest

from tests.support.engine import daemon, sink, wait_until
from tests.support.inbound import ANSWERS, COMPLAINTS, FEEDBACK, RETURN_PATH, Stage, complaint, listens, report
from tests.support.ports import free_port
from tests.support.relay import route


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    path = tmp_path_factory.mktemp("reports")
    port = free_port()
    with sink(path / "receiver") as receiver:
        settings = listens(port, RETURN_PATH, COMPLAINTS, ANSWERS) + route(receiver.address)
        settings += '[intake]\nmax_message_bytes = "2MiB"\n'
        with daemon(path / "engine", settings) as engine:
            yield Stage(engine, receiver, port)


@pytest.mark.parametrize("whom", ["shop@news.test", "SHOP@News.test", '"shop"@news.test', "x@bounces.mx.test"])
def test_a_report_that_our_own_sender_failed_says_nothing_of_whom_we_wrote_to(stage: Stage, whom: str) -> None:
    """A mailbox that forwards what bounces, say: the token came along."""
    to = f"own-{whom.encode().hex()[-20:]}@far.test"
    message, sender, _ = stage.sent(to)
    event = stage.returns(sender, report(whom, "5.1.1", "550 5.1.1 no such user here"))
    assert (event["type"], event["message"], event["recipient"]) == ("bounced", message, to)
    assert not event.get("proof") and not stage.is_suppressed(to)


def test_a_message_to_oneself_fails_as_any_other(stage: Stage) -> None:
    _, sender, _ = stage.sent("self@news.test", sender="self@news.test")
    event = stage.returns(sender, report("self@news.test", "5.1.1", "550 5.1.1 no such user here"))
    assert event["proof"] == "token" and stage.is_suppressed("self@news.test")


@pytest.mark.parametrize(
    ("said", "kind"),
    [("virus", "virus"), ("fraud", "fraud"), ("other", "other"), ("not-spam", "not-spam"), ("Dismissed", "dismissed"),
     ("x-made-up", "other")],
)  # fmt: skip
def test_a_feedback_report_of_another_type_is_recorded_and_suppresses_nobody(
    stage: Stage, said: str, kind: str
) -> None:
    whom = f"{said.lower()}@far.test"
    message, _, content = stage.sent(whom)
    words = complaint(content).replace("Feedback-Type: abuse", f"Feedback-Type: {said}")
    event = stage.returns(f"fbl@{FEEDBACK}", words, sender="fbl@provider.test")
    assert (event["type"], event["kind"], event["message"], event["recipient"]) == ("feedback", kind, message, whom)
    assert event["reply"].startswith(f"feedback report: {said.lower()}")
    assert not stage.is_suppressed(whom)


@pytest.mark.parametrize("said", ["Abuse", "opt-out", "opt-out-list"])
def test_who_wants_nothing_more_is_suppressed_whatever_his_provider_calls_it(stage: Stage, said: str) -> None:
    whom = f"{said.lower()}@far.test"
    _, _, content = stage.sent(whom)
    words = complaint(content).replace("Feedback-Type: abuse", f"Feedback-Type: {said}")
    event = stage.returns(f"fbl@{FEEDBACK}", words, sender="fbl@provider.test")
    assert (event["type"], event["kind"]) == ("complained", "complaint")
    assert stage.is_suppressed(whom)


@pytest.mark.parametrize("whom", ["late@far.test", "a.very.long.mailbox.name.indeed@far.away.example.test"])
def test_a_report_that_is_refused_for_its_size_still_tells_whom_it_was_about(stage: Stage, whom: str) -> None:
    message, sender, _ = stage.sent(whom)
    with smtplib.SMTP("127.0.0.1", stage.port, timeout=60) as client:
        client.ehlo("remote.test")
        client.mail("")
        assert client.rcpt(sender)[0] == 250
        content = report(whom, "5.1.1", "550 5.1.1 no such user") + "x" * 70 + "\n" + ("y" * 70 + "\n") * 40_000
        assert client.data(content.replace("\n", "\r\n").encode())[0] == 552
    (event,) = wait_until(
        lambda: [each for each in stage.engine.events("refused") if each["message"] == message], "an event"
    )
    assert (event["recipient"], event["proof"], event["destination"]) == (whom, "token", sender)
    assert not stage.is_suppressed(whom)


@pytest.mark.parametrize("spelling", ['"dora"@far.test', '"d\\ora"@far.test', '"D\\o\\r\\a"@FAR.test'])
def test_quotes_that_are_not_needed_make_no_other_mailbox(stage: Stage, spelling: str) -> None:
    stage.engine.run("suppress", "add", spelling.lower())
    wait_until(lambda: stage.is_suppressed("dora@far.test"), "it is heard of")
    assert stage.is_suppressed(spelling)
    stage.engine.run("suppress", "remove", "dora@far.test", "--reason", "asked again")
    wait_until(lambda: not stage.is_suppressed(spelling), "it is heard of")
