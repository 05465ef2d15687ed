"""Messages from phones: who has them, what follows from a stop, parts that wait, and when a carrier is answered."""

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from engine.base.settings import Account, Keyword
from engine.message.sms import Kind
from engine.protocol.smpp_pdu import DataSm, DeliverSm
from engine.protocol.smpp_tables import ESME_ROK, ESME_RX_T_APPN
from engine.protocol.sms_udh import MESSAGE_PAYLOAD
from tests.support.answers import OURS, PHONE, Stage, phone, run, sent, settings, until

SHOP, BANK = Account(system_id="shop", help="Shop: call 123"), Account(system_id="bank", senders=("70000",))


def stage_of(path: Path, **more: Any) -> Stage:
    return Stage(path, settings(SHOP, BANK, **more))


def part(number: int, total: int, text: bytes, reference: int = 7, **more: Any) -> DeliverSm:
    return phone(bytes([5, 0, 3, reference, total, number]) + text, esm_class=0x40, **more)


def test_an_answer_goes_to_the_account_of_the_last_message(tmp_path: Path) -> None:
    stage = stage_of(tmp_path)
    stage.last[PHONE] = sent("m1", "shop")

    async def story() -> None:
        assert await stage.arrive(phone(b"Where is it?")) == ESME_ROK
        [(envelope, sms)] = await stage.spooled("account:shop")
        assert (envelope.sender, envelope.recipients[0].address, envelope.channel) == (PHONE, OURS, "sms")
        assert (sms.kind, sms.source, sms.source_ton, sms.body) == (Kind.ANSWER, PHONE, 1, b"Where is it?")
        [event] = stage.told()
        assert (event.type, event.message, event.answer) == ("answered", "m1", envelope.id)
        assert (event.sender, event.recipient, event.text) == (OURS, PHONE, "Where is it?")
        assert (event.destination, event.remote) == ("account:shop", "one")

    run(stage, story)


def test_without_a_message_it_goes_to_the_owner_of_the_number_then_to_the_default(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, default_account="shop")

    async def story() -> None:
        assert await stage.arrive(phone(to=b"70000")) == ESME_ROK
        assert await stage.arrive(phone(to=b"80000")) == ESME_ROK
        assert [e.destination for e in stage.told("answered")] == ["account:bank", "account:shop"]

    run(stage, story)


def test_nobodys_answer_is_an_event(tmp_path: Path) -> None:
    stage = stage_of(tmp_path)

    async def story() -> None:
        assert await stage.arrive(phone(b"Hello")) == ESME_ROK
        assert [(e.type, e.text, e.destination) for e in stage.told()] == [("answer-unrouted", "Hello", "")]
        assert not stage.spool.in_hand

    run(stage, story)


def test_the_owner_of_a_number_is_not_passed_over_for_who_wrote_last(tmp_path: Path) -> None:
    """What was written to the bank's number is not the shop's to read."""
    stage = stage_of(tmp_path)
    stage.last[PHONE] = sent("m1", "shop", sender=OURS)

    async def story() -> None:
        await stage.arrive(phone(to=b"70000"))
        [event] = stage.told()
        assert (event.destination, event.message) == ("account:bank", event.answer)

    run(stage, story)


def test_who_wrote_from_a_number_goes_before_its_owner(tmp_path: Path) -> None:
    stage = stage_of(tmp_path)
    stage.last[PHONE] = sent("m1", "shop", sender="70000")

    async def story() -> None:
        await stage.arrive(phone(to=b"70000"))
        [event] = stage.told()
        assert (event.destination, event.message) == ("account:shop", "m1")

    run(stage, story)


def test_keywords_go_before_all_else(tmp_path: Path) -> None:
    rows = (
        Keyword(word="PIZZA", sender="80000", account="bank"),
        Keyword(word="pizza", account="shop"),
        Keyword(word="*", sender="90000", account="bank"),
    )
    stage = Stage(tmp_path, settings(SHOP, BANK, keywords=rows))

    async def story() -> None:
        for text, to in ((b"Pizza, please", b"80000"), (b"'pizza'", b"1"), (b"pizzas", b"80000"), (b"x", b"90000")):
            await stage.arrive(phone(text, to=to))
        assert [e.destination for e in stage.told()] == ["account:bank", "account:shop", "", "account:bank"]

    run(stage, story)


