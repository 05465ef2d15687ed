"""Who clicked: every sign of a machine, what comes too late to be a first verdict, and bounded memory."""

import pytest

from engine.storage.ledger.sent import Sent
from engine.tracking import group as grouping
from engine.tracking import judge as judging
from engine.tracking.hit import Hit
from engine.tracking.judge import EARLY_S, KEEP_S, MANY, SETTLE_S, Judge

NOW = 1_000_000.0


class Bench:
    """A judge, and the times of deliveries that it is told."""

    def __init__(self) -> None:
        self.delivered: dict[tuple[str, int], float] = {}
        self.judge = Judge(
            lambda client, agent: "curl" if agent == "curl" else "",
            lambda message, index: self.delivered.get((message, index), 1.0),
        )
        self._frame = 0

    def hit(
        self, link: int = 3, at: float = NOW, message: str = "a", client: str = "192.0.2.1", *, index: int = 0,
        links: int = 5, level: str = "full", agent: str = "Firefox", kind: str = "clicked", head: bool = False,
        prefetch: bool = False, named: bool = True, sent_at: float = 1.0, target: int = 0,
    ) -> Hit:  # fmt: skip
        recipients = tuple(f"user{number}@one.test" for number in range(index + 1)) if level == "full" else ()
        sent = Sent(id=message, at=sent_at, recipients=recipients, level=level)
        made = Hit(
            at=at, type="clicked" if kind == "clicked" else "opened", sent=sent, index=index, link=link,
            target=target or link, targets=links,
            url="https://shop.example/", client=client, agent=agent, head=head, prefetch=prefetch,
        )  # fmt: skip
        self.judge.judge(made)
        if named:
            self.name(made)
        return made

    def name(self, hit: Hit) -> None:
        """As when its event is written."""
        self._frame += 1
        hit.event()
        hit.name = f"{self._frame}.0"

    def corrected(self, at: float) -> list[tuple[str, str]]:
        """What becomes of hits by this time: (id, verdict)."""
        self.judge.tick(at)
        found = []
        for hit in self.judge.corrections():
            event = hit.correction(at)
            found.append((event.hit, event.verdict))
        return found


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_hit_without_a_sign_is_unsure_and_then_human(bench: Bench) -> None:
    hit = bench.hit()
    assert (hit.verdict, hit.reasons) == ("unsure", frozenset())
    assert bench.corrected(NOW + SETTLE_S - 1) == []
    assert bench.corrected(NOW + SETTLE_S) == [(hit.name, "human")]
    assert bench.corrected(NOW + KEEP_S) == []
    assert len(bench.judge) == 0


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"head": True}, "head"),
        ({"prefetch": True}, "prefetch"),
        ({"agent": "curl"}, "known:curl"),
        ({"link": 2}, "honeypot"),
    ],
)
def test_a_sure_sign_is_a_machine_at_once_and_stays_one(bench: Bench, fields: dict[str, object], reason: str) -> None:
    hit = bench.hit(**fields)  # type: ignore[arg-type]
    assert (hit.verdict, hit.reasons) == ("machine", {reason})
    assert bench.corrected(NOW + SETTLE_S) == bench.corrected(NOW + KEEP_S) == []


@pytest.mark.parametrize(("after_s", "verdict"), [(-5.0, "machine"), (EARLY_S - 0.1, "machine"), (EARLY_S, "human")])
def test_before_the_250_and_a_second_nobody_has_read_it(bench: Bench, after_s: float, verdict: str) -> None:
    bench.delivered["a", 0] = NOW - after_s
    hit = bench.hit()
    bench.corrected(NOW + SETTLE_S)
    assert hit.verdict == verdict


def test_a_250_that_is_known_later_corrects(bench: Bench) -> None:
    """A scanner fetches during DATA: when it does, nobody knows when the 250 will come."""
    bench.delivered["a", 0] = None  # type: ignore[assignment]
    hit = bench.hit(sent_at=NOW - 1)
    assert hit.verdict == "unsure"
    bench.delivered["a", 0] = NOW + 2
    assert bench.corrected(NOW + SETTLE_S) == [(hit.name, "machine")]
    assert hit.reasons == {"early"}


