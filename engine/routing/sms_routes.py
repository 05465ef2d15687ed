"""Which carriers may have a message, and in what order they are tried.

A carrier may have a number if one of its prefixes, countries or networks is the number's, or if it names none, and if
it takes the sender and the class. Those that speak of the number most closely come first (the longest prefix, then the
network, then the country, then all numbers), among these the cheaper ones, then the order of the file. Those that
cannot be sent to just now come last.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal

from engine.base.settings import Carrier, Settings
from engine.message.envelope import MessageClass
from engine.message.number import country_of, network_of

#: How closely a carrier speaks of a number, beside the length of a prefix.
_NETWORK, _COUNTRY, _ALL = 0.75, 0.5, 0.0


class SmsRoutes:
    """See above. healthy: whether a carrier, by name, can be sent to now."""

    def __init__(self, settings: Settings, healthy: Callable[[str], bool]) -> None:
        self._healthy = healthy
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        self._rows = [(order, row, Decimal(row.price)) for order, row in enumerate(settings.carrier)]

    def carriers(self, number: str, sender: str, message_class: int) -> Sequence[str]:
        """Their names, the first to try first; none: nobody may have it."""
        name = MessageClass(message_class).name.lower()
        found = []
        for order, row, price in self._rows:
            if (row.senders and sender not in row.senders) or name not in row.classes:
                continue
            closeness = _closeness(row, number)
            if closeness is not None:
                found.append((not self._healthy(row.name), -closeness, price, order, row.name))
        return [row[-1] for row in sorted(found)]

    def price(self, name: str) -> Decimal:
        """Of a part."""
        return next((price for _, row, price in self._rows if row.name == name), Decimal(0))


def _closeness(row: Carrier, number: str) -> float | None:
    """None: the carrier does not take it."""
    if not (row.prefixes or row.countries or row.networks):
        return _ALL
    digits = number.removeprefix("+")
    longest = max((len(prefix) for prefix in row.prefixes if digits.startswith(prefix)), default=0)
    if longest:
        return float(longest)
    if row.networks and network_of(number) in row.networks:
        return _NETWORK
    if row.countries and country_of(number) in row.countries:
        return _COUNTRY
    return None
