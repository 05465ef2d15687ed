"""Which part of which message a receipt is about, if several could be meant, or one that may not be.

What counts, in this order: the number that the receipt names; how the carrier's receipts have written ids lately; that
the part still waits for its receipt; that it is the newest, because carriers begin again with their ids.

An id in another base may be the id of another message, whose response is still on its way. If this carrier always does
that and the number agrees, such a match is believed. If it does so now and then, or did not do it before, only when no
response about that number is on its way (`underway`), or when the receipt has waited for a better one (`sure`).
"""

from collections.abc import Sequence, Set
from typing import Final

from engine.delivery.underway import Underway
from engine.feedback.outstanding import Taken
from engine.protocol.receipt_ids import Form, Habit, form_of
from engine.protocol.smpp_pdu import DataSm, DeliverSm

#: So many last digits are compared: carriers write numbers with "+", "00", a trunk zero, or without the country.
_DIGITS: Final = 8
_EXACT: Final = Form.EXACT


class Candidate:
    """A part that may be meant. agrees: its number is one that the receipt names; None: it names none."""

    __slots__ = ("agrees", "form", "number", "taken")

    def __init__(self, taken: Taken, number: int, form: Form, agrees: bool | None) -> None:
        self.taken = taken
        self.number = number
        self.form = form
        self.agrees = agrees


def numbers_of(pdu: DeliverSm | DataSm) -> Set[str]:
    """The ends of the numbers that a receipt names; some carriers do not swap source and destination."""
    source, destination = bytes(pdu.source_addr).decode("latin-1"), bytes(pdu.destination_addr).decode("latin-1")
    ends = {ending(source), ending(destination)}
    ends.discard("")
    return ends


def candidates(takens: Sequence[Taken], id: str, numbers: Set[str]) -> list[Candidate]:
    """The parts of these messages that the id may mean."""
    found = []
    for taken in takens:
        for part in taken.parts:
            form = form_of(part.carrier_id, id) if part.carrier_id else None
            if form is not None:
                agrees = ending(part.recipient) in numbers if numbers else None
                found.append(Candidate(taken, part.part, form, agrees))
    return found


def choose(
    found: Sequence[Candidate], habit: Habit, underway: Underway, sure: bool, alone: bool = False
) -> Candidate | None:
    """The one to believe, None: none yet. Teaches the habit.

    sure: nothing better will come. alone: nothing of what was sent before can be meant but these.
    """
    if len(found) == 1 and found[0].agrees and found[0].form is _EXACT:  # mostly
        habit.choose((_EXACT,))
        return found[0]
    if not sure:
        only = alone and len(found) == 1
        found = [one for one in found if _is_credible(one, habit) or (only and _is_certain(one, underway))]
        if not habit.steady:
            found = [one for one in found if not one.form.changes_base or _is_certain(one, underway)]
    found = [candidate for candidate in found if candidate.agrees] or found
    if not found:
        return None
    form = habit.choose([candidate.form for candidate in found])
    if len(found) == 1:
        return found[0]
    found = [candidate for candidate in found if candidate.form is form]
    waiting = [candidate for candidate in found if not _is_heard(candidate)]
    return (waiting or found)[-1]


def _is_credible(candidate: Candidate, habit: Habit) -> bool:
    if candidate.form.changes_base:
        return candidate.agrees is not False and habit.expects(candidate.form)
    return candidate.agrees is not False or not habit.changes_base


def _is_certain(candidate: Candidate, underway: Underway) -> bool:
    """It is about this number, and every id that the carrier gave for the number is known."""
    part = candidate.taken.parts[candidate.number - 1]
    return bool(candidate.agrees) and not _is_heard(candidate) and not underway.any(part.carrier, part.recipient)


def _is_heard(candidate: Candidate) -> bool:
    state = candidate.taken.whole.state(candidate.number)
    return state is not None and state.final


def ending(address: str) -> str:
    """What is compared of a number."""
    digits = address.removeprefix("+")
    if not digits.isdecimal():
        digits = "".join(filter(str.isdecimal, address))
    return digits[-_DIGITS:]