@pytest.mark.parametrize(("delivered_at", "verdict"), [(NOW + 20, "machine"), (NOW - 20, "human"), (None, "unsure")])
def test_without_a_250_it_stays_unsure_until_the_last_look(
    bench: Bench, delivered_at: float | None, verdict: str
) -> None:
    bench.delivered["a", 0] = None  # type: ignore[assignment]
    hit = bench.hit(sent_at=NOW - 30)
    assert bench.corrected(NOW + SETTLE_S) == []
    assert (hit.verdict, hit.reasons) == ("unsure", {"undelivered"})
    bench.delivered["a", 0] = delivered_at  # type: ignore[assignment]
    bench.corrected(NOW + KEEP_S)
    assert hit.verdict == verdict


def test_a_note_of_a_250_that_is_lost_is_no_sign(bench: Bench) -> None:
    bench.delivered["a", 0] = None  # type: ignore[assignment]
    hit = bench.hit(sent_at=NOW - 7200)
    assert bench.corrected(NOW + SETTLE_S) == [(hit.name, "human")]


def test_most_links_within_five_seconds_are_a_machine_the_first_ones_too(bench: Bench) -> None:
    first, second = bench.hit(3, NOW), bench.hit(4, NOW + 1)
    assert (first.verdict, second.verdict) == ("unsure", "unsure")
    third = bench.hit(5, NOW + 2)
    assert third.verdict == "machine"
    assert third.reasons == {"burst"}
    assert bench.corrected(NOW + 3) == [(first.name, "machine"), (second.name, "machine")]


@pytest.mark.parametrize("links", [128, 129, 300, 1000])
def test_all_of_many_links_are_a_machine_those_too_that_are_forgotten(bench: Bench, links: int) -> None:
    hits = [bench.hit(3 + number, NOW + number / 1500, links=links) for number in range(links)]
    bench.corrected(NOW + SETTLE_S + 1)
    assert {hit.verdict for hit in hits} == {"machine"}
    assert {hit.reasons for hit in hits} == {frozenset({"burst"})}
    later = bench.hit(4, NOW + 30, client="203.0.113.9", links=links)
    bench.corrected(NOW + 60)
    assert later.verdict == "human"


def test_a_burst_of_several_clients_is_one_and_what_was_settled_is_corrected(bench: Bench) -> None:
    bench.judge.use(bench.judge.known, settle_s=0.5, keep_s=60.0)
    hits = [bench.hit(3 + n, NOW + n / 100, client=f"10.0.0.{n % 100}", links=400) for n in range(300)]
    assert hits[0].verdict == "unsure"
    bench.corrected(NOW + 0.6)
    bench.corrected(NOW + 70)
    assert {hit.verdict for hit in hits} == {"machine"}


def test_two_bursts_in_a_row_are_two_and_nobody_between_them_is_one(bench: Bench) -> None:
    bench.judge.use(bench.judge.known, settle_s=30.0, keep_s=60.0)
    first = [bench.hit(3 + number, NOW + number / 1000, links=200) for number in range(150)]
    person = bench.hit(3, NOW + 8, client="203.0.113.9", links=200)
    second = [bench.hit(3 + number, NOW + 14 + number / 1000, links=200) for number in range(150)]
    bench.corrected(NOW + 50)
    assert {hit.verdict for hit in (*first, *second)} == {"machine"}
    assert person.verdict == "human"


def test_each_target_counts_once_however_many_links_lead_there(bench: Bench) -> None:
    """The text of a message has the links of its HTML once more, and a button for Outlook its twin."""
    scanner = [bench.hit(9 + number, NOW + number / 10, target=3 + number, links=6) for number in range(4)]
    assert {hit.verdict for hit in scanner} == {"machine"}
    person = [bench.hit(3, NOW, message="b"), bench.hit(9, NOW + 1, message="b", target=3), bench.hit(4, NOW + 2, "b")]
    bench.corrected(NOW + 30)
    assert {hit.verdict for hit in person} == {"human"}


def test_more_than_half_are_most(bench: Bench) -> None:
    half = [bench.hit(3 + number, NOW, message="half", links=10, client="10.0.0.1") for number in range(5)]
    most = [bench.hit(3 + number, NOW, message="most", links=10, client="10.0.0.2") for number in range(6)]
    bench.corrected(NOW + 30)
    assert {hit.verdict for hit in half} == {"human"}
    assert {hit.verdict for hit in most} == {"machine"}


