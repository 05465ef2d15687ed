"""What a test SMSC does by the number a message is for, by shares, and with receipts and ids: how it is told.

    PREFIX=VALUE [xN]    4499=ESME_RINVDSTADR    4488=UNDELIV    4477=STOP    the first N times for each number
    PREFIX [xN]          4466 x1                 (silent)

A PREFIX of `*` is any number. The first rule that fits wins. Pure.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from engine.base.errors import ConfigError
from engine.base.units import parse_duration
from engine.protocol.receipt_states import State
from engine.protocol.smpp_tables import ESME_ROK, STATUSES
from engine.protocol.sms_rules import MAX_PARTS, TextRules
from engine.protocol.sms_text import TextTooLong, encode_text
from engine.tools.sink_rules import split_times

#: How answers are written.
ANSWER_RULES = TextRules(max_parts=MAX_PARTS)

_T = TypeVar("_T")
_WITH_VALUE = re.compile(r"(\*|\+?[0-9A-Za-z]+)=(.+)", re.DOTALL)
_ALONE = re.compile(r"\*|\+?[0-9A-Za-z]+")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,8}|[0-9]{1,9}")
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,9})?)(%?)")
_ID_FORM = re.compile(r"(decimal|hex|HEX)(?::([0-9]{1,2}))?")
_STATES = {name: state for state in State for name in (state.name, state.word)}


@dataclass(slots=True)
class PrefixRule(Generic[_T]):
    """One rule. times: how often for each number, None without end."""

    prefix: bytes
    value: _T
    times: int | None = None
    used: dict[bytes, int] = field(default_factory=dict)

    def applies(self, number: bytes) -> bool:
        """True if this rule decides now; counts the use."""
        if not number.startswith(self.prefix):
            return False
        if self.times is None:
            return True
        used = self.used.get(number, 0)
        if used >= self.times:
            return False
        self.used[number] = used + 1
        return True


class Prefixes(Generic[_T]):
    """Rules of one kind."""

    def __init__(self, rules: Iterable[PrefixRule[_T]] = ()) -> None:
        self._rules = tuple(rules)

    def find(self, number: bytes) -> _T | None:
        """What the first rule for this number says; None: there is none."""
        for rule in self._rules:
            if rule.applies(number):
                return rule.value
        return None


def parse_status_rule(text: str) -> PrefixRule[int]:
    """`PREFIX=STATUS`, its name or its number. Raises ConfigError, as the following do."""
    rule = _with_value(text, "status", "4499=ESME_RINVDSTADR")
    written = rule.value
    status = STATUSES.get(written)
    if _NUMBER.fullmatch(written):
        status = int(written, 16 if written[1:2] in ("x", "X") else 10)
    if status is None or not ESME_ROK < status <= 0xFFFFFFFF:
        raise ConfigError([f'"{text}": "{written}" is not an error status, such as "ESME_RINVDSTADR" or "0x0B"'])
    return PrefixRule(rule.prefix, status, rule.times)


def parse_state_rule(text: str) -> PrefixRule[State]:
    """`PREFIX=STATE`, as in receipts: `UNDELIV`."""
    rule = _with_value(text, "state", "4488=UNDELIV")
    state = _STATES.get(rule.value.upper())
    if state is None:
        words = ", ".join(state.word for state in State)
        raise ConfigError([f'"{text}": "{rule.value}" is not one of {words}'])
    return PrefixRule(rule.prefix, state, rule.times)


def parse_answer_rule(text: str) -> PrefixRule[str]:
    """`PREFIX=TEXT`."""
    rule = _with_value(text, "answer", "4477=STOP")
    try:
        encode_text(rule.value, ANSWER_RULES)
    except TextTooLong as error:
        raise ConfigError([f'answer "{text[:20]}...": {error}']) from error
    return rule


def parse_silent_rule(text: str) -> PrefixRule[bool]:
    """`PREFIX`."""
    body, times = split_times(text)
    if not _ALONE.fullmatch(body):
        raise ConfigError([f'"{text}" is not the beginning of a number, such as "4466"'])
    return PrefixRule(_prefix(body), True, times)


def _with_value(text: str, what: str, example: str) -> PrefixRule[str]:
    body, times = split_times(text)
    match = _WITH_VALUE.fullmatch(body)
    if match is None:
        raise ConfigError([f'"{text}" is not the beginning of a number and its {what}, such as "{example}"'])
    return PrefixRule(_prefix(match[1]), match[2], times)


def _prefix(written: str) -> bytes:
    return b"" if written == "*" else written.encode()


class Share:
    """So much of what comes, evenly: of four quarters each fourth. No chance: a test knows what to expect."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._due = 0.0

    def take(self) -> bool:
        """Whether this one is of the share."""
        if not self._share:
            return False
        self._due += self._share
        if self._due < 1 - 1e-9:  # ten tenths are one
            return False
        self._due -= 1
        return True


