"""What is on its way to the disk."""

import asyncio

import pytest

from engine.base.errors import StorageError
from engine.base.stored import Stored, stored


def test_who_asked_is_told_at_once_and_in_order(caplog: pytest.LogCaptureFixture) -> None:
    told: list[object] = []

    def fails(one: Stored) -> None:
        raise ValueError("a listener's own fault")

    one = Stored()
    for listener in (told.append, fails, lambda _: told.append("third")):
        one.add_done_callback(listener)
    assert not one.done() and told == []
    one.finish()
    assert one.done() and one.exception() is None and told == [one, "third"]
    assert "a listener's own fault" in caplog.text
    one.add_done_callback(told.append)
    assert told == [one, "third", one]


def test_it_can_be_awaited_before_and_after_by_many() -> None:
    async def story() -> None:
        one = Stored()
        waiters = [asyncio.ensure_future(one) for _ in range(3)]
        await asyncio.sleep(0)
        waiters[1].cancel()
        await asyncio.sleep(0)
        one.finish()
        await asyncio.wait(waiters)
        assert [waiter.cancelled() for waiter in waiters] == [False, True, False]
        await one
        await stored()

    asyncio.run(story())


def test_a_failure_is_raised_by_each_await_and_told() -> None:
    async def story() -> None:
        one, error, told = Stored(), StorageError("the disk is full"), []
        one.add_done_callback(lambda done: told.append(done.exception()))
        early = asyncio.ensure_future(one)
        await asyncio.sleep(0)
        one.finish(error)
        for waiting in (early, one):
            with pytest.raises(StorageError, match="the disk is full"):
                await waiting
        assert told == [error] and stored().exception() is None

    asyncio.run(story())


def test_a_callback_that_is_cancelled_keeps_nobody_from_hearing_of_it() -> None:
    told: list[Stored] = []

    def cancelled(one: Stored) -> None:
        raise asyncio.CancelledError

    one = Stored()
    one.add_done_callback(cancelled)
    one.add_done_callback(told.append)
    one.finish()
    assert told == [one]
