"""Receipts of carriers: what is matched, told, owed, and when it is answered (R6, R7)."""

import json
import random
from pathlib import Path

import pytest

from engine.feedback import receipts
from engine.protocol.receipt import parse_receipt
from engine.protocol.receipt_states import State
from engine.protocol.smpp_pdu import DataSm
from engine.protocol.smpp_tables import ESME_ROK, ESME_RX_T_APPN, TAGS
from tests.support.clock import FakeClock
from tests.support.receipts import NUMBER, receipt_stage
from tests.support.sms_stage import play

SAMPLES = [
    json.loads(line) for line in (Path(__file__).parents[1] / "support" / "receipts.jsonl").read_text().splitlines()
]


def test_a_receipt_makes_an_event_and_is_answered_when_that_is_on_disk(tmp_path: Path) -> None:
    async def story() -> None:
        async with receipt_stage(tmp_path) as s:
            message = s.send("0A1B", price="0.03")
            s.clock.advance(2.5)
            s.receipt("0A1B")
            assert s.answers == []
            await s.rest()
            assert s.answers == [ESME_ROK] and len(s.receipts) == 0
            (line,) = s.lines()
            assert line | {"id": "", "at": 0} == {
                "id": "", "at": 0, "type": "delivered", "message": message, "class": "bulk", "sender": "ACME",
                "recipient": NUMBER, "destination": "sms:one", "status": "DELIVRD", "reply": "stat:DELIVRD err:000",
                "provider": "one", "delay_s": 3.5, "parts": 1, "price": "0.03", "carrier_id": "0A1B", "latency_s": 2.5,
            }  # fmt: skip
            assert s.owed == [], "nobody asked"

    play(story)


@pytest.mark.parametrize("sample", SAMPLES, ids=[sample["case"] for sample in SAMPLES])
def test_the_receipts_of_the_field_are_matched(tmp_path: Path, sample: dict[str, str]) -> None:
    async def story() -> None:
        async with receipt_stage(tmp_path) as s:
            message = s.send(sample["want_id"])
            s.receive(sample["short_message_latin1"])
            await s.rest()
            known = parse_receipt(sample["short_message_latin1"].encode("latin-1"))
            assert known is not None
            assert s.told()[0][1:] == (message, known.state.word)
            assert s.answers == [ESME_ROK] and s.odd() == {} and s.persons == []

    play(story)


