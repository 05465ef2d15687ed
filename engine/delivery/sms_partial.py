"""What a carrier has of a message in parts when it did not take all of them: the next attempt sends it the others only.

It stands in the delivery's last reply, which the spool keeps and operators read: of one number

    ESME_RSYSERR System Error; acme has part 1 as 7a01, part 3 as 7a03

and of several, by their place among the recipients of the message,

    ESME_RSYSERR System Error; acme has of recipient 0 part 1 as 7a01, of recipient 2 part 1 as 7a05, part 3 as 7a06
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote, unquote

from engine.message.outcome import Outcome, Status

_HAS: Final = re.compile(r"; (\S+) has ((?:(?:, )?(?:of recipient \d+ )?part \d+ as [^\s,;]+)+)")
_PART: Final = re.compile(r"(?:of recipient (\d+) )?part (\d+) as ([^\s,;]+)")
#: In place of an id, where the carrier gave none; `quote` makes nothing like it.
_NO_ID: Final = "(none)"

#: Of each part, what the carrier said of it, and its id.
Said = tuple[Sequence[Outcome | None], Sequence[str]]


def told(carrier: str, said: Said) -> str:
    """What the reply says of one number; "" if the carrier has nothing of it."""
    return _sentence(carrier, _parts(said))


def told_of_several(carrier: str, said: Mapping[int, Said]) -> str:
    """The same of several, by their index."""
    found = ((index, _parts(own)) for index, own in said.items())
    return _sentence(carrier, ", ".join(f"of recipient {index} {parts}" for index, parts in found if parts))


def known(last: str, carrier: str, index: int) -> Mapping[int, str]:
    """The ids of the parts that this carrier has of a recipient, by number from 1, as the last reply tells."""
    tail = _HAS.search(last)
    if tail is None or tail[1] != carrier:
        return {}
    found, whose = {}, index
    for of, number, carrier_id in _PART.findall(tail[2]):
        whose = int(of) if of else whose
        if whose == index:
            found[int(number)] = "" if carrier_id == _NO_ID else unquote(carrier_id)
    return found


def _parts(said: Said) -> str:
    answers, ids = said
    return ", ".join(
        f"part {number} as {quote(carrier_id, safe='') or _NO_ID}"
        for number, (answer, carrier_id) in enumerate(zip(answers, ids, strict=True), 1)
        if answer is not None and answer.status is Status.DELIVERED
    )


def _sentence(carrier: str, parts: str) -> str:
    return f"; {carrier} has {parts}" if parts else ""
