"""What a carrier has of a message in parts when it did not take all of them: the next attempt sends it the others only.

It stands in the delivery's last reply, which the spool keeps and operators read. Of a delivery to several numbers the
spool keeps one reply, so that those are sent as a whole again.
"""

import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote, unquote

from engine.message.outcome import Outcome, Status

_HAS = re.compile(r"; (\S+) has (part \d+ as [^\s,;]+(?:, part \d+ as [^\s,;]+)*)")
_PART = re.compile(r"part (\d+) as ([^\s,;]+)")
#: In place of an id, where the carrier gave none; `quote` makes nothing like it.
_NO_ID = "(none)"


def told(carrier: str, answers: Sequence[Outcome | None], ids: Sequence[str]) -> str:
    """What the reply says of it; "" if the carrier has nothing of it."""
    taken = [
        f"part {number} as {quote(ids[number - 1], safe='') or _NO_ID}"
        for number, answer in enumerate(answers, 1)
        if answer is not None and answer.status is Status.DELIVERED
    ]
    return f"; {carrier} has {', '.join(taken)}" if taken else ""


def known(last: str, carrier: str) -> Mapping[int, str]:
    """The ids of the parts that this carrier has, by number from 1, as the last reply tells."""
    tail = _HAS.search(last)
    if tail is None or tail[1] != carrier:
        return {}
    return {
        int(number): "" if carrier_id == _NO_ID else unquote(carrier_id)
        for number, carrier_id in _PART.findall(tail[2])
    }
