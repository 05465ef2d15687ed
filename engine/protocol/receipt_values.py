"""Receipts as values: as one was read, and as we write one."""

from typing import Literal

import msgspec

from engine.protocol.receipt_states import State

Source = Literal["tlv", "text"]


class Receipt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One receipt. Times in unix seconds; None is what it does not say or says impossibly.

    id: of the message, as the carrier writes it here. stat: the state in the carrier's own words, "" without any.
    error: network-specific, as "000"; of a TLV the decimal code. sub, dlvrd: messages submitted and delivered.
    text: the start of the message. claimed: esm_class says that this is a receipt. raw: the bytes of the text.
    """

    id: str
    id_source: Source
    state: State
    state_source: Source
    stat: str = ""
    error: str | None = None
    error_source: Source | None = None
    submitted_at: float | None = None
    done_at: float | None = None
    sub: int | None = None
    dlvrd: int | None = None
    text: str = ""
    claimed: bool = False
    raw: bytes = b""

    @property
    def final(self) -> bool:
        """Nothing else can follow."""
        return self.state.final


class WrittenReceipt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What goes into a deliver_sm with data_coding 0. tlvs: (tag, value), in the order of their tags."""

    esm_class: int
    short_message: bytes
    tlvs: tuple[tuple[int, bytes], ...]
