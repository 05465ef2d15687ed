"""What the header of each kind of frame must look like (P1).

    MESSAGE   [version, envelope, [snapshot of each delivery], content reference]      body: the content
    OUTCOME   [version, message id, delivery number, at, provider, snapshot, [outcome], envelope or nil]
    STORED    [version, frame that gave the state, delivery number, snapshot, content reference, envelope]     content
    STATE     [version, offset of the STORED message, snapshot]                frame number: of the record of that state
    DEAD      [version, [offsets of STORED messages]]
    CONTENT   [version]                                                                 body: the content
    TAKEN_IN  [version, envelope, [[delivery number, snapshot]], content reference]     body: the content
    NOTED     [version, lines of the event journal, with the ids of this frame]

A content reference is nil (the content is the body), [file, offset, length] of a CONTENT frame, or [name, length, CRC]
of a file of its own, of which the body is the head. An OUTCOME carries the envelope of a message that is not in the
journal, so that its events can always be made from the journal alone. A STORED frame in a journal is a delivery that
was taken in before there was TAKEN_IN.
"""

from typing import Annotated, Any

import msgspec

from engine.message.outcome import Scope, Status
from engine.storage.spool.frame import FrameType
from engine.storage.spool.segment import MAX_SEGMENT_BYTES

_U16 = Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)]
_U32 = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
_Frame = Annotated[int, msgspec.Meta(ge=0)]
_Offset = Annotated[int, msgspec.Meta(ge=0, lt=MAX_SEGMENT_BYTES)]
_LargeName = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,12}\.[0-9a-f]{8}\.dat$")]
_Ref = tuple[_U32 | _LargeName, _Offset, _U32]  # a ContentRef or a LargeFile
_Status = Annotated[int, msgspec.Meta(ge=int(min(Status)), le=int(max(Status)))]
_Scope = Annotated[int, msgspec.Meta(ge=int(min(Scope)), le=int(max(Scope)))]
_Snapshot = tuple[
    str, tuple[_U16, ...], float, _Frame, tuple[_U16, ...], Annotated[int, msgspec.Meta(ge=0, lt=256)], str
]


class _OutcomeRow(msgspec.Struct, array_like=True):
    """An outcome in a frame. Only append fields, with defaults; a default at the end is left out."""

    index: _U16
    status: _Status
    scope: _Scope
    status_code: str
    reply: str
    remote: str
    phase: str
    kind: str = ""
    price: str = ""


#: By type of frame. Each field fits its column of the table.
_SHAPES: dict[int, Any] = {
    FrameType.SEGMENT: tuple[int, str, _U32, tuple[tuple[_U32, _Offset], ...], _Frame, str],
    FrameType.MESSAGE: tuple[int, bytes, tuple[_Snapshot, ...], _Ref | None],
    FrameType.OUTCOME: tuple[
        int, str, _U16, float, str, _Snapshot, tuple[_OutcomeRow, ...], bytes | None,
    ],
    FrameType.STORED: tuple[int, _Frame, _U16, _Snapshot, _Ref | None, bytes],
    FrameType.STATE: tuple[int, _Offset, _Snapshot],
    FrameType.DEAD: tuple[int, tuple[_Offset, ...]],
    FrameType.INDEX: tuple[int, _U32, _Offset, _U32, list[str], list[str], list[str], list[str], list[str]],
    FrameType.TAKEN_IN: tuple[int, bytes, tuple[tuple[_U16, _Snapshot], ...], _Ref | None],
    FrameType.JOURNAL: tuple[int, _Frame, tuple[tuple[_U32, _Offset], ...]],
    FrameType.RETIRED: tuple[int, _U32],
    FrameType.NOTED: tuple[int, bytes],
}  # fmt: skip

#: The same: they raise msgspec.MsgspecError.
DECODERS: dict[int, msgspec.msgpack.Decoder[Any]] = {
    kind: msgspec.msgpack.Decoder(shape) for kind, shape in _SHAPES.items()
}
