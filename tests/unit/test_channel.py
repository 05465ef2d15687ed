"""What a supervisor and a worker say to each other."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from engine.base.errors import EngineError, NetworkError
from engine.base.settings import Listener, Provider, Route, Settings
from engine.base.units import Duration, Rate
from engine.daemon.channel import Channel, pack_settings, unpack_settings


async def answer(kind: str, what: Any) -> Any:
    match kind:
        case "double":
            return what * 2
        case "refuse":
            raise EngineError("no")
        case "break":
            raise ZeroDivisionError
    await asyncio.Event().wait()
    return None


def talk(story: Callable[[Channel, Channel, list[Any]], Awaitable[None]]) -> None:
    """Run a story between two ends; the list is what was noted at the second."""

    async def run() -> None:
        notes: list[Any] = []
        ends = socket.socketpair()
        channels = [Channel(answer, lambda kind, what: notes.append((kind, what))) for _ in ends]
        for channel, sock in zip(channels, ends, strict=True):
            await channel.open(sock)
        async with asyncio.timeout(30):
            await story(channels[0], channels[1], notes)
        for channel in channels:
            channel.close()
        await asyncio.sleep(0)

    asyncio.run(run())


def test_requests_are_answered_whatever_their_size_and_order() -> None:
    async def story(one: Channel, other: Channel, notes: list[Any]) -> None:
        large = b"x" * 1_000_000
        assert await asyncio.gather(one.ask("double", 2), one.ask("double", large), other.ask("double", "a")) == [
            4,
            large * 2,
            "aa",
        ]

    talk(story)


def test_an_error_is_that_of_who_asked() -> None:
    async def story(one: Channel, other: Channel, notes: list[Any]) -> None:
        with pytest.raises(EngineError, match=r"^no$"):
            await one.ask("refuse")
        with pytest.raises(EngineError, match="internal error: ZeroDivisionError"):
            await one.ask("break")

    talk(story)


def test_notes_arrive_in_order() -> None:
    async def story(one: Channel, other: Channel, notes: list[Any]) -> None:
        for number in range(100):
            one.tell("n", number)
        await one.ask("double", 0)
        assert notes == [("n", number) for number in range(100)]

    talk(story)


def test_who_waits_for_an_end_that_goes_away_is_told() -> None:
    async def story(one: Channel, other: Channel, notes: list[Any]) -> None:
        waiting = asyncio.ensure_future(one.ask("wait"))
        await one.ask("double", 0)
        other.close()
        with pytest.raises(NetworkError, match="gone away"):
            await waiting
        with pytest.raises(NetworkError, match="gone away"):
            await one.ask("double", 0)
        one.tell("n")

    talk(story)


def test_settings_come_out_as_they_went_in() -> None:
    settings = Settings(
        listener=(Listener(kind="smtp", address="127.0.0.1:25", networks=("::1",)),),
        route=(Route(domain="*", rate=Rate(0.5)),),
        provider=(Provider(name="x", mx=("a",), stop=(("text", Duration(60)),)),),
    )
    again = unpack_settings(pack_settings(settings))
    assert again == settings
    assert type(again.route[0].rate) is Rate
