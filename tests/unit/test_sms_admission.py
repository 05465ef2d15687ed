"""Admission of SMS for a client without an account, as HTTP will be."""

import asyncio
from pathlib import Path

import pytest

from engine.base.errors import StorageError
from engine.base.stored import Stored
from engine.intake.sms_admission import SmsRequest, _with_links
from engine.intake.sms_refusal import SmsRefused
from engine.message.envelope import MessageClass
from engine.message.sms import Sms
from tests.support.smpp_intake import play, taking


def test_a_request_without_an_account_is_stored_and_has_its_own_class_and_batch(tmp_path: Path) -> None:
    async def story() -> None:
        async with taking(tmp_path) as intake:
            request = SmsRequest(
                numbers=[("447700900123", 0, 0), ("x", 0, 0), ("447700900124", 0, 0)], sms=Sms(text="h\u00e9 😀"),
                sender="Acme", message_class=MessageClass.TRANSACTIONAL, batch="spring", client="http[192.0.2.1]",
            )  # fmt: skip
            admitted = intake.admission.submit(request)
            assert (admitted.parts, [(at, exc.name) for at, exc in admitted.refused]) == (2, [(1, "ESME_RINVDSTADR")])
            assert not admitted.stored.done()
            await admitted.stored
            [delivery] = intake.accepted
            assert delivery.message.id == admitted.message_id
            assert (delivery.message.message_class, delivery.message.batch) == (0, "spring")
            assert delivery.message.expires_at == intake.clock.time() + 24 * 3600
            assert intake.lines[0].endswith("nrcpt=2, parts=2, class=transactional, batch=spring")

    play(story)


@pytest.mark.parametrize(
    ("sender", "ton", "source", "kind"),
    [
        ("Acme", 0, "Acme", (5, 0)),
        ("+447700900999", 0, "+447700900999", (1, 1)),
        ("447700900999", 1, "+447700900999", (1, 0)),
        ("447700900999", 0, "+447700900999", (1, 1)),
        ("Größe", 5, "Größe", (5, 0)),
        ("12345", 0, "12345", (3, 0)),
        ("12345", 2, "12345", (2, 0)),
    ],
)
def test_a_sender_id_is_what_it_looks_like_unless_the_client_says(
    tmp_path: Path, sender: str, ton: int, source: str, kind: tuple[int, int]
) -> None:
    async def story() -> None:
        async with taking(tmp_path) as intake:
            await intake.admission.submit(
                SmsRequest(numbers=[("447700900123", 0, 0)], sms=Sms(text="x"), sender=sender, sender_ton=ton)
            ).stored
            [(_, _, sms)] = intake.stored()
            assert (sms.source, (sms.source_ton, sms.source_npi)) == (source, kind)

    play(story)


def test_nobody_to_send_to_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        async with taking(tmp_path) as intake:
            with pytest.raises(SmsRefused) as caught:
                intake.admission.submit(SmsRequest(numbers=[], sms=Sms(text="x"), sender="Acme"))
            assert caught.value.name == "ESME_RINVDSTADR"

    play(story)


def test_a_message_is_accepted_when_its_links_are_noted_and_for_itself(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        noted = asyncio.Event()

        async def note(fault: Exception | None = None) -> None:
            await noted.wait()
            if fault is not None:
                raise fault

        stored = [Stored() for _ in range(3)]
        both = [
            _with_links(stored[0], note()), _with_links(stored[1], note(RuntimeError("a fault of ours"))),
            _with_links(stored[2], note()),
        ]  # fmt: skip
        stored[0].finish()
        await asyncio.sleep(0.01)
        assert not any(one.done() for one in both)
        noted.set()
        await both[0]
        assert not both[1].done() and not both[2].done()
        stored[1].finish()
        await both[1]
        assert "a fault of ours" in caplog.text
        stored[2].finish(StorageError("full"))
        with pytest.raises(StorageError, match="full"):
            await both[2]

    asyncio.run(story())
