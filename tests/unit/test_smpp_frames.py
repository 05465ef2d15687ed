"""PDUs cut out of a stream, and the one fault that ends it."""

import pytest

from engine.protocol.smpp_codec import MAX_PDU_BYTES, encode
from engine.protocol.smpp_frames import FrameError, PduParser
from engine.protocol.smpp_pdu import EnquireLink, GenericNack, SubmitSm, SubmitSmResp, UnknownPdu
from engine.protocol.smpp_tables import ESME_RINVCMDLEN


def header(length: int, number: int = 9) -> bytes:
    return b"".join(value.to_bytes(4) for value in (length, 4, 0, number))


def test_a_stream_byte_by_byte_gives_each_pdu_with_its_last_byte() -> None:
    sent = [SubmitSm(1, short_message=b"x" * 200), EnquireLink(0), SubmitSmResp(0xFFFFFFFF, 8)]
    parser, found = PduParser(), []
    for pdu in sent:
        wire = encode(pdu)
        for position, byte in enumerate(wire, 1):
            parser.feed(bytes((byte,)))
            if (got := parser.next_pdu()) is not None:
                assert position == len(wire) and parser.idle
                found.append(got)
            else:
                assert not parser.idle
    assert found == sent


@pytest.mark.parametrize(
    ("data", "number"),
    [
        (b"\0\0\0\x0f", 0), (b"\0\0\0\0", 0), (header(15), 0), (header(MAX_PDU_BYTES + 1), 9),
        (header(0xFFFFFFFF, 0xFFFFFFFF), 0xFFFFFFFF), (b"GET / HTTP/1.1\r\n\r\n", int.from_bytes(b".1\r\n")),
    ],
)  # fmt: skip
def test_a_length_that_cannot_be_ends_the_stream_and_says_what_to_answer(data: bytes, number: int) -> None:
    """Without a whole header there is no sequence_number: 3.4 4.3 wants 0 then."""
    parser = PduParser()
    parser.feed(encode(EnquireLink(1)) + data)
    assert parser.next_pdu() == EnquireLink(1)
    for _ in range(2):
        with pytest.raises(FrameError, match="command_length") as caught:
            parser.next_pdu()
        assert caught.value.nack == GenericNack(number, ESME_RINVCMDLEN)
        parser.feed(encode(EnquireLink(2)))


def test_a_pdu_of_the_limit_is_taken() -> None:
    parser = PduParser()
    parser.feed(MAX_PDU_BYTES.to_bytes(4) + b"\0\1\2\3" + b"\0" * (MAX_PDU_BYTES - 8))
    assert parser.next_pdu() == UnknownPdu(0x10203, 0, 0, bytes(MAX_PDU_BYTES - 16))
