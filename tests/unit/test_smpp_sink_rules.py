"""How the test SMSC is told to misbehave: what is a rule, what is nonsense, and that nonsense says so."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.base.errors import ConfigError
from engine.protocol.receipt_states import State
from engine.tools.smpp_sink_rules import (
    Prefixes,
    Share,
    parse_answer_rule,
    parse_ids,
    parse_receipts,
    parse_share,
    parse_silent_rule,
    parse_split,
    parse_state_rule,
    parse_status_rule,
)


def test_the_first_rule_that_fits_wins() -> None:
    rules = Prefixes(
        [parse_state_rule("4488=UNDELIV x1"), parse_state_rule("44=EXPIRED"), parse_state_rule("*=deleted")]
    )
    numbers = (b"44881", b"44881", b"44882", b"33")
    assert [rules.find(number) for number in numbers] == [
        State.UNDELIVERABLE, State.EXPIRED, State.UNDELIVERABLE, State.DELETED,
    ]  # fmt: skip
    assert Prefixes[bool]().find(b"44") is None


@pytest.mark.parametrize(("written", "status"), [("ESME_RTHROTTLED", 0x58), ("0x0B", 11), ("11", 11), ("0x400", 1024)])
def test_a_status_has_a_name_or_a_number(written: str, status: int) -> None:
    rule = parse_status_rule(f"+44={written} x3")
    assert (rule.prefix, rule.value, rule.times) == (b"+44", status, 3)


def test_an_answer_may_hold_anything() -> None:
    assert parse_answer_rule("4477=a=b x2").value == "a=b"


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_status_rule, "44"), (parse_status_rule, "44=ESME_ROK"), (parse_status_rule, "44=0"),
        (parse_status_rule, "44=NOSUCH"), (parse_status_rule, "rcpt:*=550 no"), (parse_status_rule, "=ESME_RSYSERR"),
        (parse_state_rule, "44=GONE"), (parse_state_rule, "UNDELIV"), (parse_silent_rule, "44=1"),
        (parse_silent_rule, ""), (parse_answer_rule, "4477="), (parse_answer_rule, "4477=" + "x" * 50_000),
        (parse_share, "0"), (parse_share, "1.1"), (parse_share, "101%"), (parse_share, "-1"), (parse_share, "some"),
        (parse_ids, "octal"), (parse_ids, "hex:65"), (parse_ids, "hex/"), (parse_ids, "hex/hex/hex"),
        (parse_split, "0"), (parse_split, "1,0"), (parse_split, "1,"), (parse_split, "odd"),
    ],
)  # fmt: skip
def test_nonsense_is_named(parse: Callable[[str], Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert text[:15] in str(caught.value)


@pytest.mark.parametrize(
    "texts", [["soon"], ["early", "early"], ["none", "early"], ["none", "lost=1%"], ["early", "delay=1s"], ["delay=1"],
              ["lost=2"], ["early=1"]],
)  # fmt: skip
def test_receipts_of_two_minds_are_refused(texts: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"receipts|share"):
        parse_receipts(texts)


def test_habits_combine() -> None:
    habits = parse_receipts(["delay=500ms", "lost=10%", "spread"])
    assert (habits.delay_s, habits.lost, habits.spread, habits.early, habits.none) == (0.5, 0.1, True, False, False)


@pytest.mark.parametrize(("share", "of"), [(0.1, 10), (0.25, 4), (1.0, 1), (1 / 3, 3)])
def test_a_share_is_even(share: float, of: int) -> None:
    taken = Share(share)

    def gaps() -> Iterator[int]:
        gap = 0
        for _ in range(of * 100):
            gap += 1
            if taken.take():
                yield gap
                gap = 0

    assert list(gaps()) == [of] * 100
    assert not Share(0).take()


def test_lengths_of_pieces() -> None:
    assert parse_split("1,3,7") == (1, 3, 7)
