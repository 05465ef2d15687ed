"""A stream of events to a real HTTP server: order, pauses, cursors, an operator's words (E1)."""

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from engine.base.errors import ConfigError, EngineError, StorageError
from engine.base.metrics import Metrics
from engine.base.settings import Node, Settings, Webhook
from engine.base.settings_file import read_settings
from engine.feed.feed import Feed, own_journals, secret_of, warnings_of
from engine.feed.stream import pause_s
from engine.storage.events.event import TYPES
from engine.storage.events.journal import EventJournal, events_directory
from engine.storage.events.lines import _TYPES_TO
from engine.storage.events.reader import LineReader
from tests.support.clock import ClockLoop, FakeClock
from tests.support.feed import SECRET, Receiver, event_lines
from tests.support.lookup import ZoneLookup
from tests.support.ports import free_port


def row(url: str, name: str = "shop", **more: Any) -> Webhook:
    return Webhook(name=name, url=url, secret=SECRET, allow_private=True, timeout=1e9, **more)


class Stage:
    """A feed, its journal, and a clock that moves while the test waits. One process after another in one folder."""

    def __init__(self, path: Path, *rows: Webhook) -> None:
        self.path, self.rows = path, rows
        self.clock = FakeClock()
        self.metrics = Metrics()

    def receiver(self, *says: int, **more: Any) -> Receiver:
        return Receiver(*says, now=self.clock.time, **more)

    def settings(self) -> Settings:
        return Settings(webhook=self.rows, node=Node(name="mx.test"))

    def run(self, *stories: Callable[[], Awaitable[None]]) -> None:
        for story in stories:
            with asyncio.Runner(loop_factory=lambda: ClockLoop(self.clock)) as runner:
                runner.run(self._process(story))

    async def _process(self, story: Callable[[], Awaitable[None]]) -> None:
        self.loop = asyncio.get_running_loop()
        self.journal = EventJournal(events_directory(self.path), 2000, 1e9, self.clock)
        dns, chance = ZoneLookup("", self.clock), random.Random(1)
        self.feed = Feed(self.settings(), self.path, [0], self.journal, dns, self.metrics, self.clock, chance)
        await self.feed.start()
        try:
            await story()
        finally:
            await self.done(self.feed.stop())
            self.journal.close()

    async def write(self, first: int, last: int, **more: Any) -> None:
        """Events of these frames, as the journal's thread does it."""
        for seq in range(first, last):
            await self.loop.run_in_executor(None, self.journal.write, event_lines(seq, at=self.clock.now, **more))

    async def until(self, done: Callable[[], Any]) -> None:
        """Time passes, in small steps, and sockets and threads have theirs."""
        for _ in range(20_000):
            if done():
                return
            self.clock.advance(0.01)
            await self.loop.run_in_executor(None, time.sleep, 0.0005)
        raise AssertionError("waited in vain")

    async def done(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(work)
        await self.until(task.done)
        await task

    def state(self, name: str = "shop") -> dict[str, Any]:
        return self.feed.streams(name)[0].state()

    def count(self, metric: str) -> float:
        return sum(s.value for f in self.metrics.registry.collect() for s in f.samples if s.name == metric)


def upto(first: int, last: int) -> list[str]:
    return [f"{n}.0" for n in range(first, last)]


def test_pauses_grow_are_capped_and_differ() -> None:
    chance = random.Random(1)
    for failures, most in ((1, 1.0), (2, 2.0), (3, 4.0), (7, 60.0), (5000, 60.0)):
        pauses = {pause_s(failures, 60.0, chance) for _ in range(50)}
        assert all(most / 2 <= pause <= most for pause in pauses)
        assert len(pauses) == 50


def test_what_a_receiver_gets(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    with stage.receiver() as receiver:
        stage.rows = (row(receiver.url),)

        async def story() -> None:
            await stage.write(1, 3)
            await stage.until(lambda: len(receiver.ids()) == 2)
            body, headers = receiver.bodies[0], receiver.headers[0]
            assert (body["webhook"], body["node"], body["worker"]) == ("shop", "mx.test", 0)
            assert (body["events"][0]["id"], body["events"][0]["recipient"]) == ("1.0", "bob1@example.org")
            assert (headers["Content-Type"], headers["User-Agent"]) == ("application/json", "Postrider")
            assert receiver.forged == 0

        stage.run(story)


@pytest.mark.parametrize("status", [301, 404, 429, 503])
def test_anything_but_2xx_is_tried_again_with_the_same_batch(tmp_path: Path, status: int) -> None:
    """And the next ones wait for it: order."""
    stage = Stage(tmp_path)
    with stage.receiver(*[status] * 4, 204) as receiver:
        stage.rows = (row(receiver.url, batch_events=3),)

        async def story() -> None:
            await stage.write(1, 10)
            await stage.until(lambda: stage.state()["failures"] == 2)
            state = stage.state()
            assert (state["state"], state["cursor"]) == ("waits", "0.0")
            assert state["last_error"].startswith("status ")
            assert 0 < state["next_try_s"] <= 2
            assert state["lag_s"] > 0
            await stage.until(lambda: len(receiver.ids()) == 9)
            await stage.until(lambda: stage.state()["cursor"] == "9.0")
            assert receiver.ids() == upto(1, 10)
            first = receiver.bodies[0]["events"]
            assert [body["events"] for body in receiver.bodies[:5]] == [first] * 5
            assert stage.state()["lag_s"] == stage.state()["failures"] == 0
            assert stage.count("postrider_webhook_events_total") == 9

        stage.run(story)


def test_a_disk_that_fails_in_the_middle_of_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read of it is read again."""
    stage = Stage(tmp_path)
    read, reads = LineReader.chunk, iter(range(1000))

    def chunk(reader: LineReader, size: int, offset: int) -> bytes:
        if next(reads) in (8, 9, 20):
            raise StorageError("no such sector")
        return read(reader, size, offset)

    with stage.receiver() as receiver:
        stage.rows = (row(receiver.url),)

        async def story() -> None:
            await stage.write(1, 60)
            monkeypatch.setattr(LineReader, "chunk", chunk)
            await stage.write(60, 61)
            await stage.until(lambda: len(receiver.ids()) >= 60)
            await stage.until(lambda: stage.state()["state"] == "idle")
            assert receiver.ids() == upto(1, 61)
            assert stage.state()["last_error"] == ""
            assert next(reads) > 21

        stage.run(story)


def test_a_restart_goes_on_where_it_was(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    with stage.receiver() as receiver:
        stage.rows = (row(receiver.url),)

        async def first() -> None:
            await stage.write(1, 40)
            await stage.until(lambda: len(receiver.ids()) == 39)

        async def second() -> None:
            await stage.write(40, 50)
            await stage.until(lambda: len(receiver.ids()) == 49)
            assert receiver.ids() == upto(1, 50)

        stage.run(first, second)


def test_a_webhook_that_is_new_begins_with_what_is_new(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    with stage.receiver() as receiver:

        async def before() -> None:
            await stage.write(1, 30)

        async def after() -> None:
            await stage.write(30, 32)
            await stage.until(lambda: receiver.ids() == upto(30, 32))

        stage.run(before)
        stage.rows = (row(receiver.url),)
        stage.run(after)


def test_one_that_is_dead_holds_no_other_up(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    with stage.receiver() as receiver, stage.receiver() as silent:
        silent.before = threading.Event().wait  # never answers
        dead = row(f"http://127.0.0.1:{free_port()}/", "dead")
        stage.rows = (dead, row(silent.url, "silent"), row(receiver.url))

        async def story() -> None:
            await stage.write(1, 100)
            await stage.until(lambda: receiver.ids() == upto(1, 100))
            await stage.until(lambda: stage.state("dead")["failures"] > 3)
            assert stage.state("silent")["state"] == "posting"
            assert stage.state("dead")["cursor"] == stage.state("silent")["cursor"] == "0.0"

        stage.run(story)


def test_a_reload_is_tried_at_once(tmp_path: Path) -> None:
    """In the middle of a pause, with the batch that waited."""
    stage = Stage(tmp_path)
    with stage.receiver() as receiver:
        stage.rows = (row("http://127.0.0.1:1/?key=hidden"),)

        async def story() -> None:
            await stage.write(1, 10)
            await stage.until(lambda: stage.state()["failures"] == 5)
            assert "hidden" not in repr(stage.state())
            stage.rows = (row(receiver.url, longest_pause=1e9),)
            await stage.done(stage.feed.reload(stage.settings()))
            now = stage.clock.now
            await stage.until(lambda: receiver.ids() == upto(1, 10))
            assert stage.clock.now - now < 8  # the fifth pause has eight seconds at least

        stage.run(story)


def test_types_that_nobody_wants_leave_a_cursor_behind(tmp_path: Path) -> None:
    """Or what retention deletes would seem to be missed after a restart."""
    stage = Stage(tmp_path)
    with stage.receiver() as receiver:
        stage.rows = (row(receiver.url, types=("bounced",)),)

        async def first() -> None:
            await stage.write(1, 40)
            await stage.until(lambda: stage.state()["cursor"] == "39.0")

        async def second() -> None:
            assert stage.state()["cursor"] == "39.0"
            assert receiver.bodies == []

        stage.run(first, second)


def test_what_was_missed_is_told_to_the_receiver_and_to_us(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage(tmp_path)
    with stage.receiver(500) as receiver:
        stage.rows = (row(receiver.url, batch_events=5),)

        async def first() -> None:
            await stage.write(1, 100)
            receiver.says = [200, 500]
            await stage.until(lambda: len(receiver.bodies) > 3)

        async def second() -> None:
            receiver.says = [200]
            await stage.until(lambda: receiver.ids()[-1] == "99.0")
            begin = int(float(receiver.ids()[taken]))
            told = [body["missed"] for body in receiver.bodies if "missed" in body]
            missed = begin - taken - 1
            assert told[-1] == {"after": f"{taken}.0", "last": f"{begin - 1}.0", "events": missed, "exact": True}
            assert receiver.ids() == upto(1, taken + 1) + upto(begin, 100)
            assert stage.count("postrider_webhook_missed_total") == missed == stage.state()["missed"] > 0
            assert (
                f"events behind {taken}.0, up to {begin - 1}.0, were deleted before they were taken: {missed}"
                in caplog.text
            )

        stage.run(first)
        taken = len(receiver.ids())  # a batch: five at most
        EventJournal(events_directory(tmp_path), 2000, 1e9, stage.clock, keep_bytes=1).close()
        stage.run(second)


def test_a_database_that_is_damaged_costs_its_webhooks_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(tmp_path, row("http://127.0.0.1:1/"))
    events_directory(tmp_path).mkdir(parents=True, mode=0o700)
    (events_directory(tmp_path) / "cursors.db").write_bytes(b"x" * 5000)

    async def story() -> None:
        await stage.write(1, 3)
        assert "gets no events of worker 0" in caplog.text

    stage.run(story)


def test_whose_journals_are_posted(tmp_path: Path) -> None:
    """Those of workers that are no more, by the first; one that only empties its spool posts nothing."""
    for number in (0, 1, 2, 5):
        events_directory(tmp_path, number).mkdir(parents=True)
    assert own_journals(tmp_path, 0, 2) == [0, 2, 5]
    assert own_journals(tmp_path, 1, 2) == [1]
    assert own_journals(tmp_path, 2, 2) == []


def test_types_that_there_are() -> None:
    """Each outcome's is there; a webhook that wants another is warned of."""
    assert {name for names in _TYPES_TO.values() for name in names if name} <= TYPES.keys()
    [warning] = warnings_of([row("http://a/", types=("delivered", "delievered"))])
    assert "delievered" in warning


def test_urls_that_are_warned_of() -> None:
    urls = ("https://a/", "https://10.0.0.1/", "https://127.1/", "http://a/")
    rows = [Webhook(name="a", url=url, secret=SECRET) for url in urls]
    assert [text.partition("url: ")[2] for text in warnings_of(rows)] == [
        "its address is private or reserved, and allow_private is off",
        "its host is neither a name nor an address",
        "every event travels for all to read",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('url = "ftp://a"', "is not a URL"),
        ('url = "http://a/"', "secret_file: missing, and so is secret"),
        ('url = "http://a/"\nsecret = "short"', "secret: 32 printable ASCII characters or more"),
        (f'url = "http://a/"\nsecret = "{SECRET}"\nsecret_file = "x"', "secret_file: "),
        (f'url = "http://a/"\nsecret = "{SECRET}"\ntypes = ["De livered"]', "not a type of events"),
        (f'url = "http://a/"\nsecret = "{SECRET}"\nbatch_events = 0', "batch_events: 0 is too small"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "postrider.toml"
    path.write_text(f'[[webhook]]\nname = "shop"\n{text}\n')
    _, problems = read_settings(path)
    assert any(problem in each for each in problems), problems
    assert "short" not in "".join(problems)


def test_a_secret_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    assert secret_of(Webhook(name="a", url="http://a/", secret_file=str(path))) == SECRET
    for content in ("short", "", "é" * 40):
        path.write_text(content)
        with pytest.raises(ConfigError):
            secret_of(Webhook(name="a", url="http://a/", secret_file=str(path)))


def test_whoever_holds_a_stream_that_is_removed_is_told(tmp_path: Path) -> None:
    """An operator's command that began before a reload."""
    stage = Stage(tmp_path)
    with stage.receiver() as receiver:
        stage.rows = (row(receiver.url),)

        async def story() -> None:
            (held,) = stage.feed.streams()
            await stage.done(stage.feed.reload(Settings()))
            assert stage.feed.streams() == []
            await held.measure()
            with pytest.raises(EngineError, match="shop: is not among the settings any more"):
                await held.seek(lambda source: source.seek_end())

        stage.run(story)