def test_a_stop_suppresses_confirms_once_and_is_passed_on(tmp_path: Path) -> None:
    stage = stage_of(tmp_path)
    stage.last[PHONE] = sent("m1", "shop", sender="Acme")

    async def story() -> None:
        assert await stage.arrive(phone(b"Stop. Thank you")) == ESME_ROK
        assert await stage.arrive(phone(b"STOP")) == ESME_ROK
        suppressed = stage.suppressions.sms
        assert suppressed(OURS, PHONE) and suppressed("ACME", PHONE[1:])
        assert not suppressed(OURS, "+447700900124") and not suppressed("70000", PHONE)
        [(envelope, sms)] = await stage.spooled("sms:one")
        assert (envelope.sender, envelope.recipients[0].address) == (OURS, PHONE)
        assert (sms.kind, sms.source, sms.dest_ton) == (Kind.REPLY, OURS, 1)
        assert sms.text == stage.settings.sms.stop_text
        assert len(await stage.spooled("account:shop")) == 2
        assert [e.type for e in stage.told()] == ["opted-out", "answered", "answered"]
        [row, _] = stage.held()
        assert (row.stream, row.address, row.cause, row.evidence) == (OURS, PHONE[1:], "stop", "Stop. Thank you")
        assert row.since == stage.clock.now and row.message and row.scope == "stream"

    async def after_a_restart() -> None:
        assert stage.suppressions.sms(OURS, PHONE)

    run(stage, story, after_a_restart)


def test_a_start_lifts_it_in_the_language_of_the_word(tmp_path: Path) -> None:
    stage = stage_of(tmp_path)

    async def story() -> None:
        for text in ("Стоп, спасибо", "Старт", "Yes"):
            assert await stage.arrive(phone(text.encode("utf-16-be"), data_coding=8)) == ESME_ROK
        assert not stage.suppressions.sms(OURS, PHONE)
        texts = [sms.text for _, sms in await stage.spooled("sms:one")]
        assert texts == [stage.settings.sms.stop_text_ru, stage.settings.sms.start_text_ru]
        assert [e.type for e in stage.told("opted-out", "opted-in")] == ["opted-out", "opted-in"]

    async def after_a_restart() -> None:
        assert not stage.suppressions.sms(OURS, PHONE)
        assert stage.held() == []

    run(stage, story, after_a_restart)


def test_an_accounts_own_word_stops_its_messages_only(tmp_path: Path) -> None:
    account = Account(system_id="shop", stop_words=("basta",))
    stage = Stage(tmp_path, settings(account, BANK))

    async def story() -> None:
        await stage.arrive(phone(b"Basta!", to=b"70000"))
        stage.last[PHONE] = sent("m1", "shop")
        await stage.arrive(phone(b"Basta!"))
        assert [stage.suppressions.sms(to, PHONE) for to in ("70000", OURS)] == [False, True]

    run(stage, story)


def test_help_is_answered_with_the_accounts_text_and_not_in_a_circle(tmp_path: Path) -> None:
    stage = stage_of(tmp_path)
    stage.last[PHONE] = sent("m1", "shop")

    async def story() -> None:
        await stage.arrive(phone(b"HELP"))
        await stage.arrive(phone(b"INFO"))
        stage.clock.advance(200)
        await stage.arrive(phone(b"help please"))
        await stage.arrive(phone(b"HELP", to=b"70000"))  # the bank has no text
        assert [sms.text for _, sms in await stage.spooled("sms:one")] == ["Shop: call 123"] * 2
        assert not stage.held()

    run(stage, story)


@pytest.mark.parametrize("source", [b"", b"Bank", b"60999"])
def test_what_is_no_phone_is_not_written_to(tmp_path: Path, source: bytes) -> None:
    stage = stage_of(tmp_path)

    async def story() -> None:
        assert await stage.arrive(phone(b"STOP", source_addr=source, source_addr_ton=0)) == ESME_ROK
        assert await stage.spooled("sms:one") == []

    run(stage, story)


