"""A delivery that goes to another destination, because the one it was for cannot have it now."""

from pathlib import Path

from engine.base.settings import SpoolSettings
from engine.base.units import Size
from engine.message.outcome import Scope, Status
from engine.storage.spool.entry import State
from tests.support.queue import Stage, outcome, play

SMALL_FILES = SpoolSettings(
    segment_bytes=Size(1), journal_files=1, move_rate=Size(0), min_free=0.0, memory_guard=1.0
)  # fmt: skip


def live(s: Stage) -> dict[str, int]:
    """Deliveries by destination, as the manager counts them."""
    return {name: own.live for (name, _), own in s.manager.destinations.items() if own.live}


async def pass_on(s: Stage, name: str) -> None:
    """An attempt at one.test that says: two.test, at once."""
    delivery = await s.next(s.agent("one.test"))
    assert delivery is not None and s.named(delivery) == name
    refused = [outcome(index, Status.DEFERRED, "ESME_RSYSERR", Scope.SITE) for index in delivery.indexes]
    await s.settle(delivery, *refused, next_destination="two.test")


def test_it_is_of_the_other_destination_from_then_on_and_after_a_restart(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        for number in range(3):
            await s.put("a@one.test", name=f"m{number}")
        await pass_on(s, "m0")
        assert live(s) == {"one.test": 2, "two.test": 1}
        for _ in range(2):
            await s.spool.work(at_once=True)
            await s.restart()
            assert live(s) == {"one.test": 2, "two.test": 1}
        assert await s.take_all("two.test") == ["m0"]
        assert await s.take_all("one.test") == ["m1", "m2"]
        assert s.tally()["balanced"] and live(s) == {}

    play(tmp_path, story, spool=SMALL_FILES)


def test_what_is_held_there_is_held(tmp_path: Path) -> None:
    async def story(s: Stage) -> None:
        await s.put("a@two.test", name="there")
        await s.do("hold", "two.test")
        letter = await s.put("a@one.test", name="m0")
        await pass_on(s, "m0")
        assert letter.state is State.HELD
        await s.do("resume", "two.test")
        assert sorted(await s.take_all("two.test")) == ["m0", "there"]

    play(tmp_path, story, spool=SMALL_FILES)