def test_slowly_one_after_the_other_they_are_a_reader(bench: Bench) -> None:
    hits = [bench.hit(3 + number, NOW + number * 4.0) for number in range(5)]
    bench.corrected(NOW + 30)
    assert {hit.verdict for hit in hits} == {"human"}


def test_one_link_clicked_twice_is_no_burst(bench: Bench) -> None:
    hits = [bench.hit(3, NOW), bench.hit(3, NOW + 1), bench.hit(3, NOW + 2)]
    bench.corrected(NOW + 30)
    assert {hit.verdict for hit in hits} == {"human"}


def test_a_picture_and_a_click_are_a_reader(bench: Bench) -> None:
    """Of a message with one link these are all that there is to fetch."""
    hits = [bench.hit(1, NOW, kind="opened", links=1), bench.hit(3, NOW + 1, links=1)]
    bench.corrected(NOW + 30)
    assert {hit.verdict for hit in hits} == {"human"}


def test_a_person_half_a_minute_after_the_scanner_is_a_person(bench: Bench) -> None:
    scanner = [bench.hit(link, NOW + link / 10, client="198.51.100.1") for link in (2, 3, 4, 5, 6, 7)]
    person = bench.hit(4, NOW + 30, client="203.0.113.9")
    bench.corrected(NOW + 60)
    assert [hit.verdict for hit in scanner] == ["machine"] * 6
    assert person.verdict == "human"


def test_the_hidden_link_betrays_what_was_fetched_before_and_after_it(bench: Bench) -> None:
    before, trap, after = bench.hit(3, NOW), bench.hit(2, NOW + 10), bench.hit(4, NOW + 40)
    stranger = bench.hit(5, NOW + 41, client="203.0.113.9")
    assert [hit.verdict for hit in (before, trap, after)] == ["machine"] * 3
    assert bench.corrected(NOW + 47) == [(before.name, "machine"), (stranger.name, "human")]


def test_times_and_the_number_of_recipients_are_settings(bench: Bench) -> None:
    bench.judge.use(bench.judge.known, settle_s=2.0, keep_s=10.0, many=3)
    hits = [bench.hit(3, NOW + number, message=f"m{number}") for number in range(2)]
    assert bench.corrected(NOW + 1.9) == []
    assert bench.corrected(NOW + 3) == [(hit.name, "human") for hit in hits]
    assert bench.hit(3, NOW + 4, message="m2").reasons == {"many-recipients"}
    assert bench.corrected(NOW + 4) == [(hit.name, "machine") for hit in hits]
    assert len(bench.judge) == 3
    bench.corrected(NOW + 14)
    assert len(bench.judge) == 0


def test_one_address_for_many_recipients_is_a_machine_the_first_hits_too(bench: Bench) -> None:
    hits = [bench.hit(3, NOW + number, message=f"m{number}") for number in range(MANY)]
    assert {hit.verdict for hit in hits} == {"machine"}
    assert hits[-1].reasons == {"many-recipients"}
    assert len(bench.corrected(NOW + MANY)) == MANY - 1