def test_message_payload_and_data_sm(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, default_account="shop")
    long = b"x" * 300

    async def story() -> None:
        pdu = DataSm(source_addr=b"447700900123", source_addr_ton=1, destination_addr=b"60999", tlvs=((0x424, long),))
        assert await stage.arrive(pdu) == ESME_ROK
        assert await stage.arrive(phone(b"", tlvs=((MESSAGE_PAYLOAD, b"STOP"), (0x1400, b"v")))) == ESME_ROK
        [(_, first), (_, second)] = await stage.spooled("account:shop")
        assert (first.body, first.tlvs) == (b"", ((MESSAGE_PAYLOAD, long),))
        assert (second.body, second.tlvs) == (b"STOP", ((0x1400, b"v"),))
        assert stage.suppressions.sms(OURS, PHONE)

    run(stage, story)


def test_parts_in_any_order_survive_restarts(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, default_account="shop")

    async def first() -> None:
        assert await stage.arrive(part(3, 3, b"c" * 153)) == ESME_ROK
        assert await stage.arrive(part(1, 3, b"a" * 153)) == ESME_ROK
        assert await stage.arrive(part(1, 3, b"a" * 153)) == ESME_ROK
        assert stage.told() == []

    async def second() -> None:
        assert await stage.arrive(part(3, 3, b"c" * 153)) == ESME_ROK
        assert await stage.arrive(part(2, 3, b"b" * 153)) == ESME_ROK
        await stage.passed()
        [event] = stage.told()
        assert event.text == "a" * 153 + "b" * 153 + "c" * 153
        [(_, sms)] = await stage.spooled("account:shop")
        assert sms.tlvs == ((MESSAGE_PAYLOAD, event.text.encode()),)
        assert sms.esm_class == 0

    async def third() -> None:
        """The carrier had no answer, and sends a part of it again."""
        assert await stage.arrive(part(2, 3, b"b" * 153)) == ESME_ROK
        stage.clock.advance(4000)
        await stage.loop.jump(0)
        await stage.passed()

    async def fourth() -> None:
        assert await stage.arrive(part(1, 2, b"new")) == ESME_ROK
        assert await stage.arrive(part(2, 2, b"s")) == ESME_ROK
        await stage.passed()
        assert len(stage.told()) == 2
        assert len(stage.db.read("select * from answer_parts")) == 2  # those of the old one are forgotten

    run(stage, first, second, third, fourth)


def test_a_stop_in_two_parts_is_one(tmp_path: Path) -> None:
    stage = stage_of(tmp_path)

    async def story() -> None:
        await stage.arrive(part(2, 2, b"OP"))
        await stage.arrive(part(1, 2, b"ST"))
        await stage.passed()
        assert stage.suppressions.sms(OURS, PHONE)

    run(stage, story)


def test_what_is_missing_is_marked_after_its_time(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, default_account="shop", reassembly=1800)

    async def story() -> None:
        await stage.arrive(part(1, 2, b"begin "))
        await stage.loop.jump(1799)
        assert stage.told() == []
        await stage.loop.jump(1)
        await stage.passed()
        assert [e.text for e in stage.told()] == ["begin [part 2 of 2 is missing]"]
        assert stage.db.read("select * from answer_parts") == []

    run(stage, story)


def test_the_time_of_a_part_goes_on_over_a_restart(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, default_account="shop")

    async def first() -> None:
        await stage.arrive(part(1, 2, b"begin "))

    async def second() -> None:
        await stage.loop.jump(1800)
        await stage.passed()
        assert len(stage.told("answered")) == 1

    run(stage, first, second)


def test_another_message_under_the_same_reference(tmp_path: Path) -> None:
    """The old one is passed on as far as it came, and the new one is not mistaken for it."""
    stage = stage_of(tmp_path, default_account="shop")

    async def first() -> None:
        await stage.arrive(part(1, 2, b"old "))
        await stage.arrive(part(1, 2, b"new "))
        await stage.passed()

    async def second() -> None:
        await stage.arrive(part(2, 2, b"end"))
        await stage.passed()
        assert [e.text for e in stage.told()] == ["old [part 2 of 2 is missing]", "new end"]

    run(stage, first, second)


