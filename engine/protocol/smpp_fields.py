"""Fields of a PDU's mandatory part: kinds to annotate with, and how values of such kinds are read and written.

    class CancelSm(Pdu):
        service_type: CString6 = b""
        source_addr_ton: Octet = 0

`compile_fields` makes of such a class a few parts. Octets and C-octet strings that follow each other are one part,
read by one regular expression: the loop over the bytes is then in C. What follows a length or a count has its own.

Lenient on input: a string may be longer than its limit (up to CAP), the last may lack its NUL. Strict on output.
Limits: SMPP 3.4 5.2, 5.0 4.7; but passwords may have 16 octets in the field.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Annotated, Final, Protocol, get_type_hints

from mypy_extensions import mypyc_attr

from engine.base.errors import EngineError, ProtocolError
from engine.protocol.smpp_tables import ESME_RINVCMDLEN, ESME_RINVMSGLEN

#: The longest C-octet string believed, without its NUL. Ids of 100 characters are seen where 64 are allowed.
CAP: Final = 255
#: SMPP 3.4 5.2.21. 255 is for 5.0 only, and few understand it.
MAX_SHORT_MESSAGE: Final = 254

#: The kind of an integer of one octet. That of a C-octet string is its limit without the NUL, which the names below
#: count, as the specifications do.
OCTET: Final = "octet"
Octet = Annotated[int, OCTET]
CString6 = Annotated[bytes, 5]
CString13 = Annotated[bytes, 12]
CString16 = Annotated[bytes, 15]
CString17 = Annotated[bytes, 16]
CString21 = Annotated[bytes, 20]
CString41 = Annotated[bytes, 40]
CString65 = Annotated[bytes, 64]


@mypyc_attr(native_class=False)
class InvalidField(EngineError, ValueError):
    """A field that must not be sent; the text says which. Nothing has been sent."""


@mypyc_attr(native_class=False)
class BodyError(ProtocolError):
    """A body that cannot be read. status: what to answer."""

    def __init__(self, status: int) -> None:
        super().__init__("a body that does not fit its command")
        self.status = status


class Part(Protocol):
    """Some fields that follow each other. width: how many values they have."""

    width: int

    def read(self, data: bytes, at: int, end: int) -> tuple[Sequence[object], int]:
        """The values from data[at] on, none beyond data[end], and where they end. Raises BodyError."""

    def write(self, values: Sequence[object]) -> bytes:
        """Raises InvalidField, or struct.error for a status over 32 bits."""


#: OCTET, a limit, or what reads and writes a field that is neither.
Kind = int | str | Part


def compile_fields(owner: type, names: Sequence[str]) -> tuple[Part, ...]:
    """The parts for these fields, annotated in `owner`, in this order."""
    hints = get_type_hints(owner, include_extras=True)
    parts: list[Part] = []
    plain: list[tuple[int | str, str]] = []
    for name in names:
        kind: Kind = hints[name].__metadata__[0]
        if isinstance(kind, (int, str)):
            plain.append((kind, name))
        else:
            parts += (Plain(plain), kind) if plain else (kind,)
            plain = []
    if plain:
        parts.append(Plain(plain, last=True))
    return tuple(parts)


class Plain:
    """Octets and C-octet strings: one group of the expression for each string and for each run of octets."""

    def __init__(self, fields: Sequence[tuple[int | str, str]], *, last: bool = False) -> None:
        self.width = len(fields)
        self._fields = fields
        self._limits = [-1 if kind == OCTET else int(kind) for kind, _ in fields]  #: -1: of an octet
        self._runs: list[bool] = []
        lenient, form = [], []
        for octets, run in groupby(fields, lambda field: field[0] == OCTET):
            limits = [limit for limit, _ in run]
            groups = [b"(.{%d})" % len(limits)] if octets else [rb"([^\0]{0,%d}+)\0" % CAP] * len(limits)
            lenient += groups
            form += [b"%c" if octets else b"%b\0"] * len(limits)
            self._runs += [octets] * len(groups)
        if last and not self._runs[-1]:
            lenient[-1] = rb"([^\0]{0,%d}+)(?:\0|\Z)" % CAP
        self.lenient = re.compile(b"".join(lenient), re.DOTALL)
        self._form = b"".join(form)

    def read(self, data: bytes, at: int, end: int) -> tuple[list[object], int]:
        match = self.lenient.match(data, at, end)
        if match is None:
            raise BodyError(ESME_RINVCMDLEN)
        return self._flat(match.groups()), match.end()

    def write(self, values: Sequence[object]) -> bytes:
        for limit, value in zip(self._limits, values, strict=True):
            if not _fits(value, limit):
                raise self._misfit(values)
        return self._form % tuple(values)

    def _flat(self, groups: Iterable[bytes]) -> list[object]:
        flat: list[object] = []
        for octets, group in zip(self._runs, groups, strict=True):
            if octets:
                flat.extend(group)
            else:
                flat.append(group)
        return flat

    def _misfit(self, values: Sequence[object]) -> InvalidField:
        """Names without values: one may be a password."""
        fields = zip(self._fields, self._limits, values, strict=True)
        names = [name for (_, name), limit, value in fields if not _fits(value, limit)]
        return InvalidField(f"too long, too large or with a NUL: {', '.join(names)}")


def _fits(value: object, limit: int) -> bool:
    """Whether who reads it will get what is meant: within its limit, and no NUL that would shift all that follows."""
    if limit < 0:
        return isinstance(value, int) and 0 <= value <= 255
    return isinstance(value, bytes) and len(value) <= limit and b"\0" not in value


def read_octet(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The octet there, and what follows it."""
    if at >= end:
        raise BodyError(ESME_RINVCMDLEN)
    return data[at], at + 1


class _ShortMessagePart:
    """sm_length and short_message."""

    width = 1

    def read(self, data: bytes, at: int, end: int) -> tuple[tuple[bytes], int]:
        length, start = read_octet(data, at, end)
        stop = start + length
        if stop > end:
            raise BodyError(ESME_RINVMSGLEN)
        return (data[start:stop],), stop

    def write(self, values: Sequence[object]) -> bytes:
        (message,) = values
        assert isinstance(message, bytes)
        if len(message) > MAX_SHORT_MESSAGE:
            raise InvalidField(f"short_message of {len(message)} octets")
        return bytes((len(message),)) + message


#: With the sm_length before it.
ShortMessage = Annotated[bytes, _ShortMessagePart()]
