"""Which carriers may have a message, and in which order."""

import itertools
import random
from collections.abc import Callable
from decimal import Decimal

import pytest

from engine.base.errors import ConfigError
from engine.base.settings import Carrier, Settings, Sms
from engine.message.envelope import MessageClass
from engine.protocol.sms_rules import Join
from engine.protocol.sms_shifts import Language
from engine.routing.sms_routes import SmsRoutes, route_problems, route_warnings

UK, FRANCE, US = "+447700900123", "+33612345678", "+12025550123"
BULK, TRANSACTIONAL = MessageClass.BULK, MessageClass.TRANSACTIONAL


def carrier(name: str, price: str = "0", **more: object) -> Carrier:
    return Carrier(name=name, host="a", system_id="us", price=price, **more)  # type: ignore[arg-type]


def routes(*rows: Carrier, country: str = "", healthy: Callable[[str], bool] = lambda name: True) -> SmsRoutes:
    return SmsRoutes(Settings(carrier=rows, sms=Sms(country=country)), healthy)


def test_no_carrier() -> None:
    assert routes().carriers(UK, "Shop", BULK) == ()


def test_what_says_more_about_the_number_is_first() -> None:
    rows = (
        carrier("world"),
        carrier("country", countries=("GB",)),
        carrier("network", networks=("GB:vodafone",)),
        carrier("short", prefixes=("44",)),
        carrier("long", prefixes=("33", "4477")),
    )
    number = "+447775123456"
    wanted = ("long", "short", "network", "country", "world")
    for order in itertools.permutations(rows):
        assert routes(*order).carriers(number, "Shop", BULK) == wanted
    assert routes(*rows).carriers(FRANCE, "Shop", BULK) == ("long", "world")
    assert [choice.fits for choice in routes(*rows).explain(number, "Shop", BULK)] == [
        "prefix 4477",
        "prefix 44",
        "network GB:Vodafone",
        "country GB",
        "every number",
    ]


def test_price_goes_before_the_file_and_the_file_decides_the_rest() -> None:
    found = routes(carrier("a", "0.10"), carrier("b", "0.09"), carrier("c", "0.1"), carrier("d", "0.090"))
    assert found.carriers(UK, "Shop", BULK) == ("b", "d", "a", "c")
    dear = routes(carrier("cheap", "0.01"), carrier("dear", "9", prefixes=("44",)))
    assert dear.carriers(UK, "Shop", BULK) == ("dear", "cheap")


def test_one_of_several_ways_is_enough_and_the_best_counts() -> None:
    found = routes(carrier("a", prefixes=("447",), countries=("FR",)), carrier("b", countries=("GB", "FR")))
    assert found.carriers(UK, "", BULK) == ("a", "b")
    assert found.carriers(FRANCE, "", BULK) == ("a", "b")
    assert found.carriers(US, "", BULK) == ()


def test_senders() -> None:
    found = routes(carrier("a", senders=("Shop", "447700900000")), carrier("b"))
    assert found.carriers(UK, "sHOP", BULK) == ("a", "b")
    assert found.carriers(UK, "+447700900000", BULK) == ("a", "b")
    assert found.carriers(UK, "Bank", BULK) == ("b",)
    assert found.carriers(UK, "", BULK) == ("b",)


def test_classes() -> None:
    found = routes(carrier("a", classes=("transactional",)), carrier("b", classes=("bulk",)))
    assert found.carriers(UK, "", TRANSACTIONAL) == ("a",)
    assert found.carriers(UK, "", BULK) == ("b",)


def test_who_cannot_be_sent_to_is_last_in_the_same_order() -> None:
    down: set[str] = set()
    rows = carrier("a", prefixes=("44",)), carrier("b", "1"), carrier("c", "2")
    found = routes(*rows, healthy=lambda name: name not in down)
    assert found.carriers(UK, "", BULK) == ("a", "b", "c")
    down.add("a")
    assert found.carriers(UK, "", BULK) == ("b", "c", "a")
    down.add("b")
    assert found.carriers(UK, "", BULK) == ("c", "a", "b")
    down.add("c")
    assert found.carriers(UK, "", BULK) == ("a", "b", "c")


