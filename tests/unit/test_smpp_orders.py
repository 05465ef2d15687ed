"""query_sm, cancel_sm and replace_sm: on a whole queue, whose carrier is not there."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from engine.base.settings import Account, Settings
from engine.delivery.sms_reports import SmsReports
from engine.message.sms import Sms, decode_sms
from engine.protocol.smpp_pdu import CancelSm, QuerySm, QuerySmResp, ReplaceSm, SubmitSmResp
from engine.protocol.smpp_tables import STATUSES, status_name
from engine.protocol.smpp_time import format_time
from engine.queue.scope import Scope
from tests.support.smpp_orders import NOWHERE, NUMBER, OTHER, Stage, on_stage
from tests.support.sms_stage import until
from tests.support.smsc import Smsc


def test_query_tells_what_is_queued_and_what_the_book_knows(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        message_id = await s.row()
        answer = await s.ask(QuerySm(message_id=message_id.encode()))
        assert answer == QuerySmResp(message_id=message_id.encode(), message_state=1)
        assert await s.status(QuerySm(message_id=message_id.encode()), OTHER) == "ESME_RINVMSGID"
        gone = message_id[:-1] + "z"
        assert await s.status(QuerySm(message_id=gone.encode())) == "ESME_RINVMSGID"
        s.sent[gone, "app"] = (2, 1_700_000_000.0, 0)
        answer = await s.ask(QuerySm(message_id=gone.encode()))
        assert (answer.message_state, answer.final_date) == (2, format_time(1_700_000_000.0))
        for odd in (b"", b"x", b"\xff" * 14):
            assert await s.status(QuerySm(message_id=odd)) == "ESME_RINVMSGID"

    on_stage(tmp_path, story)


def test_cancel_removes_what_is_queued_and_nothing_of_others(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        message_id = await s.row()
        stays = await s.row()
        assert await s.status(CancelSm(message_id=message_id.encode()), OTHER) == "ESME_RINVMSGID"
        assert await s.status(CancelSm(message_id=message_id.encode())) == "ESME_ROK"
        await until(lambda: s.stage.live() == 1)
        assert [one for one, _ in await s.queued()] == [stays]
        await until(lambda: s.stage.tally().get("removed") == 1)
        assert await s.status(CancelSm(message_id=message_id.encode())) == "ESME_RINVMSGID"
        s.sent[message_id, "app"] = (2, 1.0, 0)
        assert await s.status(CancelSm(message_id=message_id.encode())) == "ESME_RCANCELFAIL"

    on_stage(tmp_path, story)


def test_cancel_of_what_is_in_hand(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        message_id = await s.stage.put("hello", NUMBER)
        assert await s.status(CancelSm(message_id=message_id.encode())) == "ESME_ROK"
        await until(lambda: s.stage.live() == 0)

    on_stage(tmp_path, story)


def test_cancel_by_addresses_takes_all_that_match(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        for _ in range(3):
            await s.row(service_type="CMT")
        other = await s.stage.put("x", "+447700900999")
        several = await s.stage.put("x", NUMBER, "+447700900999")
        receipt = await s.stage.put("x", NUMBER, destination="account:app")
        wanted = CancelSm(source_addr=b"ACME", destination_addr=b"447700900123", dest_addr_ton=1)
        assert await s.status(CancelSm(source_addr=b"ACME", destination_addr=b"x")) == "ESME_RINVDSTADR"
        assert await s.status(CancelSm(source_addr=b"B", destination_addr=b"447700900123")) == "ESME_RCANCELFAIL"
        assert await s.status(wanted, OTHER) == "ESME_RCANCELFAIL"
        assert await s.status(wanted) == "ESME_ROK"
        await until(lambda: s.stage.live() == 3)
        assert {one for one, _ in await s.queued()} == {other, several, receipt}
        assert await s.status(wanted) == "ESME_RCANCELFAIL"

    on_stage(tmp_path, story)


@pytest.mark.parametrize("held", [True, False])
def test_replace_puts_a_new_text_in_its_place(tmp_path: Path, held: bool) -> None:
    async def story(s: Stage) -> None:
        message_id = await (s.row("old") if held else s.stage.put("old", NUMBER))
        replacement = ReplaceSm(message_id=message_id.encode(), short_message=b"new")
        assert await s.status(replacement, OTHER) == "ESME_RINVMSGID"
        assert await s.status(replacement) == "ESME_ROK"
        await until(lambda: s.stage.live() == 1)
        if held:
            assert await s.queued() == [(message_id, "new")]
        # And once more: the second takes the place of the first.
        assert await s.status(ReplaceSm(message_id=message_id.encode(), short_message=b"newer")) == "ESME_ROK"
        await until(lambda: s.stage.live() == 1)
        assert s.stage.manager.queued() == 1
        if held:
            assert await s.queued() == [(message_id, "newer")]
            assert await s.status(CancelSm(message_id=message_id.encode())) == "ESME_ROK"
            await until(lambda: s.stage.live() == 0)

    on_stage(tmp_path, story)


def test_a_replacement_that_cannot_be_leaves_the_message(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        message_id = await s.row("old")
        several = await s.stage.put("x", NUMBER, "+447700900999")
        part = await s.row(None, body=b"x", udh=b"\x05\x00\x03\x01\x02\x01")  # type: ignore[arg-type]  # no text
        odd = {
            "ESME_RINVSCHED": {"schedule_delivery_time": b"x"},
            "ESME_RINVEXPIRY": {"validity_period": b"000101000000000+"},
            "ESME_RINVDFTMSGID": {"sm_default_msg_id": 1},
            "ESME_RINVMSGLEN": {"tlvs": ((0x424, b"x" * 9000),)},
        }
        for status, fields in odd.items():
            assert await s.status(ReplaceSm(message_id=message_id.encode(), **fields)) == status  # type: ignore[arg-type]
        for one in (several, part):
            assert await s.status(ReplaceSm(message_id=one.encode(), short_message=b"y")) == "ESME_RREPLACEFAIL"
        s.sent["0" * 14, "app"] = (2, 1.0, 0)
        assert await s.status(ReplaceSm(message_id=b"0" * 14)) == "ESME_RREPLACEFAIL"
        assert sorted(await s.queued(), key=str) == sorted([(message_id, "old"), (several, "x"), (part, None)], key=str)

    on_stage(tmp_path, story)


def replies(s: Stage) -> list[tuple[str, str]]:
    return [(kind, reply) for kind, _, reply in s.stage.told()]


def test_the_event_says_whose_word_removed_it(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        cancelled, replaced, purged = [await s.row("old") for _ in range(3)]
        assert await s.status(CancelSm(message_id=cancelled.encode())) == "ESME_ROK"
        assert await s.status(ReplaceSm(message_id=replaced.encode(), short_message=b"new")) == "ESME_ROK"
        await s.queue_orders.give("purge", Scope("message", purged))
        await until(lambda: s.stage.live() == 1)
        await until(lambda: len(s.stage.told()) == 3)
        assert sorted(replies(s)) == [
            ("removed", "removed by account app (cancel_sm)"), ("removed", "removed by an operator"),
            ("removed", "replaced by account app (replace_sm)"),
        ]  # fmt: skip

    on_stage(tmp_path, story)


def test_no_receipt_says_that_what_was_replaced_is_deleted(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        s.stage.settlement._sms_notifier = SmsReports(s.stage.settings, s.stage.ids, s.stage.clock, s.stage.metrics)
        message_id = await s.row("old", registered=1)
        replacement = ReplaceSm(message_id=message_id.encode(), short_message=b"new", registered_delivery=1)
        assert await s.status(replacement) == "ESME_ROK"
        await until(lambda: replies(s) != [] and len(s.stage.spool.table) == s.stage.live() == 1)
        assert await s.queued() == [(message_id, "new")]
        assert await s.status(CancelSm(message_id=message_id.encode())) == "ESME_ROK"
        await until(lambda: len(replies(s)) == 2 and len(s.stage.spool.table) == s.stage.live() == 1)
        [(receipt, text)] = await s.queued()
        assert receipt != message_id and text is None, "one, of the cancel"

    on_stage(tmp_path, story)


async def times(s: Stage) -> tuple[float, float, Sms]:
    """Of the one message: seconds from now until it is due and until it is given up, and what it says."""
    [delivery] = await s.stage.rows()
    envelope, content = delivery.message.hot
    now = s.stage.clock.time()
    return delivery.due_at - now, envelope.expires_at - now, decode_sms(content)


def test_a_replacement_may_change_the_times_and_what_is_reported(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        message_id = (await s.row("old", registered=1)).encode()
        assert await s.status(ReplaceSm(message_id=message_id, short_message=b"a")) == "ESME_ROK"
        await until(lambda: s.stage.live() == 1)
        due_in, expires_in, sms = await times(s)
        assert due_in <= 0 and 3500 < expires_in <= 3600, "neither was said: as it was"
        assert (sms.text, sms.registered, sms.schedule, sms.validity) == ("a", 0, 0.0, 0.0)

        tomorrow = {"schedule_delivery_time": b"000001000000000R", "registered_delivery": 2}
        assert await s.status(ReplaceSm(message_id=message_id, short_message=b"b", **tomorrow)) == "ESME_ROK"
        await until(lambda: s.stage.live() == 1)
        due_in, expires_in, sms = await times(s)
        assert 86000 < due_in <= 86400 and sms.registered == 2
        assert round(expires_in - due_in) == 24 * 3600, "as long from then as any: transactional"

        short = {"validity_period": b"000000230000000R"}
        assert await s.status(ReplaceSm(message_id=message_id, **short)) == "ESME_RINVEXPIRY", "before it is due"
        longer = {"validity_period": b"000002000000000R"}
        assert await s.status(ReplaceSm(message_id=message_id, short_message=b"c", **longer)) == "ESME_ROK"
        await until(lambda: s.stage.live() == 1)
        due_in, expires_in, sms = await times(s)
        assert 86000 < due_in <= 86400 and 172000 < expires_in <= 172800 and sms.validity
        late = {"schedule_delivery_time": b"000003000000000R"}
        assert await s.status(ReplaceSm(message_id=message_id, **late)) == "ESME_RINVEXPIRY", "its own is over by then"
        assert await s.status(ReplaceSm(message_id=message_id, registered_delivery=0x80)) == "ESME_RINVREGDLVFLG"
        assert (await times(s))[2].text == "c"

    on_stage(tmp_path, story)


def test_a_longer_replacement_counts_for_the_quota(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        account = Account(system_id="app", quota=3)
        message_id = (await s.row("one part")).encode()
        s.quota.add("app", 1, s.stage.clock.time())
        two, four = ReplaceSm(message_id=message_id, short_message=b"x" * 200), ((0x424, b"x" * 500),)
        for used, pdu, status in (
            (2, two, "ESME_ROK"), (2, ReplaceSm(message_id=message_id, tlvs=four), "ESME_RREPLACEFAIL"),
            (2, two, "ESME_ROK"), (2, ReplaceSm(message_id=message_id, short_message=b"x"), "ESME_ROK"),
        ):  # fmt: skip
            assert await s.status(pdu, account) == status
            await until(lambda: s.stage.live() == 1)
            assert s.quota.used("app", s.stage.clock.time()) == used

    on_stage(tmp_path, story)


def test_what_a_carrier_has_parts_of_is_not_replaced(tmp_path: Path) -> None:
    """Or the parts of two texts would be put together."""

    async def story(s: Stage) -> None:
        smsc = await Smsc().open()
        failing = SubmitSmResp(command_status=STATUSES["ESME_RSYSERR"])
        smsc.answer = lambda pdu: failing if smsc.submits[1:] else SubmitSmResp(message_id=b"0A")
        await s.stage.carriers.reload(Settings(carrier=(replace(NOWHERE, port=smsc.port),)))
        await until(lambda: s.stage.carriers.healthy("one"))
        message_id = await s.stage.put("old " * 50, NUMBER)
        await until(lambda: len(s.stage.told()) == 1)
        assert "one has part 1 as 0A" in replies(s)[0][1]
        assert await s.status(ReplaceSm(message_id=message_id.encode())) == "ESME_RREPLACEFAIL"
        assert s.stage.live() == 1
        await smsc.close()

    on_stage(tmp_path, story)


@pytest.mark.parametrize("by_id", [True, False])
def test_cancel_of_what_the_carrier_told_to_slow_down(tmp_path: Path, by_id: bool) -> None:
    async def story(s: Stage) -> None:
        smsc = await Smsc().open()
        smsc.answer = lambda pdu: SubmitSmResp(command_status=STATUSES["ESME_RTHROTTLED"])
        await s.stage.carriers.reload(Settings(carrier=(replace(NOWHERE, port=smsc.port),)))
        await until(lambda: s.stage.carriers.healthy("one"))
        ids = [(await s.stage.put(text, NUMBER)).encode() for text in ("first", "behind")]
        await until(lambda: len(smsc.submits) >= 1)
        all_of_them = CancelSm(source_addr=b"ACME", destination_addr=NUMBER.encode(), dest_addr_ton=1)
        orders = [CancelSm(message_id=message_id) for message_id in reversed(ids)] if by_id else [all_of_them]
        while len(replies(s)) < 2:
            for pdu in orders:
                await s.status(pdu)  # refused while it is on the wire
            await asyncio.sleep(0.002)
        assert set(replies(s)) == {("removed", "removed by account app (cancel_sm)")}
        assert s.stage.live() == 0
        await smsc.close()

    on_stage(tmp_path, story)


@pytest.mark.parametrize("held", [True, False])
def test_what_is_cancelled_is_deleted_at_once(tmp_path: Path, held: bool) -> None:
    """While it is on its way out of the queue, and still if we crash then: nothing can bring it back."""

    async def story(s: Stage) -> None:
        message_id = (await (s.row() if held else s.stage.put("hello", NUMBER))).encode()
        first, second, query, replaced = [
            asyncio.ensure_future(s.ask(pdu))
            for pdu in (
                CancelSm(message_id=message_id), CancelSm(message_id=message_id), QuerySm(message_id=message_id),
                ReplaceSm(message_id=message_id, short_message=b"x"),
            )
        ]  # fmt: skip
        assert (await first).command_status == 0
        answer = await query
        assert (answer.command_status, answer.message_state, len(answer.final_date)) == (0, 4, 16)
        assert status_name((await second).command_status) == "ESME_RCANCELFAIL"
        assert status_name((await replaced).command_status) in ("ESME_RREPLACEFAIL", "ESME_RINVMSGID")
        await until(lambda: s.stage.live() == 0 and replies(s) == [("removed", "removed by account app (cancel_sm)")])

    on_stage(tmp_path, story)


def test_what_is_said_besides_the_id_must_be_so(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        s.sent["0" * 14, "app"] = (2, 1.0, 0)
        for message_id, right, wrong in ((await s.row(), b"acme", b"Other"), ("0" * 14, b"447700900999", b"ACME")):
            known = message_id.encode()
            for pdu in (QuerySm, CancelSm, ReplaceSm):
                assert await s.status(pdu(message_id=known, source_addr=wrong)) == "ESME_RINVSRCADR"
                assert await s.status(pdu(message_id=known, source_addr=wrong), OTHER) == "ESME_RINVMSGID"
            elsewhere = {"destination_addr": b"447700900666", "dest_addr_ton": 1}
            assert await s.status(CancelSm(message_id=known, **elsewhere)) == "ESME_RINVDSTADR"
            assert await s.status(CancelSm(message_id=known, destination_addr=b"?")) == "ESME_RINVDSTADR"
            assert await s.status(QuerySm(message_id=known, source_addr=right)) == "ESME_ROK"
        assert s.stage.live() == 1
        there = {"source_addr": b"ACME", "destination_addr": b"447700900123", "dest_addr_ton": 1}
        [(message_id, _)] = await s.queued()
        assert await s.status(CancelSm(message_id=message_id.encode(), **there)) == "ESME_ROK"
        await until(lambda: s.stage.live() == 0)

    on_stage(tmp_path, story)


def test_what_an_agent_has_and_the_carrier_has_not_is_replaced(tmp_path: Path) -> None:
    """What was told to slow down, and what waits behind that; what is on the wire is refused."""

    async def story(s: Stage) -> None:
        smsc = await Smsc().open()
        smsc.answer = lambda pdu: SubmitSmResp(command_status=STATUSES["ESME_RTHROTTLED"])
        await s.stage.carriers.reload(Settings(carrier=(replace(NOWHERE, port=smsc.port, window=1),)))
        await until(lambda: s.stage.carriers.healthy("one"))
        ids = [(await s.stage.put(text, NUMBER)).encode() for text in ("first", "behind")]
        await until(lambda: smsc.submits)
        for message_id, text in zip(ids, (b"new first", b"new behind"), strict=True):
            replacement = ReplaceSm(message_id=message_id, short_message=text)
            async with asyncio.timeout(10):
                while (status := await s.status(replacement)) != "ESME_ROK":  # it may be on the wire just now
                    assert status == "ESME_RREPLACEFAIL"
                    await asyncio.sleep(0.002)
        await until(lambda: s.stage.live() == 2)
        before = len(smsc.submits)
        smsc.answer = smsc.take
        await until(lambda: s.stage.live() == 0)
        assert {pdu.short_message for pdu in smsc.submits[before:]} == {b"new first", b"new behind"}
        await until(lambda: len(s.stage.told()) == 4)
        assert sorted(kind for kind, _ in replies(s)) == ["removed", "removed", "sent", "sent"]
        assert s.stage.tally()["balanced"]
        await smsc.close()

    on_stage(tmp_path, story)


def test_what_is_on_the_wire_is_not_replaced(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        smsc = await Smsc().open()
        smsc.answer = lambda pdu: None
        await s.stage.carriers.reload(Settings(carrier=(replace(NOWHERE, port=smsc.port),)))
        await until(lambda: s.stage.carriers.healthy("one"))
        message_id = (await s.stage.put("first", NUMBER)).encode()
        await until(lambda: smsc.submits)
        assert await s.status(ReplaceSm(message_id=message_id, short_message=b"x")) == "ESME_RREPLACEFAIL"
        smsc.wires[0].respond(smsc.submits[0], SubmitSmResp(message_id=b"1"))
        await until(lambda: s.stage.live() == 0)
        await smsc.close()

    on_stage(tmp_path, story)


def test_what_may_have_been_sent_before_a_kill_is_beyond_recall(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        message_id, inflight = await s.row(), s.stage.sms.inflight
        inflight.doubt(inflight.enter(message_id, 0), message_id, 0)
        number = {"source_addr": b"ACME", "destination_addr": NUMBER[1:].encode(), "dest_addr_ton": 1}
        wanted = message_id.encode()
        assert await s.status(CancelSm(message_id=wanted)) == "ESME_RCANCELFAIL"
        assert await s.status(CancelSm(**number)) == "ESME_RCANCELFAIL"
        assert await s.status(ReplaceSm(message_id=wanted, short_message=b"new")) == "ESME_RREPLACEFAIL"
        assert await s.queued() == [(message_id, "hello")]
        inflight.forget(message_id, 0)
        assert await s.status(CancelSm(message_id=wanted)) == "ESME_ROK"

    on_stage(tmp_path, story)


def test_what_an_agent_gave_up_is_answered_when_that_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a kill would bring back, and send, what its client was told is cancelled."""

    async def story(s: Stage) -> None:
        smsc = await Smsc().open()
        smsc.answer = lambda pdu: SubmitSmResp(command_status=STATUSES["ESME_RTHROTTLED"])
        await s.stage.carriers.reload(Settings(carrier=(replace(NOWHERE, port=smsc.port),)))
        await until(lambda: s.stage.carriers.healthy("one"))
        message_id = (await s.stage.put("hello", NUMBER)).encode()
        await until(lambda: smsc.submits)
        files = s.stage.spool._journal._files
        append = files.append

        def slowly(descriptor: int, pieces: Any) -> None:
            time.sleep(0.3)
            append(descriptor, pieces)

        monkeypatch.setattr(files, "append", slowly)
        while await s.status(CancelSm(message_id=message_id)) != "ESME_ROK":  # noqa: ASYNC110  # on the wire yet
            await asyncio.sleep(0.002)
        assert not s.stage.spool.in_hand, "the record of its end is durable"
        await smsc.close()

    on_stage(tmp_path, story)
