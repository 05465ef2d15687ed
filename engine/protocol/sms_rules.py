"""What one carrier takes of a text: alphabets, how parts are joined, how many."""

import enum
from dataclasses import dataclass
from typing import Final

from engine.base.errors import ConfigError
from engine.protocol.sms_data_coding import Charset
from engine.protocol.sms_shifts import Language

#: What is left of 140 after that many must hold the longest header (19 octets) and some characters.
MAX_SPARE_OCTETS: Final = 100
#: The number of a part is an octet.
MAX_PARTS: Final = 255


class Join(enum.StrEnum):
    """How the parts of one message are told to belong together."""

    UDH_8 = "udh-8"  #: a header with a reference of 8 bits: what every phone knows
    UDH_16 = "udh-16"  #: of 16 bits: fewer collisions, one septet less in each part
    SAR = "sar"  #: TLVs; the carrier writes the header
    PAYLOAD = "payload"  #: the whole message in a TLV; the carrier cuts it

    @property
    def by_header(self) -> bool:
        """We write the header ourselves, and so may say more in it."""
        return self in (Join.UDH_8, Join.UDH_16)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRules:
    """The rules of a carrier. Raises ConfigError with all that is out of range.

    default_alphabet: what the carrier has under data_coding 0: GSM, LATIN1 or ASCII. languages: whose national tables
    may be used, if parts are joined by headers. latin1: data_coding 3 may be used. spare_octets: of the 140 of a part,
    those that the carrier needs for itself. max_parts: of a message that is accepted.
    """

    default_alphabet: Charset = Charset.GSM
    join: Join = Join.UDH_8
    spare_octets: int = 0
    languages: tuple[Language, ...] = ()
    latin1: bool = False
    max_parts: int = 10

    def __post_init__(self) -> None:
        problems = []
        if self.default_alphabet not in (Charset.GSM, Charset.LATIN1, Charset.ASCII):
            problems.append(f"default_alphabet: {self.default_alphabet} is not gsm, latin-1 or ascii")
        if not 0 <= self.spare_octets <= MAX_SPARE_OCTETS:
            problems.append(f"spare_octets: {self.spare_octets} is not 0 to {MAX_SPARE_OCTETS}")
        if not 1 <= self.max_parts <= MAX_PARTS:
            problems.append(f"max_parts: {self.max_parts} is not 1 to {MAX_PARTS}")
        if problems:
            raise ConfigError(problems)