def test_one_address_for_many_recipients_with_many_links_is_a_machine_from_its_first_hit(bench: Bench) -> None:
    hits = [
        bench.hit(3 + number % 8, NOW + number / 10 + number // 8 * 3, message=f"m{number // 8}", links=20)
        for number in range(8 * (MANY + 2))
    ]
    assert bench.corrected(NOW + 20) != [], "some are taken for a person's"
    bench.corrected(NOW + 120)
    assert {hit.verdict for hit in hits} == {"machine"}


def test_the_hidden_link_betrays_those_too_that_are_forgotten(bench: Bench) -> None:
    hits = [bench.hit(3 + number, NOW + number / 100, links=500) for number in range(150)]
    bench.hit(2, NOW + 1.6, links=500)
    bench.corrected(NOW + 30)
    assert {hit.verdict for hit in hits} == {"machine"}


def test_a_network_of_ipv6_is_one_address(bench: Bench) -> None:
    for number in range(MANY - 1):
        bench.hit(3, NOW + number, message=f"m{number}", client=f"2001:db8::{number + 1:x}")
    assert bench.hit(3, NOW + MANY, message="last", client="2001:db8::ffff").verdict == "machine"


def test_an_office_within_an_hour_is_people(bench: Bench) -> None:
    hits = [bench.hit(3, NOW + 60 * number, message=f"m{number}") for number in range(3 * MANY)]
    bench.corrected(NOW + 7200)
    assert {hit.verdict for hit in hits} == {"human"}


def test_without_recipients_hits_of_different_clients_are_not_one_burst(bench: Bench) -> None:
    """An anonymous token is that of the content: everybody who got it clicks it."""
    hits = [bench.hit(3 + number, NOW, level="anonymous", client=f"192.0.2.{number}") for number in range(5)]
    burst = [bench.hit(3 + number, NOW, level="anonymous", client="198.51.100.1") for number in range(5)]
    bench.corrected(NOW + 30)
    assert {hit.verdict for hit in hits} == {"human"}
    assert {hit.verdict for hit in burst} == {"machine"}


def test_an_anonymous_hit_tells_nothing_of_who_it_was(bench: Bench) -> None:
    hit = bench.hit(level="anonymous")
    bench.corrected(NOW + 30)
    for event in (hit.event(), hit.correction(NOW)):
        assert (event.recipient, event.client, event.agent) == ("", "", "")
    assert bench.hit().event().client == "192.0.2.1"


def test_a_correction_waits_for_the_event_that_it_corrects(bench: Bench) -> None:
    hit = bench.hit(named=False)
    assert bench.corrected(NOW + SETTLE_S) == []
    hit.event()  # it is said to be human from the start
    hit.name = "7.0"
    assert bench.corrected(NOW + SETTLE_S) == []
    bench.hit(2, NOW + SETTLE_S)
    assert bench.corrected(NOW + SETTLE_S) == [("7.0", "machine")]


def test_memory_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "MAX_HITS", 100)
    monkeypatch.setattr(grouping, "_MAX_GROUPS", 50)
    monkeypatch.setattr(grouping, "_MAX_MEMBERS", 500)
    first = bench.hit(3, NOW, message="m", client="192.0.2.200")
    for number in range(1000):
        bench.hit(3 + number % 400, NOW + number / 1000, message=f"m{number % 300}", client=f"10.0.{number // 250}.1")
    judge = bench.judge
    assert len(judge) == 100
    assert len(judge._messages) <= 50
    assert len(judge._clients) <= 50
    assert first.verdict == "human", "settled early, not forgotten"
    for number in range(5000):
        bench.hit(3 + number, NOW + 2, message="one", client="", links=10_000)
    assert len(judge._messages["one 0"].seen) <= 1000
    assert len(judge._messages["one 0"].hits) <= 64
    for number in range(2000):
        bench.hit(3 + number, NOW + 3, message=f"n{number % 40}", client="", links=1000)
    assert judge._messages.members == sum(len(group.seen) for group in judge._messages.values()) <= 500
    bench.corrected(NOW + 200)
    assert (len(judge), len(judge._messages), len(judge._clients)) == (0, 0, 0)
    assert judge._messages.members == judge._clients.members == 0


def test_pictures_that_a_scanner_fetches_with_the_links_are_no_opens(bench: Bench) -> None:
    scanner, reader = "192.0.2.1", "198.51.100.7"
    first = bench.hit(1, NOW, kind="opened", client=scanner)
    other = bench.hit(1, NOW, kind="opened", client=reader)
    clicks = [bench.hit(link, NOW + 0.1 * link, client=scanner) for link in range(3, 8)]
    last = bench.hit(1, NOW + 1, kind="opened", client=scanner)
    assert [hit.verdict for hit in (first, *clicks, last)] == ["machine"] * 7
    assert {hit.reasons for hit in (first, *clicks, last)} == {frozenset({"burst"})}
    later = bench.hit(1, NOW + 30, kind="opened", client=scanner)
    beside = bench.hit(1, NOW + 1, kind="opened", client=reader)
    bench.corrected(NOW + 40)
    assert [hit.verdict for hit in (other, later, beside)] == ["human"] * 3


def test_why_a_link_led_nowhere_is_told_and_is_no_sign(bench: Bench) -> None:
    hit = bench.hit()
    hit.gone = "withdrawn"
    assert (hit.event().verdict, hit.event().reasons) == ("unsure", ("withdrawn",))
    bench.judge.tick(NOW + SETTLE_S)
    told = hit.correction(NOW + SETTLE_S)
    assert (told.verdict, told.reasons) == ("human", ("withdrawn",))
    hit.blame("early")
    assert hit.correction(NOW + SETTLE_S).reasons == ("early", "withdrawn")
