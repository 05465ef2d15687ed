"""The load generator against the test MX: everything is sent, counted, and sent again where nobody answered."""

import asyncio
import io
from unittest.mock import Mock

import pytest
import uvloop

from engine.tools.certificate import server_context, trusting_context
from engine.tools.load import Load, LoadReport
from engine.tools.load_message import MessageMaker
from engine.tools.load_options import LoadOptions
from engine.tools.load_session import LoadSession, SessionLost
from engine.tools.sink import Sink
from engine.tools.sink_options import SinkOptions
from engine.tools.sink_rules import Script, parse_drop_rule, parse_reply_rule
from engine.tools.sink_tally import Tally


def run_load(
    reply: str = "", drop: str = "", accepted: io.StringIO | None = None, **options: object
) -> tuple[LoadReport, Tally]:
    """A load against a sink in the same loop."""
    secure = bool(options.pop("secure", False))
    rules = [parse_reply_rule(reply)] if reply else []
    rules += [parse_drop_rule(drop)] if drop else []

    async def run() -> tuple[LoadReport, Tally]:
        sink = Sink(SinkOptions(script=Script(rules), tls=server_context("sink.example") if secure else None))
        host, port = await sink.listen("127.0.0.1", 0)
        tls = trusting_context() if secure else None
        given = {"messages": 100, "sessions": 5, "size": 1000, **options}
        report = await Load(LoadOptions(host=host, port=port, tls=tls, **given), accepted).run()
        await sink.close()
        return report, sink.tally

    return uvloop.run(run())


@pytest.mark.parametrize("options", [{}, {"pipelining": False}, {"secure": True}, {"sessions": 500}])
def test_every_message_arrives_once(options: dict[str, object]) -> None:
    accepted = io.StringIO()
    report, tally = run_load(accepted=accepted, **options)
    assert (report.accepted, report.refused, report.unanswered) == (100, 0, 0)
    assert (tally.messages, tally.unique, tally.duplicates, tally.without_id) == (100, 100, 0, 0)
    assert len(set(accepted.getvalue().split())) == 100
    assert 0 < report.p50_ms <= report.p99_ms <= report.max_ms


def test_messages_are_spread_over_connections_recipients_and_domains() -> None:
    report, tally = run_load(messages=40, sessions=1, messages_per_connection=10, recipients=3, domains=4)
    assert report.connections == tally.connections == 4
    assert (tally.messages, tally.recipients) == (40, 120)


def test_refusals_are_counted_not_repeated() -> None:
    report, tally = run_load(reply="rcpt:user000001?@*=550 5.1.1 no such user")
    assert (report.accepted, report.refused, report.refused_recipients) == (90, 10, 10)
    assert report.replies == {"250": 90, "550": 10}
    assert tally.protocol_errors == 10  # DATA, pipelined behind the refused recipient


@pytest.mark.parametrize("pipelining", [True, False])
def test_some_recipients_refused(pipelining: bool) -> None:
    report, tally = run_load(reply="rcpt:user*[02468]@*=550 5.1.1 no", recipients=2, pipelining=pipelining)
    assert (report.accepted, report.refused_recipients, tally.recipients) == (100, 100, 100)


@pytest.mark.parametrize(("stage", "duplicates"), [("end-of-data", 0), ("taken", 10)])
def test_a_message_without_an_answer_is_sent_again(stage: str, duplicates: int) -> None:
    """The server goes silent after the end of data: the same id comes again, and counts as accepted once (D3)."""
    accepted = io.StringIO()
    report, tally = run_load(drop=f"{stage}:*5@* x1", accepted=accepted)
    assert (report.accepted, report.lost_connections, report.sent_again) == (100, 10, 10)
    assert (tally.unique, tally.duplicates, tally.dropped) == (100, duplicates, 10)
    assert len(accepted.getvalue().split()) == len(set(accepted.getvalue().split())) == 100


def test_421_is_no_answer() -> None:
    report, _ = run_load(reply="mail:*=421 4.3.2 restarting x3")
    assert (report.accepted, report.sent_again, report.refused) == (100, 3, 0)


def test_421_behind_an_answer_does_not_unsay_it() -> None:
    """A server that is shut down says both at once: the message is accepted, and not sent again."""

    async def run() -> None:
        session, transport = LoadSession(), Mock()
        session.connection_made(transport)
        session.pipelining = True
        sending = asyncio.ensure_future(session.send(MessageMaker(LoadOptions(host="", port=0, messages=1)).make(0)))
        for said in (b"250 ok\r\n250 ok\r\n354 go\r\n", b"250 queued\r\n421 4.3.2 shutting down\r\n"):
            await asyncio.sleep(0)
            session.data_received(said)
        assert (await sending).accepted
        with pytest.raises(SessionLost, match=r"4\.3\.2 shutting down"):
            await session.quit()

    uvloop.run(run())


def test_gives_up_when_nobody_answers() -> None:
    async def run() -> LoadReport:
        sink = Sink(SinkOptions(script=Script([parse_drop_rule("connect")])))
        host, port = await sink.listen("127.0.0.1", 0)
        report = await Load(LoadOptions(host=host, port=port, messages=10, patience_s=0.2)).run()
        await sink.close()
        return report

    report = uvloop.run(run())
    assert (report.accepted, report.unanswered) == (0, 10)
    assert report.last_error == "connection closed by the server"


@pytest.mark.parametrize("size", [600, 4096, 51200])
def test_messages_have_the_size_asked_for_and_clean_lines(size: int) -> None:
    maker = MessageMaker(LoadOptions(host="", port=0, messages=1, size=size, seed=1))
    for index in (0, 1, 9999):
        content = maker.make(index).content
        assert len(content) == size
        assert content.endswith(b"\r\n")
        assert content.count(b"\r") == content.count(b"\n") == content.count(b"\r\n")
        assert b"\r\n." not in content
        assert max(map(len, content.split(b"\r\n"))) < 80
