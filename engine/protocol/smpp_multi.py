"""The lists of submit_multi: to whom, and who of them is refused (SMPP 3.4 4.5, 5.0 4.2.3)."""

import struct
from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec

from engine.protocol.smpp_fields import OCTET, BodyError, InvalidField, Plain, read_octet
from engine.protocol.smpp_tables import ESME_RINVCMDLEN, ESME_RINVDESTFLAG

#: SMPP 3.4 5.2.24.
MAX_DESTINATIONS = 254


class SmeAddress(msgspec.Struct, frozen=True):
    """A destination of submit_multi: one handset."""

    dest_addr_ton: int = 0
    dest_addr_npi: int = 0
    destination_addr: bytes = b""


class DistributionList(msgspec.Struct, frozen=True):
    """A destination of submit_multi: a list that the SMSC keeps."""

    dl_name: bytes


class UnsuccessSme(msgspec.Struct, frozen=True):
    """A destination that submit_multi_resp refuses, and the status that a submit_sm to it would have got."""

    dest_addr_ton: int
    dest_addr_npi: int
    destination_addr: bytes
    error_status_code: int


_HANDSET = Plain(((OCTET, "dest_addr_ton"), (OCTET, "dest_addr_npi"), (20, "destination_addr")))
_LIST_NAME = Plain(((20, "dl_name"),))
_STATUS = struct.Struct(">L")
# Made of what an expression has read, whose types mypy cannot know.
_sme_address: Callable[..., SmeAddress] = SmeAddress
_distribution_list: Callable[..., DistributionList] = DistributionList
_unsuccess_sme: Callable[..., UnsuccessSme] = UnsuccessSme


class _DestinationsPart:
    """number_of_dests and as many dest_address, each begun by its dest_flag (SMPP 3.4 4.5.1.1)."""

    width = 1

    def read(self, data: bytes, at: int, end: int) -> tuple[Sequence[object], int]:
        count, at = read_octet(data, at, end)
        found: list[object] = []
        for _ in range(count):
            flag, at = read_octet(data, at, end)
            if flag == 1:
                handset, at = _HANDSET.read(data, at, end)
                found.append(_sme_address(*handset))
            elif flag == 2:
                name, at = _LIST_NAME.read(data, at, end)
                found.append(_distribution_list(*name))
            else:
                raise BodyError(ESME_RINVDESTFLAG)
        return (tuple(found),), at

    def write(self, values: Sequence[object]) -> bytes:
        (destinations,) = values
        assert isinstance(destinations, tuple)
        if len(destinations) > MAX_DESTINATIONS:
            raise InvalidField(f"{len(destinations)} destinations")
        pieces = [bytes((len(destinations),))]
        for destination in destinations:
            flag, part = (b"\1", _HANDSET) if isinstance(destination, SmeAddress) else (b"\2", _LIST_NAME)
            pieces += (flag, part.write(msgspec.structs.astuple(destination)))
        return b"".join(pieces)


class _UnsuccessPart:
    """no_unsuccess and as many unsuccess_sme (SMPP 3.4 4.5.2.1)."""

    width = 1

    def read(self, data: bytes, at: int, end: int) -> tuple[Sequence[object], int]:
        # Some send nothing where none was refused.
        count, at = read_octet(data, at, end) if at < end else (0, at)
        found = []
        for _ in range(count):
            handset, at = _HANDSET.read(data, at, end)
            if at + _STATUS.size > end:
                raise BodyError(ESME_RINVCMDLEN)
            found.append(_unsuccess_sme(*handset, *_STATUS.unpack_from(data, at)))
            at += _STATUS.size
        return (tuple(found),), at

    def write(self, values: Sequence[object]) -> bytes:
        (refused,) = values
        assert isinstance(refused, tuple)
        if len(refused) > 255:
            raise InvalidField(f"{len(refused)} destinations")
        pieces = [bytes((len(refused),))]
        for sme in refused:
            *handset, status = msgspec.structs.astuple(sme)
            pieces += (_HANDSET.write(handset), _STATUS.pack(status))
        return b"".join(pieces)


#: With the number_of_dests before them.
Destinations = Annotated[tuple[SmeAddress | DistributionList, ...], _DestinationsPart()]
#: With the no_unsuccess before them.
UnsuccessSmes = Annotated[tuple[UnsuccessSme, ...], _UnsuccessPart()]