def test_a_short_code_has_no_prefix_and_the_country_of_the_settings() -> None:
    rows = carrier("a", prefixes=("60",)), carrier("b", countries=("GB",)), carrier("c")
    assert routes(*rows).carriers("60999", "", BULK) == ("c",)
    found = routes(*rows, country="GB")
    assert found.carriers("60999", "", BULK) == ("b", "c")
    assert [choice.fits for choice in found.explain("60999", "", BULK)] == ["country GB", "every number"]


def test_countries_of_one_code() -> None:
    found = routes(carrier("us", countries=("US",)), carrier("ca", countries=("CA",)), carrier("jm", countries=("JM",)))
    assert found.carriers(US, "", BULK) == ("us",)
    assert found.carriers("+14165550123", "", BULK) == ("ca",)
    assert found.carriers("+18765550123", "", BULK) == ("jm",)


def test_the_quick_way_is_the_rule() -> None:
    """Against the rule of the docstring, said in the slowest way."""
    rng = random.Random(7)
    numbers = [UK, FRANCE, US, "+447912345678", "+79161234567", "60999"]
    for _ in range(300):
        rows = [
            carrier(
                f"c{place}", str(rng.choice((0, 1, 2))),
                prefixes=tuple(rng.sample(("44", "447", "4477", "3", "1", "7916"), rng.choice((0, 0, 1, 2)))),
                countries=tuple(rng.sample(("GB", "FR", "US", "RU"), rng.choice((0, 0, 1)))),
                senders=rng.choice(((), ("Shop",))),
                classes=rng.choice((("bulk",), ("bulk", "transactional"))),
            )
            for place in range(5)
        ]  # fmt: skip
        down = set(rng.sample([row.name for row in rows], rng.choice((0, 1))))
        found = routes(*rows, healthy=lambda name, down=down: name not in down)
        for number in numbers:
            assert found.carriers(number, "Shop", BULK) == slowly(rows, number, down)


def slowly(rows: list[Carrier], number: str, down: set[str]) -> tuple[str, ...]:
    country = {"+44": "GB", "+33": "FR", "+12": "US", "+79": "RU"}.get(number[:3], "")
    may = []
    for place, row in enumerate(rows):
        prefix = max((len(one) for one in row.prefixes if number.startswith(f"+{one}")), default=0)
        everything = not row.prefixes and not row.countries
        if prefix or country in row.countries or everything:
            level = prefix + 10 if prefix else 0 if everything else 1
            may.append((row.name in down, -level, Decimal(row.price), place, row.name))
    return tuple(one[-1] for one in sorted(may))


def test_rules_price_and_row() -> None:
    row = carrier("a", "0.030", alphabet="latin-1", join="udh-16", languages=("tr",), max_parts=3)
    found = routes(row)
    assert found.price("a") == Decimal("0.03")
    assert found.carrier("a") is row
    rules = found.rules("a")
    assert (rules.join, rules.languages, rules.max_parts) == (Join.UDH_16, (Language.TURKISH,), 3)
    for ask in (found.price, found.carrier, found.rules):
        with pytest.raises(KeyError):
            ask("b")


def test_a_country_that_is_none() -> None:
    rows = carrier("a", countries=("UK", "GB")), carrier("b", networks=("XX:O2",))
    settings = Settings(carrier=rows, sms=Sms(country="EN"))
    wanted = [
        '[[carrier]] 1 countries: "UK": no country has numbers by that code',
        '[[carrier]] 2 networks: "XX": no country has numbers by that code',
        '[sms] country: "EN": no country has numbers by that code',
    ]
    assert route_problems(settings) == wanted
    with pytest.raises(ConfigError) as caught:
        SmsRoutes(settings)
    assert caught.value.problems == wanted


def test_a_network_nobody_knows() -> None:
    settings = Settings(carrier=(carrier("a", networks=("GB:Vodafone", "GB:vodafon", "FR:Vodafone")),))
    assert route_warnings(settings) == [
        '[[carrier]] 1 networks: "FR:Vodafone", "GB:vodafon": no range of numbers was given to a network of that name'
    ]
