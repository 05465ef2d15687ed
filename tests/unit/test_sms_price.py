"""What an SMS cost, in the event that it was sent."""

from pathlib import Path

from engine.protocol.smpp_pdu import SubmitSmResp
from engine.protocol.smpp_tables import STATUSES
from engine.storage.events.reader import read_events
from tests.support.sms_stage import carrier, play, sms_stage, until
from tests.support.smsc import Smsc


def test_what_was_sent_says_what_all_its_parts_cost(tmp_path: Path) -> None:
    """Also if no receipt ever comes."""

    async def story() -> None:
        smsc = await Smsc().open()
        smsc.answer = lambda pdu: SubmitSmResp(
            message_id=b"1", command_status=STATUSES["ESME_RINVDSTADR"] if pdu.destination_addr.endswith(b"9") else 0
        )
        async with sms_stage(tmp_path, carrier(smsc, price="0.013"), carrier(smsc, "free")) as s:
            await s.put("a" * 400, "+447700900001", "+447700900009")
            await s.put("b", "+447700900002")
            await s.put("c", "+447700900003", carrier="free")
            await until(lambda: s.live() == 0)
            await until(lambda: len(s.told()) == 4)
        rows = [row for row in read_events(tmp_path / "events") if row["type"] != "received"]
        assert {(row["type"], row["recipient"][-1]): row.get("price") for row in rows} == {
            ("sent", "1"): "0.039", ("failed", "9"): None, ("sent", "2"): "0.013", ("sent", "3"): None,
        }  # fmt: skip
        await smsc.close()

    play(story)
