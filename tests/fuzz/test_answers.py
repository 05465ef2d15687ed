"""Any deliver_sm and data_sm of a phone is answered, once, and no octet of it makes an exception (P1)."""

import logging
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from engine.base.settings import Account, Keyword
from engine.feedback.answer import Answer, for_account, read_pdu, text_of
from engine.protocol.smpp_pdu import DataSm, DeliverSm, Pdu
from engine.protocol.smpp_tables import ESME_ROK
from engine.protocol.sms_data_coding import Charset
from tests.support.answers import Stage, run, settings
from tests.support.smpp import of_type

ACCOUNTS = [
    Account(system_id=f"{alphabet}-{long}", alphabet=alphabet, long_answers=long)
    for alphabet in ("gsm", "latin-1", "ascii", "utf-8")
    for long in ("payload", "parts")
]
#: With headers, parts and payloads more often than chance gives them.
telling = st.builds(
    DeliverSm,
    source_addr=st.sampled_from([b"447700900123", b"", b"Bank", b"\xff\xfe"]),
    destination_addr=st.sampled_from([b"60999", b"", b"\x80"]),
    source_addr_ton=st.integers(0, 6),
    esm_class=st.sampled_from([0, 0x40, 0x04, 0xFF]),
    data_coding=st.integers(0, 255),
    short_message=st.one_of(
        st.sampled_from([b"STOP", b"yes", b"HELP", b"vote \xff", b"\x05\x00\x03\x01\x02\x01a",
            b"\x05\x00\x03\x01\x02\x02b"]),
        st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, 6, 8, 0x24, 0x25]), max_size=30).map(bytes),
        st.binary(max_size=30),
    ),
    tlvs=st.lists(
        st.tuples(st.sampled_from([0x20C, 0x20E, 0x20F, 0x424, 0x1E]), st.binary(max_size=300)), max_size=4
    ).map(tuple),
)  # fmt: skip
arriving = st.one_of(of_type(DeliverSm), of_type(DataSm), telling)


@hypothesis_settings(max_examples=500)
@given(arriving, st.sampled_from(ACCOUNTS), st.sampled_from([Charset.GSM, Charset.LATIN1, Charset.ASCII]))
def test_any_message_has_a_content_for_any_account(pdu: Pdu, account: Account, default: Charset) -> None:
    assert isinstance(pdu, DeliverSm | DataSm)
    sms, to, segment = read_pdu(pdu)
    text = text_of(sms, default)
    answer = Answer(id="1", carrier="one", number=sms.source, to=to, at=1.0, text=text, sms=sms)
    for out in for_account(answer, account):
        assert len(out.udh) + len(out.body) <= 254
    if segment is not None:
        assert 1 <= segment.number <= segment.total


@hypothesis_settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(arriving, min_size=1, max_size=30))
def test_every_message_is_answered_once(pdus: list[Pdu]) -> None:
    errors: list[logging.LogRecord] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = errors.append  # type: ignore[method-assign]
    logging.getLogger("engine.feedback").addHandler(handler)
    keywords = (Keyword(word="vote", account="gsm-parts"),)
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(Path(folder), settings(*ACCOUNTS, keywords=keywords, default_account="utf-8-payload"))

        async def story() -> None:
            for pdu in pdus:
                assert isinstance(pdu, DeliverSm | DataSm)
                assert await stage.arrive(pdu) == ESME_ROK
            await stage.loop.jump(4000)
            await stage.passed()

        run(stage, story, stage.passed)
    logging.getLogger("engine.feedback").removeHandler(handler)
    assert errors == []
