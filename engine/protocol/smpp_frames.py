"""PDUs of a stream: bytes in any pieces in, values out (SMPP 3.4 3.2).

P1: any bytes give PDUs or a FrameError.  P2: how they are cut into chunks does not matter, which is why the parser is
asked for one PDU at a time: those before the fault are given out before it is raised.

Only a command_length that cannot be ends the stream, because nobody knows where the next PDU begins. Whatever is wrong
inside a PDU is a value, and the session goes on.
"""

from typing import Final

from mypy_extensions import mypyc_attr

from engine.base.errors import ProtocolError
from engine.protocol.smpp_codec import HEADER, HEADER_BYTES, MAX_PDU_BYTES, AnyPdu, decode
from engine.protocol.smpp_pdu import GenericNack
from engine.protocol.smpp_tables import ESME_RINVCMDLEN

_LENGTH_BYTES: Final = 4


@mypyc_attr(native_class=False)
class FrameError(ProtocolError):
    """A command_length that cannot be. nack: what to send before closing."""

    def __init__(self, length: int, sequence_number: int) -> None:
        super().__init__(f"command_length {length}")
        self.nack = GenericNack(sequence_number, ESME_RINVCMDLEN)


class PduParser:
    """Cuts a stream into PDUs. `feed` bytes, then call `next_pdu` until it gives None.

    After a FrameError every further call raises it again.
    """

    __slots__ = ("_buffer", "_fault", "_start")

    def __init__(self) -> None:
        self._buffer = b""
        self._start = 0
        self._fault: FrameError | None = None

    @property
    def idle(self) -> bool:
        """Nothing begun: no byte of a further PDU has come."""
        return self._start == len(self._buffer)

    def feed(self, data: bytes) -> None:
        """More bytes. Holds at most one PDU and this chunk once `next_pdu` gave None."""
        if self._fault is None:
            self._buffer = self._buffer[self._start :] + data if self._start < len(self._buffer) else data
            self._start = 0

    def next_pdu(self) -> AnyPdu | None:
        """The next complete PDU, or None until more is fed. Raises FrameError."""
        buffer, start = self._buffer, self._start
        at = start + HEADER_BYTES
        if at > len(buffer):
            self._check_begun()
            return None
        length, command_id, status, number = HEADER.unpack_from(buffer, start)
        if not HEADER_BYTES <= length <= MAX_PDU_BYTES:
            raise self._failed(length, number)
        end = start + length
        if end > len(buffer):
            return None
        self._start = end
        return decode(buffer, at, end, command_id, status, number)

    def _check_begun(self) -> None:
        """Less than a header. One that promises to stay so is a fault now: its end may never come."""
        if self._fault is not None:
            raise self._fault
        known = self._buffer[self._start : self._start + _LENGTH_BYTES]
        if len(known) == _LENGTH_BYTES and int.from_bytes(known) < HEADER_BYTES:
            raise self._failed(int.from_bytes(known), 0)

    def _failed(self, length: int, number: int) -> FrameError:
        """Remember the fault; there is nothing after it. A header cut by its own length has no sequence_number."""
        self._fault = FrameError(length, number if length >= HEADER_BYTES else 0)
        self._buffer = b""
        self._start = 0
        return self._fault
