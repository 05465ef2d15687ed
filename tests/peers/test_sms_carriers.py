"""Our side as a client of SMSCs nobody here wrote: node-smpp, with TLS and without, Net::SMPP, smpp.twisted3."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.base.settings import Carrier
from engine.base.units import Duration, Rate
from engine.delivery import carrier_link, sms_pace
from tests.support.sms_peers import Smsc, node_smsc, perl_smsc, twisted_smsc
from tests.support.sms_stage import SmsStage, play, sms_stage, until

Peer = Callable[..., contextlib.AbstractContextManager[Smsc]]
BOTH = pytest.mark.parametrize("peer", [node_smsc, perl_smsc], ids=["node-smpp", "Net::SMPP"])
LONG = "".join(f"line {n} of a long text; " for n in range(18))
THROTTLED = {node_smsc: "ESME_RTHROTTLED", perl_smsc: 0x58}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds takes hundredths."""
    monkeypatch.setattr(carrier_link, "_FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(carrier_link, "_FIRST_REFUSED_S", 0.02)
    monkeypatch.setattr(sms_pace, "FIRST_PAUSE_S", 0.02)


def carrier(smsc: Smsc, **more: Any) -> Carrier:
    given = {"name": "one", "host": "127.0.0.1", "port": smsc.port, "system_id": "us", "password": "secret"}
    return Carrier(**given | more)


@contextlib.asynccontextmanager
async def stage(path: Path, row: Carrier) -> AsyncIterator[SmsStage]:
    """Bound to it."""
    async with sms_stage(path, row) as s:
        await until(lambda: s.carriers.healthy(row.name), "a bind")
        yield s


async def taken(s: SmsStage) -> None:
    await until(lambda: s.live() == 0, "everything is taken")


def acknowledge(s: SmsStage) -> list[Any]:
    """What the carrier brought, each answered now."""
    came, s.came[:] = list(s.came), []
    for _, _, answer in came:
        answer(0)
    return [pdu for _, pdu, _ in came]


@contextlib.contextmanager
def running(peer: Peer, path: Path, **options: Any) -> Iterator[Smsc]:
    with peer(path / "smsc", **options) as smsc:
        yield smsc


@BOTH
def test_messages_arrive_as_they_are_and_receipts_come_back(tmp_path: Path, peer: Peer) -> None:
    async def story() -> None:
        with running(peer, tmp_path) as smsc:
            async with stage(tmp_path, carrier(smsc)) as s:
                for n in range(30):
                    await s.put(f"text {n}", f"+44770090{n:04}")
                await taken(s)
                assert s.tally() == {"accepted": 30, "delivered": 30, "balanced": True}
                await until(lambda: len(s.came) == 30)
                receipts = acknowledge(s)
                assert [pdu.source_addr for pdu in receipts] == [b"44770090%04d" % n for n in range(30)]
                assert {pdu.esm_class for pdu in receipts} == {4}
                ids = [pdu.short_message.split()[0].removeprefix(b"id:").decode() for pdu in receipts]
                assert ids == [part.carrier_id for part in s.book.parts]
                if peer is perl_smsc:
                    await until(lambda: smsc.told("acknowledged") == [0] * 30)
                else:
                    await until(lambda: smsc.counts().get("acknowledged") == 30)
            submits = smsc.told("submit")
            assert [submit["text"] for submit in submits] == [f"text {n}" for n in range(30)]
            assert {(submit["source"], submit["registered"], submit["coding"]) for submit in submits} == {
                ("ACME", 1, 0)
            }  # fmt: skip
            assert [(bind["kind"], bind["system_id"], bind["password"]) for bind in smsc.told("bind")] == [
                ("transceiver", "us", "secret")
            ]

    play(story)


def test_alphabets_and_long_texts_are_read_by_node_smpp_as_they_were_written(tmp_path: Path) -> None:
    texts = ["{curly} [brackets] €5 @ £", "Привет, мир", "grüße 😀", LONG, "длинный текст " * 20]

    async def story() -> None:
        with running(node_smsc, tmp_path) as smsc:
            async with stage(tmp_path, carrier(smsc)) as s:
                for n, text in enumerate(texts):
                    await s.put(text, f"+4477009000{n:02}")
                await taken(s)
            whole: dict[str, list[dict[str, Any]]] = {}
            for submit in smsc.told("submit"):
                whole.setdefault(submit["destination"], []).append(submit)
            for n, text in enumerate(texts):
                parts = whole[f"4477009000{n:02}"]
                assert "".join(part["text"] for part in parts) == text
                # node-smpp gives the elements of a UDH one by one: 00 03 reference total number.
                headers = [bytes.fromhex(element) for part in parts for element in part["udh"]]
                assert [(header[-2], header[-1]) for header in headers] == [
                    (len(parts), number + 1) for number in range(len(parts)) if len(parts) > 1
                ]

    play(story)


def test_a_strict_one_finds_nothing_to_object_to(tmp_path: Path) -> None:
    """smpp.twisted3 takes no field, value or TLV that the specification does not have, and drops who sends one."""
    row = {"tlvs": (("0x1400", "entity"),), "window": 5}

    async def story() -> None:
        with twisted_smsc(tmp_path / "smsc") as smsc:
            async with stage(tmp_path, carrier(smsc, **row)) as s:
                for n in range(10):
                    await s.put(f"text {n}", f"+44770090{n:04}")
                await s.put(LONG, "+447700900100", validity=s.clock.time() + 3600)
                await s.put("до свидания", "+447700900101")
                await taken(s)
                parts = len(smsc.told("submit"))
                assert parts > 12 and s.tally()["delivered"] == 12
                receipts: list[Any] = []
                while len(receipts) < parts:
                    await until(lambda: s.came)
                    receipts += acknowledge(s)
                ids = [pdu.short_message.split()[0].removeprefix(b"id:").decode() for pdu in receipts]
                assert sorted(ids) == sorted(part.carrier_id for part in s.book.parts)
                await until(lambda: smsc.told("acknowledged") == ["ESME_ROK"] * parts)
            assert smsc.told("error") == []

    play(story)


def test_over_tls_the_certificate_is_checked_when_asked(tmp_path: Path) -> None:
    async def story() -> None:
        with running(node_smsc, tmp_path, tls=True) as smsc:
            rows = carrier(smsc, tls="encrypt"), carrier(smsc, name="two", tls="verify")
            async with sms_stage(tmp_path, *rows) as s:
                await s.put("sealed", "+447700900001")
                await taken(s)
                assert s.tally()["delivered"] == 1
                await until(lambda: "certificate" in s.carriers.why_down("two"))
                assert not s.carriers.healthy("two")
            assert [submit["text"] for submit in smsc.told("submit")] == ["sealed"]
            assert len(smsc.told("bind")) == 1

    play(story)


@BOTH
def test_what_is_throttled_is_sent_again_in_order(tmp_path: Path, peer: Peer) -> None:
    """Window 1: with more, what was sent already may be taken before what was refused."""

    async def story() -> None:
        with running(peer, tmp_path, refuse=THROTTLED[peer], refusals=5) as smsc:
            async with stage(tmp_path, carrier(smsc, window=1, rate=Rate(1000))) as s:
                for n in range(12):
                    await s.put(f"{n}", f"+44770090{n:04}")
                await taken(s)
                assert s.tally() == {"accepted": 12, "delivered": 12, "balanced": True}
            texts = [int(submit["text"]) for submit in smsc.told("submit")]
            assert len(texts) == 12 + 5
            assert texts[5:] == list(range(12))

    play(story)


@BOTH
def test_a_carrier_that_dies_is_bound_again_and_nothing_is_lost(tmp_path: Path, peer: Peer) -> None:
    async def story() -> None:
        with running(peer, tmp_path) as smsc:
            async with stage(tmp_path, carrier(smsc, window=5)) as s:
                await s.put("before", "+447700900000")
                await taken(s)
                smsc.kill()
                for link in s.carriers.links():
                    link.abort()  # Net::SMPP's child serves on
                await until(lambda: not s.carriers.healthy("one"))
                for n in range(20):
                    await s.put(f"{n}", f"+44770090{n:04}")
                smsc.start()
                await taken(s)
                assert s.tally() == {"accepted": 21, "delivered": 21, "balanced": True}
            assert [submit["text"] for submit in smsc.told("submit")] == ["before", *map(str, range(20))]
            assert len(smsc.told("bind")) == 2

    play(story)


def test_a_pair_of_binds_has_its_receipts_on_the_receiver(tmp_path: Path) -> None:
    async def story() -> None:
        with running(node_smsc, tmp_path) as smsc:
            async with stage(tmp_path, carrier(smsc, bind="pair")) as s:
                await until(lambda: len(smsc.told("bind")) == 2)
                assert {bind["kind"] for bind in smsc.told("bind")} == {"transmitter", "receiver"}
                for n in range(5):
                    await s.put(f"{n}", f"+44770090{n:04}")
                await taken(s)
                await until(lambda: len(s.came) == 5)
                acknowledge(s)
                await until(lambda: smsc.counts().get("acknowledged") == 5)

    play(story)


def test_odd_habits_end_no_session(tmp_path: Path) -> None:
    """A bind_resp of a header only, enquire_link before it, a vendor's command, TLVs of other PDUs in a receipt."""
    odd = ["bare-bind-response", "enquire-first", "misplaced-tlv", "unknown-command"]

    async def story() -> None:
        with running(node_smsc, tmp_path, odd=odd, receipts="early") as smsc:
            async with stage(tmp_path, carrier(smsc, enquire_link=Duration(0.05))) as s:
                for n in range(10):
                    await s.put(f"{n}", f"+44770090{n:04}")
                await taken(s)
                await until(lambda: len(s.came) == 10)
                assert all(pdu.short_message.startswith(b"id:") for pdu in acknowledge(s))
                await until(lambda: smsc.counts().get("acknowledged") == 10)
                assert s.carriers.healthy("one")
            assert smsc.told("alive") == [True]
            assert smsc.told("status") == [3] and smsc.told("nack") == [0xABCD], "ESME_RINVCMDID"
            assert len(smsc.told("bind")) == 1

    play(story)