def test_S1_a_spool_that_fails_is_not_answered_with_ok(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, default_account="shop")

    async def story() -> None:
        stage.files.fail["write"] = 1
        assert await stage.arrive(phone()) != ESME_ROK
        assert await stage.spooled("account:shop") == []

    run(stage, story)


def test_S1_an_event_that_is_not_durable_is_no_answer(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, default_account="shop")
    stage.note_fails = True

    async def story() -> None:
        assert await stage.arrive(phone(b"STOP")) == ESME_RX_T_APPN
        assert stage.suppressions.sms(OURS, PHONE)  # what a person wants holds whatever the disk does

    run(stage, story)


def test_S1_a_part_whose_row_was_not_written_is_written_when_it_comes_again(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, default_account="shop")

    async def first() -> None:
        stage.db.change("alter table answer_parts rename to gone")
        assert await stage.arrive(part(1, 2, b"one ")) == ESME_RX_T_APPN
        stage.db.change("alter table gone rename to answer_parts")
        assert await stage.arrive(part(1, 2, b"one ")) == ESME_ROK

    async def second() -> None:
        assert await stage.arrive(part(2, 2, b"two")) == ESME_ROK
        await stage.passed()
        assert [e.text for e in stage.told()] == ["one two"]

    run(stage, first, second)


def test_S1_a_part_that_is_on_no_disk_is_not_ok_until_its_message_is_passed_on(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, default_account="shop")
    stage.note_fails = True

    async def story() -> None:
        assert await stage.arrive(part(1, 2, b"one ")) == ESME_ROK
        stage.db.change("alter table answer_parts rename to gone")
        assert await stage.arrive(part(2, 2, b"two")) == ESME_RX_T_APPN
        stage.db.change("alter table gone rename to answer_parts")
        assert await stage.arrive(part(2, 2, b"two")) == ESME_RX_T_APPN
        stage.note_fails = False

        async def told() -> bool:
            await stage.loop.jump(10)
            return bool(stage.told())

        await until(told)
        await stage.passed()
        assert await stage.arrive(part(2, 2, b"two")) == ESME_ROK
        assert [e.text for e in stage.told("answered")] == ["one two"]

    run(stage, story)


def test_S1_what_was_answered_is_in_the_file_at_that_moment(tmp_path: Path) -> None:
    """Not only after an orderly end: the copy is what kill -9 would leave."""
    stage = stage_of(tmp_path / "killed", default_account="shop")
    (tmp_path / "killed").mkdir()
    after = stage_of(tmp_path / "after", default_account="shop")

    async def first() -> None:
        assert await stage.arrive(phone(b"STOP")) == ESME_ROK
        assert await stage.arrive(part(1, 2, b"one ")) == ESME_ROK
        (tmp_path / "after").mkdir()
        for file in (tmp_path / "killed").glob("s*.[dk][be]*"):
            shutil.copy(file, tmp_path / "after")

    async def second() -> None:
        assert after.suppressions.sms(OURS, PHONE)
        assert await after.arrive(part(2, 2, b"two")) == ESME_ROK
        await after.passed()
        assert [e.text for e in after.told()] == ["one two"]

    run(stage, first)
    run(after, second)


def test_a_joined_message_that_could_not_be_passed_on_is_tried_again(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, default_account="shop")
    stage.note_fails = True

    async def first() -> None:
        await stage.arrive(part(1, 2, b"one "))
        await stage.arrive(part(2, 2, b"two"))

    async def second() -> None:
        stage.note_fails = False

        async def told() -> bool:
            await stage.loop.jump(10)
            return bool(stage.told())

        await until(told)
        assert [e.text for e in stage.told("answered")] == ["one two"]

    run(stage, first, second)


def test_no_text_of_a_person_is_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stage = stage_of(tmp_path, default_account="shop")

    async def story() -> None:
        await stage.arrive(phone(b"my secret is 1234"))

    with caplog.at_level(logging.DEBUG):
        run(stage, story)
    assert f"from=<{PHONE}>" in caplog.text and "secret" not in caplog.text
