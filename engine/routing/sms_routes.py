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
    """See above. healthy: whether a carrier, by name, can be sent to now."""

    def __init__(self, settings: Settings, healthy: Callable[[str], bool] = lambda name: True) -> None:
        """Raises ConfigError: a country that is none, rules of text that cannot be."""
        self._healthy = healthy
        self._table = _Table(settings)

    def reload(self, settings: Settings) -> None:
        """By these settings from now on. Raises ConfigError, and nothing has changed."""
        self._table = _Table(settings)

    def carriers(self, number: str, sender: str, message_class: int) -> tuple[str, ...]:
        """Names of those that may have it, the first to try first; none: nobody may.

        number: as message/number.py writes it, "+447700900123" or a short code.
        """
        known = sender and _folded(sender)
        names: dict[str, None] = {}
        for rows in self._table.groups(number):
            for row in rows:
                if message_class in row.classes and (not row.senders or known in row.senders):
                    names[row.name] = None
        if len(names) < 2:
            return tuple(names)
        healthy = self._healthy
        down = [name for name in names if not healthy(name)]
        for name in down:
            del names[name]
        return (*names, *down)

    def explain(self, number: str, sender: str, message_class: int) -> list[Choice]:
        """`carriers`, each with why it may."""
        return [
            Choice(self.carrier(name), self._table.fits(self.carrier(name), number), self._healthy(name))
            for name in self.carriers(number, sender, message_class)
        ]

    def carrier(self, name: str) -> Carrier:
        """Raises KeyError: there is none of that name."""
        return self._table.by_name[name]

    def rules(self, name: str) -> TextRules:
        """What a carrier takes of a text. Raises KeyError."""
        return self._table.rules[name]

    def price(self, name: str) -> Decimal:
        """Of a part. Raises KeyError."""
        return self._table.prices[name]


class _Table:
    """The carriers of some settings, so that those of a number are found without looking at all. Immutable."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError."""
        problems = route_problems(settings)
        if problems:
            raise ConfigError(problems)
        self.by_name = {row.name: row for row in settings.carrier}
        self.rules = {row.name: text_rules(row) for row in settings.carrier}
        self.prices = {row.name: Decimal(row.price) for row in settings.carrier}
        self._home = settings.sms.country
        by_price = sorted(settings.carrier, key=lambda row: self.prices[row.name])  # stable: the file's order stays
        rows = [_Row(row) for row in by_price]
        self._of_prefix = _by_key(rows, "prefixes")
        self._lengths = sorted({len(prefix) for prefix in self._of_prefix}, reverse=True)
        self._of_network = _by_key(rows, "networks")
        self._of_country = _by_key(rows, "countries")
        self._others = [row for row in rows if row.every]

    def groups(self, number: str) -> list[list[_Row]]:
        """The rows whose numbers this is one of, in groups that say ever less about it; a row may be in several."""
        groups: list[list[_Row]] = []
        international = number.startswith("+")
        if international:
            for length in self._lengths:
                found = self._of_prefix.get(number[1 : length + 1])
                if found is not None:
                    groups.append(found)
            if self._of_network:
                found = self._of_network.get(network_of(number).lower())
                if found is not None:
                    groups.append(found)
        if self._of_country:
            found = self._of_country.get(country_of(number) if international else self._home)
            if found is not None:
                groups.append(found)
        groups.append(self._others)
        return groups

    def fits(self, row: Carrier, number: str) -> str:
        """Which of a row's words takes a number that it may have."""
        digits = number[1:] if number.startswith("+") else ""
        prefix = max((one for one in row.prefixes if digits.startswith(one)), key=len, default="")
        network = network_of(number)
        if prefix:
            return f"prefix {prefix}"
        if network and network.lower() in map(str.lower, row.networks):
            return f"network {network}"
        country = country_of(number) if digits else self._home
        return f"country {country}" if country in row.countries else "every number"


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