def parse_share(text: str) -> float:
    """`0.1` or `10%`, above zero and at most all. Raises ConfigError."""
    match = _SHARE.fullmatch(text)
    share = float(match[1]) / (100 if match[2] else 1) if match else 0.0
    if not 0 < share <= 1:
        raise ConfigError([f'"{text}" is not a share, such as "0.1" or "10%"'])
    return share


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptHabits:
    """How receipts are sent. early: before the response. lost: the share that is not sent at all.

    spread: by the binds in turn, instead of by the one that submitted. none: as if nobody had asked.
    """

    none: bool = False
    early: bool = False
    spread: bool = False
    delay_s: float = 0.0
    lost: float = 0.0


def parse_receipts(texts: Iterable[str]) -> ReceiptHabits:
    """`early`, `none`, `spread`, `delay=500ms`, `lost` or `lost=10%`, each once. Raises ConfigError."""
    told: dict[str, float] = {}
    for text in texts:
        word, _, written = text.partition("=")
        if word in told:
            raise ConfigError([f'receipts "{text}": "{word}" is said twice'])
        if text in ("early", "none", "spread", "lost"):
            told[word] = 1.0
        elif word == "delay":
            try:
                told[word] = parse_duration(written)
            except ValueError as error:
                raise ConfigError([f"receipts {text}: {error}"]) from error
        elif word == "lost":
            told[word] = parse_share(written)
        else:
            raise ConfigError([f'receipts "{text}" is not early, none, spread, delay=TIME, lost or lost=SHARE'])
    if "none" in told and len(told) > 1:
        raise ConfigError(["receipts: none of them can be neither early, spread, late nor lost"])
    if "early" in told and "delay" in told:
        raise ConfigError(["receipts: either early or with a delay"])
    return ReceiptHabits(
        none="none" in told,
        early="early" in told,
        spread="spread" in told,
        delay_s=told.get("delay", 0.0),
        lost=told.get("lost", 0.0),
    )


@dataclass(frozen=True, slots=True)
class IdForm:
    """How a number is written as an id. width: filled up with zeros to so many digits."""

    base: str = "d"
    width: int = 0

    def write(self, number: int) -> str:
        return format(number, f"0{self.width}{self.base}" if self.width else self.base)


#: In the response, and in the receipt.
IdForms = tuple[IdForm, IdForm]

_BASES = {"decimal": "d", "hex": "x", "HEX": "X"}
_DECIMAL, _HEX = IdForm(), IdForm("x")
PLAIN: IdForms = (_DECIMAL, _DECIMAL)
_MIXED: tuple[IdForms, ...] = (
    PLAIN, (_HEX, _HEX), (IdForm("X", 16), IdForm("X", 16)), (_DECIMAL, IdForm("X")), (_HEX, _DECIMAL),
)  # fmt: skip


def parse_ids(text: str) -> tuple[IdForms, ...]:
    """`FORM`, or `FORM/FORM` if receipts have another, of `decimal`, `hex` and `HEX`, each with `:WIDTH`; `mixed`.

    Several are taken in turn. Raises ConfigError.
    """
    if text == "mixed":
        return _MIXED
    response, slash, receipt = text.partition("/")
    return ((_id_form(text, response), _id_form(text, receipt if slash else response)),)


def _id_form(text: str, written: str) -> IdForm:
    match = _ID_FORM.fullmatch(written)
    if match is None or int(match[2] or 0) > 64:  # octets of a message_id
        raise ConfigError([f'ids "{text}": "{written}" is not decimal, hex or HEX, or one of them as "HEX:16"'])
    return IdForm(_BASES[match[1]], int(match[2] or 0))


def parse_split(text: str) -> tuple[int, ...]:
    """Lengths of pieces, taken in turn: `1` or `1,3,7`. Raises ConfigError."""
    if not re.fullmatch(r"[1-9][0-9]{0,5}(,[1-9][0-9]{0,5})*", text):
        raise ConfigError([f'"{text}" are not lengths of pieces, such as "1" or "1,3,7"'])
    return tuple(map(int, text.split(",")))
