"""PDUs for the tests: any of any kind, and cuts of a stream."""

from typing import get_type_hints

from hypothesis import strategies as st

from engine.protocol.smpp_fields import OCTET, Kind
from engine.protocol.smpp_multi import DistributionList, SmeAddress, UnsuccessSme
from engine.protocol.smpp_pdu import COMMON, PDU_TYPES, Pdu

octets = st.integers(0, 255)
uint32 = st.integers(0, 0xFFFFFFFF)
tlvs = st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=30)), max_size=4).map(tuple)


def strings(limit: int) -> st.SearchStrategy[bytes]:
    """C-octet strings without their NUL."""
    return st.binary(max_size=limit).map(lambda value: value.replace(b"\0", b"+"))


_handset = (octets, octets, strings(20))
_OTHERS: dict[str, st.SearchStrategy[object]] = {
    "short_message": st.binary(max_size=254),
    "dest_addresses": st.lists(
        st.builds(SmeAddress, *_handset) | st.builds(DistributionList, strings(20)), max_size=5
    ).map(tuple),
    "unsuccess_smes": st.lists(st.builds(UnsuccessSme, *_handset, uint32), max_size=5).map(tuple),
}


def field_kinds(pdu_type: type[Pdu]) -> dict[str, Kind]:
    """Its own fields, in order, with their kinds."""
    hints = get_type_hints(pdu_type, include_extras=True)
    return {name: hints[name].__metadata__[0] for name in pdu_type.__struct_fields__[COMMON:]}


def _values(name: str, kind: Kind) -> st.SearchStrategy[object]:
    if isinstance(kind, int):
        return strings(kind)
    return octets if kind == OCTET else _OTHERS[name]


def of_type(pdu_type: type[Pdu]) -> st.SearchStrategy[Pdu]:
    """Any PDU of this command that may be sent."""
    fields = {name: _values(name, kind) for name, kind in field_kinds(pdu_type).items()}
    return st.builds(pdu_type, sequence_number=uint32, command_status=uint32, tlvs=tlvs, **fields)


pdus = st.sampled_from(list(PDU_TYPES.values())).flatmap(of_type)


@st.composite
def cuts(draw: st.DrawFn, data: st.SearchStrategy[bytes]) -> tuple[bytes, list[bytes]]:
    """Some bytes, and the same in pieces."""
    whole = draw(data)
    points = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    return whole, [whole[a:b] for a, b in zip([0, *points], [*points, len(whole)], strict=True)]
