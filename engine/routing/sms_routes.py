"""Which carriers may have a message, and in which order: by number, sender, class, price and health.

A carrier *may have* a message if
    its number fits  one of `prefixes`, `countries`, `networks`; none of them given: every number
    its sender fits  one of `senders`; none given: every sender; "+" does not count, nor case
    its class is     one of `classes`
Of those that may, in this order:
    1  the one that can be sent to now before one that cannot
    2  the one that says most about the number: the longest prefix, then a network, then a country, then every number
    3  the cheaper
    4  the one that stands above in the file
So a route for one prefix wins over a cheap one for the world, and the rest are who is asked next when it fails.

Prefixes are of the international form, without "+". A short code ("60999") has none; its country is [sms] country.
Networks are those that ranges were given to (message/number.py): a number that was taken along stays in the old one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from engine.base.errors import ConfigError
from engine.base.settings import Carrier, Settings
from engine.message.envelope import MessageClass
from engine.message.number import country_of, network_of, unknown_countries, unknown_networks
from engine.protocol.sms_data_coding import Charset
from engine.protocol.sms_rules import Join, TextRules
from engine.protocol.sms_shifts import LANGUAGES


@dataclass(frozen=True, slots=True)
class Choice:
    """A carrier that may have a message, and why. fits: "prefix 44", "network GB:O2", "country GB", "every number"."""

    carrier: Carrier
    fits: str
    healthy: bool


class _Row:
    """A carrier, ready to be compared."""

    __slots__ = ("classes", "countries", "every", "name", "networks", "prefixes", "senders")

    def __init__(self, row: Carrier) -> None:
        self.name = row.name
        self.prefixes = frozenset(row.prefixes)
        self.countries = frozenset(row.countries)
        self.networks = frozenset(map(str.lower, row.networks))
        self.every = not (row.prefixes or row.countries or row.networks)
        self.senders = frozenset(map(_folded, row.senders))
        self.classes = frozenset(int(MessageClass[name.upper()]) for name in row.classes)


class SmsRoutes:
    """See above. Immutable; a reload makes another. healthy: whether a carrier, by name, can be sent to now."""

    def __init__(self, settings: Settings, healthy: Callable[[str], bool] = lambda name: True) -> None:
        """Raises ConfigError: a country that is none, rules of text that cannot be."""
        problems = route_problems(settings)
        if problems:
            raise ConfigError(problems)
        self._healthy = healthy
        self._home = settings.sms.country
        by_price = sorted(settings.carrier, key=lambda row: Decimal(row.price))  # stable: the file's order stays
        self._rows = [_Row(row) for row in by_price]
        self._by_name = {row.name: row for row in settings.carrier}
        self._rules = {row.name: text_rules(row) for row in settings.carrier}
        self._prices = {row.name: Decimal(row.price) for row in settings.carrier}
        self._by_country = any(row.countries for row in self._rows)
        self._by_network = any(row.networks for row in self._rows)
        #: Rows by prefix, and the lengths that there are, the longest first.
        self._prefixes: dict[str, list[_Row]] = {}
        for row in self._rows:
            for prefix in row.prefixes:
                self._prefixes.setdefault(prefix, []).append(row)
        self._lengths = sorted({len(prefix) for prefix in self._prefixes}, reverse=True)
        self._every = [row for row in self._rows if row.every]
        self._of_country = _by_key(self._rows, "countries")
        self._of_network = _by_key(self._rows, "networks")

    def carriers(self, number: str, sender: str, message_class: int) -> tuple[str, ...]:
        """Names of those that may have it, the first to try first; none: nobody may.

        number: as message/number.py writes it, "+447700900123" or a short code.
        """
        if not self._rows:
            return ()
        known = sender and _folded(sender)
        names: dict[str, None] = {}
        for rows in self._groups(number):
            for row in rows:
                if message_class in row.classes and (not row.senders or known in row.senders):
                    names[row.name] = None
        if len(names) < 2:
            return tuple(names)
        healthy = self._healthy
        down = [name for name in names if not healthy(name)]
        if down:
            for name in down:
                del names[name]
            return (*names, *down)
        return tuple(names)

    def explain(self, number: str, sender: str, message_class: int) -> list[Choice]:
        """`carriers`, each with why it may."""
        digits = number[1:] if number.startswith("+") else ""
        country = country_of(number) or ("" if digits else self._home)
        network = network_of(number)
        choices = []
        for name in self.carriers(number, sender, message_class):
            row = self._by_name[name]
            prefix = max((one for one in row.prefixes if digits.startswith(one)), key=len, default="")
            if prefix:
                fits = f"prefix {prefix}"
            elif network and f"{country}:{network}".lower() in map(str.lower, row.networks):
                fits = f"network {country}:{network}"
            else:
                fits = f"country {country}" if country in row.countries else "every number"
            choices.append(Choice(row, fits, self._healthy(name)))
        return choices

    def carrier(self, name: str) -> Carrier:
        """Raises KeyError: there is none of that name."""
        return self._by_name[name]

    def rules(self, name: str) -> TextRules:
        """What a carrier takes of a text. Raises KeyError."""
        return self._rules[name]

    def price(self, name: str) -> Decimal:
        """Of a part. Raises KeyError."""
        return self._prices[name]

    def _groups(self, number: str) -> list[list[_Row]]:
        """The rows whose numbers this is one of, in groups that say ever less about it; a row may be in several."""
        groups: list[list[_Row]] = []
        international = number.startswith("+")
        if international:
            for length in self._lengths:
                found = self._prefixes.get(number[1 : length + 1])
                if found is not None:
                    groups.append(found)
        if self._by_country or self._by_network:
            country = country_of(number) if international else self._home
            if self._by_network and international:
                found = self._of_network.get(f"{country}:{network_of(number)}".lower())
                if found is not None:
                    groups.append(found)
            found = self._of_country.get(country)
            if found is not None:
                groups.append(found)
        groups.append(self._every)
        return groups


def text_rules(row: Carrier) -> TextRules:
    """What a carrier takes of a text. Raises ConfigError."""
    return TextRules(
        default_alphabet=Charset(row.alphabet),
        join=Join(row.join),
        spare_octets=row.spare_octets,
        languages=tuple(LANGUAGES[name] for name in row.languages),
        latin1=row.latin1,
        max_parts=row.max_parts,
    )


def route_problems(settings: Settings) -> list[str]:
    """Countries that are none, for `postrider check`: "UK" would never fit a number."""
    problems = []
    for number, row in enumerate(settings.carrier, 1):
        for field, codes in (
            ("countries", row.countries),
            ("networks", [one.partition(":")[0] for one in row.networks]),
        ):
            if unknown := unknown_countries(codes):
                problems.append(
                    f"[[carrier]] {number} {field}: {_quoted(unknown)}: no country has numbers by that code"
                )
    if settings.sms.country and (unknown := unknown_countries([settings.sms.country])):
        problems.append(f"[sms] country: {_quoted(unknown)}: no country has numbers by that code")
    return problems


def route_warnings(settings: Settings) -> list[str]:
    """Networks that nobody has heard of: the names are those of phonenumbers, and a typing error is likely."""
    return [
        f"[[carrier]] {number} networks: {_quoted(unknown)}: no range of numbers was given to a network of that name"
        for number, row in enumerate(settings.carrier, 1)
        if (unknown := unknown_networks(row.networks))
    ]


def _by_key(rows: list[_Row], field: str) -> dict[str, list[_Row]]:
    found: dict[str, list[_Row]] = {}
    for row in rows:
        for key in getattr(row, field):
            found.setdefault(key, []).append(row)
    return found


def _quoted(texts: list[str]) -> str:
    return ", ".join(f'"{text}"' for text in texts)


def _folded(sender: str) -> str:
    return sender.removeprefix("+").casefold()