def test_thousands_early_and_in_any_base_over_two_binds_and_a_restart(tmp_path: Path) -> None:
    """10 messages a turn: a receipt comes before, with, or after its response; some after the engine started again."""
    chance = random.Random(4)
    clock = FakeClock(1_750_000_000.0)
    count = 3000
    numbers = chance.sample(range(10**8), count)
    told: dict[str, str] = {}  #: by recipient

    def ids(n: int) -> tuple[str, str]:
        """What the response says, and what the receipt does."""
        number = 50_000 + n
        return [
            (f"{number:x}", str(number)), (str(number), f"{number:X}"), (f"{number:08X}", f"{number:x}"),
            (str(number), str(number)),
        ][n % 4]  # fmt: skip

    async def part(first: int, last: int) -> None:
        async with receipt_stage(tmp_path, clock) as s:
            late: list[int] = leftover
            for n in range(first, last):
                recipient = f"+4477{numbers[n]:08}"
                in_response, in_receipt = ids(n)

                def receive(n: int, in_receipt: str = in_receipt) -> None:
                    told_number = f"4477{numbers[n]:08}".encode()
                    s.receipt(ids(n)[1], source_addr=told_number)

                when = chance.choice(("before", "after", "late"))
                if when == "before":
                    receive(n)
                    if chance.random() < 0.1:
                        await s.rest()
                told[s.send(in_response, recipient=recipient)] = recipient
                if when == "after":
                    receive(n)
                elif when == "late":
                    late.append(n)
                if len(late) > 200:
                    receive(late.pop(chance.randrange(len(late))))
            await s.rest()
            if last == count:
                for n in late:
                    receive(n)
            await s.rest()
            await s.pass_time(61)
            assert {what: s.odd().get(what, 0) for what in ("unmatched", "duplicate", "missing")} == {
                "unmatched": 0, "duplicate": 0, "missing": 0,
            }  # fmt: skip
            assert set(s.answers) == {ESME_ROK}
            if last == count:
                assert s.odd()["early"] > 100
                lines = s.lines()
                assert len(lines) == count
                assert {line["message"]: line["recipient"] for line in lines} == told
                assert len(s.receipts) == s.receipts.parked == 0

    leftover: list[int] = []

    async def story() -> None:
        await part(0, count // 2)
        await part(count // 2, count)

    play(story)


def test_an_early_receipt_waits_on_disk_over_a_restart(tmp_path: Path) -> None:
    clock = FakeClock(1_750_000_000.0)

    async def story() -> None:
        async with receipt_stage(tmp_path, clock) as s:
            s.receipt("17")
            await s.rest()
            assert s.answers == [ESME_ROK] and s.receipts.parked == 1 and s.lines() == []
        async with receipt_stage(tmp_path, clock) as s:
            assert s.receipts.parked == 1
            message = s.send("17")
            await s.rest()
            assert s.told() == [("delivered", message, "DELIVRD")]
            assert s.odd() == {"early": 1}
        async with receipt_stage(tmp_path, clock) as s:
            assert s.receipts.parked == 0

    play(story)


def test_an_unknown_one_is_told_after_its_time_and_a_later_response_finds_nothing(tmp_path: Path) -> None:
    async def story() -> None:
        async with receipt_stage(tmp_path) as s:
            s.receipt("17")
            await s.pass_time(59)
            assert s.lines() == []
            await s.pass_time(2)
            (line,) = s.lines()
            assert (line["type"], line["carrier_id"], line["recipient"]) == ("receipt-unmatched", "17", NUMBER[1:])
            assert "stat:DELIVRD" in line["reply"]
            assert (s.answers, s.odd(), s.receipts.parked) == ([ESME_ROK], {"unmatched": 1}, 0)

    play(story)


def test_an_id_in_another_base_is_not_believed_while_a_better_one_may_come(tmp_path: Path) -> None:
    """16 is what 10 is in hexadecimal; and 16 is also the next message, whose response is still on its way."""

    async def story() -> None:
        async with receipt_stage(tmp_path) as s:
            other = s.send("10", recipient="+447700900999")
            s.receipt("16")
            await s.rest()
            message = s.send("16")
            await s.rest()
            assert s.told() == [("delivered", message, "DELIVRD")]
            s.receipt("16", source_addr=b"447700900998")
            await s.pass_time(61)
            assert ("delivered", other, "DELIVRD") not in s.told(), "its id is known, exactly"

    play(story)


def test_an_early_one_in_another_base_is_matched_when_all_that_is_underway_to_its_number_is_known(
    tmp_path: Path,
) -> None:
    """The carrier never changed its base before: nothing is learned. It does not wait for the time of a guess."""

    async def story() -> None:
        async with receipt_stage(tmp_path) as s:
            s.receipt("31")
            await s.rest()
            message = s.send("1F")
            await s.rest()
            assert s.told() == [("delivered", message, "DELIVRD")] and s.odd() == {"early": 1}
            s.receipt("1A")  # and the other way
            await s.rest()
            other = s.send("26")
            await s.rest()
            assert s.told()[1:] == [("delivered", other, "DELIVRD")]

    play(story)


@pytest.mark.parametrize("mixed", [True, False])
def test_one_in_another_base_waits_for_what_is_underway_to_its_number(tmp_path: Path, mixed: bool) -> None:
    """16 is 10 in hexadecimal, and the id of the next message to the same number."""

    async def story() -> None:
        async with receipt_stage(tmp_path) as s:
            if mixed:
                for id, told in ("aa", "aa"), ("1F", "31"), ("26", "1A"):
                    s.send(id)
                    s.receipt(told)
                    await s.rest()
            before = s.told()
            s.underway.begun("one", NUMBER)
            s.send("10")
            s.receipt("16")
            await s.rest()
            assert s.told() == before
            s.underway.ended("one", NUMBER, answered=True)
            message = s.send("16")
            await s.rest()
            assert s.told() == [*before, ("delivered", message, "DELIVRD")]

    play(story)


def test_one_in_another_base_is_matched_as_soon_as_nothing_is_underway_to_its_number(tmp_path: Path) -> None:
    async def story() -> None:
        async with receipt_stage(tmp_path) as s:
            s.underway.begun("one", NUMBER)
            message = s.send("10")
            s.receipt("16")
            await s.rest()
            assert s.told() == []
            s.underway.ended("one", NUMBER, answered=True)
            s.send("77")
            await s.rest()
            assert s.told() == [("delivered", message, "DELIVRD")]

    play(story)


def test_one_in_another_base_waits_where_a_submit_to_its_number_was_never_answered(tmp_path: Path) -> None:
    """It may have been taken, under any id."""

    async def story() -> None:
        async with receipt_stage(tmp_path) as s:
            s.underway.begun("one", NUMBER)
            s.underway.ended("one", NUMBER, answered=False)
            s.receipt("16")
            await s.rest()
            message = s.send("10")
            await s.pass_time(30)
            assert s.told() == []
            await s.pass_time(31)
            assert s.told() == [("delivered", message, "DELIVRD")]

    play(story)


def test_a_number_that_does_not_agree_is_believed_when_nothing_better_came(tmp_path: Path) -> None:
    async def story() -> None:
        async with receipt_stage(tmp_path) as s:
            message = s.send("1F", recipient="+447700900999")
            s.receipt("31")
            await s.pass_time(30)
            assert s.told() == []
            await s.pass_time(31)
            assert s.told() == [("delivered", message, "DELIVRD")] and s.odd() == {"guessed": 1}

    play(story)


def test_the_first_final_state_wins_also_over_a_restart(tmp_path: Path) -> None:
    clock = FakeClock(1_750_000_000.0)

    async def story() -> None:
        async with receipt_stage(tmp_path, clock) as s:
            message = s.send("1", account="app", registered=1)
            s.receipt("1", "UNDELIV", "011")
            s.receipt("1")
            await s.rest()
            s.receipt("1")
            await s.rest()
            assert s.told() == [("undelivered", message, "UNDELIV")]
        async with receipt_stage(tmp_path, clock) as s:
            s.receipt("1")
            await s.rest()
            assert (s.odd(), s.answers) == ({"duplicate": 1}, [ESME_ROK])
            assert len(s.lines()) == 1

    play(story)


def test_parts_together_over_a_restart(tmp_path: Path) -> None:
    clock = FakeClock(1_750_000_000.0)

    async def story() -> None:
        async with receipt_stage(tmp_path, clock) as s:
            message = s.send("a", "b", "c", account="app", registered=1, price="0.01")
            failed = s.send("d", "e", account="app", registered=2)
            s.receipt("b")
            await s.rest()
            assert s.owed == []
        async with receipt_stage(tmp_path, clock) as s:
            for id in ("a", "c", "d"):
                s.receipt(id)
            s.receipt("e", "REJECTD")
            await s.rest()
            assert s.told() == [
                ("receipt", message, "DELIVRD"), ("receipt", message, "DELIVRD"), ("delivered", message, "DELIVRD"),
                ("receipt", failed, "DELIVRD"), ("undelivered", failed, "REJECTD"),
            ]  # fmt: skip
            assert [line["price"] for line in s.lines()][:3] == ["0.01", "0.01", "0.03"]
            assert [(envelope.envid, sms.body[-30:].count(b"DELIVRD")) for _, envelope, sms in s.owed] == [
                (message, 1), (failed, 0),
            ]  # fmt: skip

    play(story)


def test_what_is_missing_at_the_deadline_is_told_and_may_still_come(tmp_path: Path) -> None:
    clock = FakeClock(1_750_000_000.0)

    async def story() -> None:
        async with receipt_stage(tmp_path, clock) as s:
            message = s.send("a", "b", account="app", registered=1)
            s.receipt("a")
            await s.rest()
            await s.pass_time(999)
            assert len(s.lines()) == 1
        async with receipt_stage(tmp_path, clock) as s:
            await s.pass_time(2)
            await s.pass_time(2)
            assert s.told()[1:] == [("receipt-missing", message, "")]
            assert s.lines()[1]["part"] == 2
            assert [sms.tlvs[-1] for _, _, sms in s.owed] == [(TAGS["message_state"], bytes([State.UNKNOWN]))]
            s.receipt("b")
            await s.rest()
            assert s.told()[2:] == [("delivered", message, "DELIVRD")]
            assert s.odd() == {"missing": 1}

    play(story)


@pytest.mark.parametrize(
    ("registered", "stat", "owed"),
    [
        (0, "DELIVRD", 0), (1, "DELIVRD", 1), (2, "DELIVRD", 0), (3, "DELIVRD", 1), (0, "UNDELIV", 0),
        (1, "UNDELIV", 1), (2, "UNDELIV", 1), (3, "UNDELIV", 0), (1, "ENROUTE", 0), (0x11, "ENROUTE", 1),
        (0x10, "UNDELIV", 0), (1, "UNKNOWN", 0),
    ],
)  # fmt: skip
def test_an_application_gets_what_it_asked_for(tmp_path: Path, registered: int, stat: str, owed: int) -> None:
    async def story() -> None:
        async with receipt_stage(tmp_path) as s:
            message = s.send("77", account="app", registered=registered, message_class=0)
            s.receipt("77", stat, "011")
            s.receipt("77", stat, "011")
            await s.rest()
            assert len(s.owed) == owed
            for destination, envelope, sms in s.owed:
                assert destination == "account:app"
                assert (envelope.sender, envelope.recipients[0].address) == (NUMBER, "ACME")
                assert (envelope.message_class, envelope.channel, envelope.user) == (0, "sms", "app")
                assert envelope.expires_at == s.clock.time() + 7 * 86400
                assert (sms.source, sms.source_ton, sms.dest_ton) == (NUMBER, 1, 5)
                read = parse_receipt(sms.body, esm_class=sms.esm_class, tlvs=dict(sms.tlvs))
                assert read is not None and read.id == message and read.state.word == stat
                assert dict(sms.tlvs)[TAGS["receipted_message_id"]] == message.encode() + b"\0"
            assert [kind for kind, *_ in s.told()].count("received") == 0

    play(story)


def test_an_account_that_wants_only_text_gets_no_tlvs(tmp_path: Path) -> None:
    async def story() -> None:
        async with receipt_stage(tmp_path) as s:
            s.send("77", account="plain", registered=1)
            s.receipt("77", err="a:b")
            await s.rest()
            ((_, _, sms),) = s.owed
            assert sms.tlvs == () and b"err:000" in sms.body

    play(story)


def test_a_message_without_an_id_or_of_a_carrier_without_receipts_is_over_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        async with receipt_stage(tmp_path) as s:
            s.send("", account="app", registered=1)
            s.send("5", carrier="mute", account="app", registered=1)
            await s.pass_time(5000)
            assert s.lines() == [] and len(s.receipts) == 0
            assert [dict(sms.tlvs)[TAGS["message_state"]][0] for *_, sms in s.owed] == [State.ACCEPTED] * 2

    play(story)


def test_a_person_may_write_what_looks_like_a_receipt(tmp_path: Path) -> None:
    async def story() -> None:
        async with receipt_stage(tmp_path) as s:
            s.receive("id:5 is my favourite", esm_class=0)
            assert len(s.persons) == 1
            s.receive("id:5 stat:DELIVRD", esm_class=0)
            await s.rest()
            assert len(s.persons) == 1 and s.answers == [ESME_ROK], "on disk, until it is known to be no receipt"
            await s.pass_time(61)
            pdu, answer = s.persons[1]
            assert pdu.source_addr == NUMBER[1:].encode() and s.receipts.parked == 0
            answer(ESME_RX_T_APPN)
            assert s.receipts.parked == 1, "nobody has it yet"
            await s.pass_time(61)
            s.persons[2][1](ESME_ROK)
            await s.rest()
            assert s.table.parked() == [] and s.lines() == []
            message = s.send("5")
            s.receive("id:5 stat:DELIVRD", esm_class=0)
            await s.rest()
            assert s.told() == [("delivered", message, "DELIVRD")]

    play(story)


def test_one_that_cannot_be_read_is_told_and_no_message_of_a_person(tmp_path: Path) -> None:
    async def story() -> None:
        async with receipt_stage(tmp_path) as s:
            for raw in (b"", b"\xff\x00 what", b"stat:DELIVRD"):
                s.receive(raw)
            await s.rest()
            assert [line["type"] for line in s.lines()] == ["receipt-unreadable"] * 3
            assert s.lines()[1]["reply"] == "\xff\x00 what"
            assert s.answers == [ESME_ROK] * 3 and s.persons == [] and s.odd() == {"unreadable": 3}

    play(story)


def test_a_receipt_in_a_data_sm_and_in_tlvs(tmp_path: Path) -> None:
    async def story() -> None:
        async with receipt_stage(tmp_path) as s:
            message = s.send("Ab-9")
            tlvs = ((TAGS["receipted_message_id"], b"Ab-9\0"), (TAGS["message_state"], b"\x05"))
            s.receipts.arrived("one", DataSm(tlvs=tlvs), s.answers.append)
            await s.rest()
            assert s.told() == [("undelivered", message, "UNDELIV")] and s.answers == [ESME_ROK]

    play(story)


def test_of_equal_ids_the_number_decides(tmp_path: Path) -> None:
    """The example SMSC of Net::SMPP gives all messages one id."""

    async def story() -> None:
        async with receipt_stage(tmp_path) as s:
            sent = [s.send("1", recipient=f"+44770090010{n}") for n in range(5)]
            for n in (3, 0, 4, 1, 2):
                s.receipt("1", source_addr=f"07700 90010{n}".encode())
            await s.rest()
            assert [message for _, message, _ in s.told()] == [sent[n] for n in (3, 0, 4, 1, 2)]
            s.receipt("1", carrier="other")
            await s.pass_time(61)
            assert s.odd()["unmatched"] == 1, "ids are those of their carrier"

    play(story)


def test_what_does_not_fit_into_memory_is_found_on_disk(tmp_path: Path) -> None:
    async def story() -> None:
        async with receipt_stage(tmp_path) as s:
            s.receipts._outstanding.limit = 2
            sent = [s.send(f"{n}a", f"{n}b", account="app", registered=1) for n in range(5)]
            assert len(s.receipts) == 2
            s.receipt("0a")
            s.receipt("0b")
            s.receipt("4a")
            await s.rest()
            assert s.told() == [
                ("receipt", sent[4], "DELIVRD"), ("receipt", sent[0], "DELIVRD"), ("delivered", sent[0], "DELIVRD"),
            ]  # fmt: skip
            assert len(s.owed) == 1

    play(story)


def test_too_many_unknown_ones_are_to_come_again(tmp_path: Path) -> None:
    async def story() -> None:
        async with receipt_stage(tmp_path) as s:
            s.receipts._settings = type(s.receipts._settings)(max_parked=2)
            for n in range(3):
                s.receipt(str(n))
            await s.rest()
            assert sorted(s.answers) == [ESME_ROK, ESME_ROK, ESME_RX_T_APPN]

    play(story)


def test_events_are_made_again_from_the_journal(tmp_path: Path) -> None:
    """E1: the event file is gone; the ids are the same."""

    async def story() -> None:
        async with receipt_stage(tmp_path) as s:
            for n in range(3):
                s.send(str(n))
                s.receipt(str(n))
                await s.rest()
            before = s.lines()
            assert len(before) == 3
        for path in (tmp_path / "events").iterdir():
            path.write_bytes(b"")
        async with receipt_stage(tmp_path) as s:
            assert s.lines() == before

    play(story)


def test_what_is_missing_is_told_once_also_when_a_part_of_it_comes_after_a_restart(tmp_path: Path) -> None:
    clock = FakeClock(1_750_000_000.0)

    async def story() -> None:
        async with receipt_stage(tmp_path, clock) as s:
            s.send("a", "b")
            await s.rest()
            await s.pass_time(1001)
        async with receipt_stage(tmp_path, clock) as s:
            s.receipt("a")
            await s.rest()
            await s.pass_time(10)
            s.receipt("b")
            await s.pass_time(10)
            assert [kind for kind, *_ in s.told()] == ["receipt-missing", "receipt", "delivered"]

    play(story)


def test_more_that_is_missing_than_one_step_looks_at_and_what_is_old_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts, "_STEP", 4)

    async def story() -> None:
        async with receipt_stage(tmp_path) as s:
            for n in range(11):
                s.send(f"{n}a", f"{n}b")
            await s.rest()
            await s.pass_time(1001)
            assert [kind for kind, *_ in s.told()] == ["receipt-missing"] * 11
            assert s.table.last_to(NUMBER) is not None
            await s.pass_time(3 * 86400)
            assert s.table.last_to(NUMBER) is None

    play(story)


def test_what_a_client_may_ask_of_a_message(tmp_path: Path) -> None:
    async def story() -> None:
        async with receipt_stage(tmp_path) as s:
            states = []
            for stats in ((), ("ENROUTE",), ("DELIVRD",), ("DELIVRD", "DELIVRD"), ("DELIVRD", "EXPIRED")):
                ids = [f"{len(states)}{number}" for number in range(2)]
                message = s.send(*ids, account="app")
                for id, stat in zip(ids, stats, strict=False):
                    s.receipt(id, stat)
                await s.rest()
                assert s.receipts.inquiries.state_of(message, "plain") is None
                told = s.receipts.inquiries.state_of(message, "app")
                assert told is not None
                states.append(State(told[0]))
            assert states == [State.ENROUTE, State.ENROUTE, State.ENROUTE, State.DELIVERED, State.EXPIRED]
            last = s.receipts.inquiries.last_to(NUMBER)
            assert last is not None and last.message == message

    play(story)


@pytest.mark.parametrize(("carrier", "ids"), [("mute", ("1", "2")), ("one", ("", ""))])
def test_what_is_owed_without_a_receipt_is_owed_again_after_a_kill(
    tmp_path: Path, carrier: str, ids: tuple[str, ...]
) -> None:
    """It may not have been on disk when the carrier's answer was."""

    async def story() -> None:
        async with receipt_stage(tmp_path) as s:
            message = s.send(*ids, carrier=carrier, account="app", registered=1)
            heard = s.send("7", account="app", registered=1)
            await s.rest()
            assert len(s.owed) == 1
            assert [part.part for part in s.receipts.taken(message, 0)] == [1, 2]
            assert [part.carrier_id for part in s.receipts.taken(heard, 0)] == ["7"]
            assert not s.receipts.taken(message, 1) and not s.receipts.taken("no such", 0)
            await s.rest()
            assert [sms.body.split()[0] for _, _, sms in s.owed] == [f"id:{message}".encode()] * 2

    play(story)
