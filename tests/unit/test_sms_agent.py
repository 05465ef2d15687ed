"""SMS to carriers and to applications, over real sockets: every delivery is settled once, whatever the peer does."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.admin.sms import binds
from engine.base.errors import StorageError
from engine.base.units import Rate
from engine.message.sms import Kind
from engine.protocol.smpp_pdu import DeliverSm, GenericNack, SubmitSm, SubmitSmResp
from engine.protocol.smpp_tables import STATUSES, TAGS
from tests.support.sms_stage import carrier, hurry, play, sms_stage, until
from tests.support.smsc import Refusing, Smsc


def holding(smsc: Smsc) -> list[SubmitSm]:
    """The SMSC answers nothing by itself; what it got."""
    held: list[SubmitSm] = []

    def hold(pdu: SubmitSm) -> None:
        held.append(pdu)

    smsc.answer = hold
    return held


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


def test_messages_go_in_order_and_each_is_remembered_before_it_is_settled(tmp_path: Path) -> None:
    async def story() -> None:
        smsc = await Smsc().open()
        async with sms_stage(tmp_path, carrier(smsc, window=30)) as s:
            await until(lambda: s.carriers.healthy("one"))
            s.book.slow = asyncio.Event()
            ids = [await s.put(f"text {n}", f"+44770090{n:04}") for n in range(30)]
            await until(lambda: len(smsc.submits) == 30)
            assert [pdu.short_message for pdu in smsc.submits] == [b"text %d" % n for n in range(30)]
            assert [pdu.destination_addr for pdu in smsc.submits][:2] == [b"447700900000", b"447700900001"]
            first = smsc.submits[0]
            assert (first.source_addr_ton, first.source_addr, first.dest_addr_ton, first.dest_addr_npi) == (
                5, b"ACME", 1, 1,
            )  # fmt: skip
            assert first.registered_delivery == 1
            await until(lambda: len(s.book.parts) == 30)
            assert s.told() == [], "nobody is told before it would be found again"
            s.book.slow.set()
            await until(lambda: s.live() == 0)
            assert [part.message for part in s.book.parts] == ids
            assert [part.carrier_id for part in s.book.parts] == [str(n) for n in range(1, 31)]
            assert s.tally() == {"accepted": 30, "delivered": 30, "balanced": True}
        await smsc.close()

    play(story)


def test_a_long_text_goes_in_parts_and_is_done_when_all_are_taken(tmp_path: Path) -> None:
    async def story() -> None:
        smsc = await Smsc().open()
        async with sms_stage(tmp_path, carrier(smsc)) as s:
            await s.put("a" * 400, "+447700900001", "+447700900002")
            await until(lambda: s.live() == 0)
            assert len(smsc.submits) == 6
            assert {pdu.esm_class for pdu in smsc.submits} == {0x40}
            headers = [pdu.short_message[:6] for pdu in smsc.submits]
            assert [(header[4], header[5]) for header in headers] == [(3, 1), (3, 2), (3, 3)] * 2
            assert headers[0][3] != headers[3][3], "another reference for the other recipient"
            assert [(part.index, part.part, part.parts) for part in s.book.parts] == [
                (index, part, 3) for index in (0, 1) for part in (1, 2, 3)
            ]
            assert s.tally()["delivered"] == 2
        await smsc.close()

    play(story)


def test_the_window_is_never_exceeded_and_the_rate_counts_parts(tmp_path: Path) -> None:
    async def story() -> None:
        smsc = await Smsc().open()
        held = holding(smsc)
        async with sms_stage(tmp_path, carrier(smsc, window=4)) as s:
            for n in range(20):
                await s.put("x", f"+44770090{n:04}")
            await until(lambda: len(held) == 4)
            await asyncio.sleep(0.05)
            assert len(held) == 4
            for answered in range(20):
                await until(lambda count=answered: len(held) > count)
                assert len(held) - answered <= 4
                smsc.wires[0].respond(held[answered], SubmitSmResp(message_id=b"%d" % answered))
            await until(lambda: s.live() == 0)
        await smsc.close()

    play(story)


def test_the_only_one_that_waited_when_the_bind_was_lost_goes_over_the_next(tmp_path: Path) -> None:
    async def story() -> None:
        smsc = await Smsc().open()
        smsc.answer = lambda pdu: None
        async with sms_stage(tmp_path, carrier(smsc, window=3)) as s:
            await until(lambda: s.carriers.healthy("one"))
            for n in range(4):
                await s.put(f"{n}", f"+44770090000{n}")
            await until(lambda: len(smsc.submits) == 3)
            await asyncio.sleep(0.05)
            smsc.answer = smsc.take
            smsc.wires[0].abort()
            await until(lambda: s.tally().get("delivered", 0) == 1)
            assert [pdu.short_message for pdu in smsc.submits] == [b"0", b"1", b"2", b"3"]
        await smsc.close()

    play(story)


@pytest.mark.parametrize("status", ["ESME_RTHROTTLED", "ESME_RMSGQFUL"])
def test_what_is_throttled_is_sent_again_first_and_nothing_is_lost(tmp_path: Path, status: str) -> None:
    async def story() -> None:
        smsc = await Smsc().open()
        smsc.answer = refusing = Refusing(status, times=7)
        async with sms_stage(tmp_path, carrier(smsc, window=3, rate=Rate(1000))) as s:
            await until(lambda: s.carriers.healthy("one"))
            for n in range(12):
                await s.put(f"{n}", f"+44770090{n:04}")
            await until(lambda: s.live() == 0)
            assert [int(text) for text in refusing.taken] == list(range(12))
            assert len(smsc.submits) == 12 + 7
            assert s.tally() == {"accepted": 12, "delivered": 12, "balanced": True}
        await smsc.close()

    play(story)


def test_a_carrier_that_says_it_is_congested_is_left_alone_for_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        smsc = await Smsc().open()
        smsc.answer = lambda pdu: SubmitSmResp(message_id=b"1", tlvs=((TAGS["congestion_state"], b"\x5f"),))
        async with sms_stage(tmp_path, carrier(smsc, window=1)) as s:
            for n in range(3):
                await s.put(f"{n}", f"+44770090{n:04}")
            await until(lambda: s.live() == 0)
        assert caplog.text.count("told to slow down") == 3
        await smsc.close()

    caplog.set_level("DEBUG", "engine.delivery")
    play(story)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("ESME_RINVDSTADR", "failed"), ("ESME_RINVSRCADR", "failed"), ("ESME_RINVMSGLEN", "failed"),
        ("ESME_RSYSERR", "deferred"), ("ESME_RX_T_APPN", "deferred"), ("ESME_RSUBMITFAIL", "deferred"),
    ],
)  # fmt: skip
def test_a_refusal_is_an_outcome(tmp_path: Path, status: str, kind: str) -> None:
    async def story() -> None:
        smsc = await Smsc().open()
        smsc.answer = Refusing(status, times=1)
        async with sms_stage(tmp_path, carrier(smsc)) as s:
            await s.put("x", "+447700900001")
            await until(s.told)
            [(told, recipient, reply)] = s.told()
            assert (told, recipient) == (kind, "+447700900001")
            assert status in reply
            assert s.tally()["balanced"] and s.live() == (kind == "deferred")
        await smsc.close()

    play(story)


def test_a_generic_nack_is_no_success(tmp_path: Path) -> None:
    async def story() -> None:
        smsc = await Smsc().open()
        async with sms_stage(tmp_path, carrier(smsc)) as s:

            def nack(pdu: SubmitSm) -> None:
                smsc.wires[0].session._out.append(
                    bytes.fromhex("0000001080000000") + bytes(4) + pdu.sequence_number.to_bytes(4, "big")
                )
                smsc.wires[0].send_soon()

            smsc.answer = nack
            await s.put("x", "+447700900001")
            await until(s.told)
            assert s.told()[0][0] == "deferred" and "generic_nack" in s.told()[0][2]
            assert GenericNack.command_id == 0x80000000
        await smsc.close()

    play(story)


def test_a_lost_bind_leaves_what_was_on_the_wire_unknown_and_the_rest_as_it_was(tmp_path: Path) -> None:
    async def story() -> None:
        smsc = await Smsc().open()
        smsc.answer = lambda pdu: None
        async with sms_stage(tmp_path, carrier(smsc, window=3)) as s:
            for n in range(8):
                await s.put(f"{n}", f"+44770090{n:04}")
            await until(lambda: len(smsc.submits) == 3)
            smsc.answer = smsc.take
            smsc.wires[0].abort()
            await until(lambda: s.tally().get("delivered", 0) == 5)
            assert sorted(int(pdu.short_message) for pdu in smsc.submits) == [0, 1, 2, 3, 4, 5, 6, 7]
            assert [kind for kind, _, _ in s.told()].count("unknown") == 3
            assert len(smsc.bound) == 1 and s.live() == 3
        await smsc.close()

    play(story)


def test_a_carrier_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    async def story() -> None:
        smsc = await Smsc().open()
        await smsc.close()
        async with sms_stage(tmp_path, carrier(smsc)) as s:
            await s.put("x", "+447700900001")
            await until(lambda: s.carriers.down("one"))
            smsc = Smsc()
            smsc.port = s.settings.carrier[0].port
            await smsc.open()
            await until(lambda: s.live() == 0)
            await until(s.told)
            assert s.told()[0][2].startswith("ESME_ROK id=")
        await smsc.close()

    play(story)


def test_a_refused_login_is_told_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        smsc = await Smsc().open()
        smsc.bind_status = STATUSES["ESME_RINVPASWD"]
        async with sms_stage(tmp_path, carrier(smsc)) as s:
            await until(lambda: len(smsc.binds) == 2)
            assert "ESME_RINVPASWD" in s.carriers.why_down("one")
            smsc.bind_status = 0
            await until(lambda: s.carriers.healthy("one"))
        assert "secret" not in caplog.text
        await smsc.close()

    play(story)


def test_what_a_carrier_brings_is_answered_when_it_is_safe(tmp_path: Path) -> None:
    async def story() -> None:
        smsc = await Smsc().open()
        async with sms_stage(tmp_path, carrier(smsc, bind="pair")) as s:
            await until(lambda: len(smsc.bound) == 2)
            receiver = next(wire for wire in smsc.bound if wire.session.may_send(DeliverSm))
            answers = []
            receiver.handle = answers.extend
            receiver.request(DeliverSm(source_addr=b"447700900001", short_message=b"STOP"))
            await until(lambda: s.came)
            name, pdu, answer = s.came[0]
            assert (name, pdu.short_message, answers) == ("one", b"STOP", [])
            answer(0)
            await until(lambda: answers)
            await s.put("x", "+447700900001")
            await until(lambda: s.live() == 0)
        await smsc.close()

    play(story)


def test_a_stop_finishes_what_is_on_the_wire(tmp_path: Path) -> None:
    async def story() -> None:
        smsc = await Smsc().open()
        held = holding(smsc)
        async with sms_stage(tmp_path, carrier(smsc, window=2)) as s:
            for n in range(5):
                await s.put(f"{n}", f"+44770090{n:04}")
            await until(lambda: len(held) == 2)
            asyncio.get_running_loop().call_later(
                0.05, lambda: [smsc.wires[0].respond(pdu, SubmitSmResp(message_id=b"1")) for pdu in held]
            )
        assert len(held) == 2
        smsc.answer = smsc.take
        async with sms_stage(tmp_path, carrier(smsc)) as s:
            await until(lambda: s.live() == 0)
            assert s.tally()["delivered"] == 3
        await smsc.close()

    play(story)


def test_a_list_that_does_not_answer_defers(tmp_path: Path) -> None:
    """Neither sent nor failed; the others of the message are not sent twice for it."""

    async def story() -> None:
        smsc = await Smsc().open()
        async with sms_stage(tmp_path, carrier(smsc)) as s:
            s.unwanted.fault = StorageError("no table")
            await s.put("offer", "+447700900001", "+447700900002")
            await until(lambda: s.tally().get("deferred") == 2)
            assert not smsc.submits
            assert s.tally() == {"accepted": 2, "deferred": 2, "queued": 2, "balanced": True}
        await smsc.close()

    play(story)


def test_who_opted_out_meanwhile_is_not_sent_to_and_his_confirmation_is(tmp_path: Path) -> None:
    async def story() -> None:
        smsc = await Smsc().open()
        async with sms_stage(tmp_path, carrier(smsc)) as s:
            s.unwanted.add(("ACME", "+447700900001"))
            await s.put("offer", "+447700900001", "+447700900002")
            await s.put("stopped", "+447700900001", kind=Kind.REPLY)
            await until(lambda: s.live() == 0)
            assert sorted((pdu.short_message, pdu.destination_addr) for pdu in smsc.submits) == [
                (b"offer", b"447700900002"), (b"stopped", b"447700900001"),
            ]  # fmt: skip
            assert s.tally() == {"accepted": 3, "delivered": 2, "suppressed": 1, "balanced": True}
        await smsc.close()

    play(story)


def test_a_carriers_own_tlvs_and_a_validity_go_with_each_submit(tmp_path: Path) -> None:
    async def story() -> None:
        smsc = await Smsc().open()
        row = carrier(smsc, tlvs=(("0x1400", "entity"), ("0x1401", "template")))
        async with sms_stage(tmp_path, row) as s:
            await s.put("x", "+447700900001", tlvs=((0x1401, b"own\0"),), validity=1795739995.0)
            await until(lambda: s.live() == 0)
            [pdu] = smsc.submits
            assert pdu.tlvs == ((0x1401, b"own\0"), (0x1400, b"entity\0"))
            assert pdu.validity_period == b"261127003955000+"
        await smsc.close()

    play(story)


def test_a_reply_path_goes_with_each_part(tmp_path: Path) -> None:
    async def story() -> None:
        smsc = await Smsc().open()
        async with sms_stage(tmp_path, carrier(smsc)) as s:
            await s.put("short", "+447700900001", esm_class=0x80)
            await s.put("a" * 300, "+447700900001", esm_class=0x80)
            await s.put(None, "+447700900001", body=b"x" * 200, data_coding=4, esm_class=0x88)  # type: ignore[arg-type]  # no text
            await until(lambda: s.live() == 0)
            # Sorted: what was put back for want of a bind is read again, and another message may pass it meanwhile.
            assert sorted(pdu.esm_class for pdu in smsc.submits) == [0x80, 0xC0, 0xC0, 0xC8, 0xC8]
        await smsc.close()

    play(story)


def test_of_a_message_that_was_taken_in_part_only_the_rest_goes_again(tmp_path: Path) -> None:
    """Also after a restart; and not to another carrier, which has none of it."""

    async def story() -> None:
        smsc, other = await Smsc().open(), await Smsc().open()

        def answer(pdu: SubmitSm) -> SubmitSmResp:
            if pdu.short_message[5] == 2 and len(smsc.submits) <= 3:
                return SubmitSmResp(command_status=STATUSES["ESME_RSYSERR"])
            return smsc.take(pdu)

        smsc.answer = answer
        async with sms_stage(tmp_path, carrier(smsc), carrier(other, "two")) as s:
            await until(lambda: s.carriers.healthy("one") and s.carriers.healthy("two"))
            message = await s.put("a" * 400, "+447700900001")
            await until(lambda: s.told() and len(s.spool.table) == 1)
            assert "; one has part 1 as 1, part 3 as 3" in s.told()[0][2]
            assert s.book.parts == [] and not other.submits
        async with sms_stage(tmp_path, carrier(smsc), carrier(other, "two")) as s:
            s.manager.release(np.concatenate(list(s.spool.table.select())), now=True)
            await until(lambda: s.live() == 0)
            assert [pdu.short_message[5] for pdu in smsc.submits] == [1, 2, 3, 2]
            assert len({pdu.short_message[3] for pdu in smsc.submits}) == 1, "parts of one message still"
            assert [(part.message, part.part, part.carrier_id) for part in s.book.parts] == [
                (message, 1, "1"), (message, 2, "4"), (message, 3, "3"),
            ]  # fmt: skip
        await smsc.close()
        await other.close()

    play(story)


def test_of_a_message_to_several_only_what_each_still_lacks_goes_again(tmp_path: Path) -> None:
    """Also after a restart. One had everything, one nothing, two lack a part each."""
    numbers = [f"+44770090000{n}" for n in range(4)]
    lacking = {("0", 2), ("2", 1), ("2", 2), ("2", 3), ("3", 3)}

    async def story() -> None:
        smsc = await Smsc().open()

        def answer(pdu: SubmitSm) -> SubmitSmResp:
            if (pdu.destination_addr[-1:].decode(), pdu.short_message[5]) in lacking and len(smsc.submits) <= 12:
                return SubmitSmResp(command_status=STATUSES["ESME_RSYSERR"])
            return smsc.take(pdu)

        smsc.answer = answer
        async with sms_stage(tmp_path, carrier(smsc, window=20)) as s:
            await until(lambda: s.carriers.healthy("one"))
            await s.put("a" * 400, *numbers)
            await until(lambda: len(s.told()) == 4 and len(s.spool.table) == 1)
            assert [part.index for part in s.book.parts] == [1, 1, 1]
        async with sms_stage(tmp_path, carrier(smsc, window=20)) as s:
            s.manager.release(np.concatenate(list(s.spool.table.select())), now=True)
            await until(lambda: s.live() == 0)
            again = [(pdu.destination_addr[-1:].decode(), pdu.short_message[5]) for pdu in smsc.submits[12:]]
            assert sorted(again) == sorted(lacking)
            assert [(part.index, part.part, part.carrier_id) for part in s.book.parts if part.index in (0, 3)] == [
                (0, 1, "1"), (0, 2, "13"), (0, 3, "3"), (3, 1, "10"), (3, 2, "11"), (3, 3, "17"),
            ]  # fmt: skip
        await smsc.close()

    play(story)


def test_what_waits_for_a_carrier_longer_than_it_is_valid_is_not_sent(tmp_path: Path) -> None:
    async def story() -> None:
        smsc = await Smsc().open()
        smsc.answer = Refusing("ESME_RTHROTTLED")
        async with sms_stage(tmp_path, carrier(smsc)) as s:
            await until(lambda: s.carriers.healthy("one"))
            await s.put("x", "+447700900001", expires_in=0.5)
            await until(lambda: s.live() == 0)
            assert s.tally() == {"accepted": 1, "expired": 1, "balanced": True}
        await smsc.close()

    play(story)


def test_an_operator_sees_that_a_carrier_told_us_to_slow_down(tmp_path: Path) -> None:
    async def story() -> None:
        smsc = await Smsc().open()
        smsc.answer = Refusing("ESME_RTHROTTLED")
        async with sms_stage(tmp_path, carrier(smsc, window=1, rate=Rate(300))) as s:
            await until(lambda: s.carriers.healthy("one"))
            parts: Any = SimpleNamespace(carriers=s.carriers, binds=SimpleNamespace(all=list), clock=s.clock)
            [row] = [row async for row in binds(parts)]
            assert (row["rate"], row["reason"]) == ("300/s", "")
            await s.put("x", "+447700900001")
            await until(lambda: s.carriers.stalled("one") or s.carriers.links()[0].pause.seconds > 1)
            [row] = [row async for row in binds(parts)]
            assert (row["state"], row["rate"]) == ("bound", "13.5/s")
            assert row["reason"].startswith("told to slow down: a pause of ")
            assert s.metrics.sms_throttled.labels("one").value == len(smsc.submits)
        await smsc.close()

    play(story)


def test_a_rate_is_in_parts(tmp_path: Path) -> None:
    async def story() -> None:
        smsc = await Smsc().open()
        async with sms_stage(tmp_path, carrier(smsc, rate=Rate(1000))) as s:
            permits = []
            budget = s.kit.budget
            real = budget.permit
            budget.permit = lambda *args: permits.append(args[0]) or real(*args)  # type: ignore[func-returns-value,method-assign]
            await s.put("a" * 400, "+447700900001")
            await until(lambda: s.live() == 0)
            assert permits == ["sms:one"] * 3
        await smsc.close()

    play(story)


def test_an_application_without_a_bind_is_called_when_something_is_ready(tmp_path: Path) -> None:
    async def story() -> None:
        async with sms_stage(tmp_path) as s:
            await s.put("an answer", "ACME", destination="account:app")
            await until(lambda: s.called == ["app"])
            assert s.live() == 1 and s.told() == []

    play(story)
