"""What an operator can see and say of consumers of events: the streams of webhooks."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from engine.admin.parts import Parts
from engine.base.errors import EngineError
from engine.feed.feed import Feed
from engine.feed.source import Source
from engine.feed.stream import Stream
from engine.storage.events.place import Place, parse_place

Row = dict[str, Any]


async def consumers(parts: Parts) -> AsyncIterator[Row]:
    """Each webhook, and each journal it is posted; see `Stream.state`."""
    if parts.feed is not None:
        for stream in parts.feed.streams():
            await stream.measure()
            yield stream.state()


async def consumer_pause(parts: Parts, name: str) -> AsyncIterator[Row]:
    """Post nothing until `consumer_resume`, also after a restart."""
    for stream in _feed(parts, name).streams(name):
        await stream.pause()
        yield {"streams": 1}


async def consumer_resume(parts: Parts, name: str) -> AsyncIterator[Row]:
    """Post again, at once: after a pause, 410 Gone, or in the middle of a wait."""
    for stream in _feed(parts, name).streams(name):
        await stream.resume()
        yield {"streams": 1}


async def consumer_seek(parts: Parts, name: str, place: str) -> AsyncIterator[Row]:
    """Go on elsewhere: what lies between is posted again, or not at all. place: storage/events/place.py."""
    try:
        target = parse_place(place, parts.clock.time())
    except ValueError as exc:
        raise EngineError(str(exc)) from exc
    found = _feed(parts, name).streams(name)
    streams = [stream for stream in found if target.ids is None or stream.worker in target.ids]
    await asyncio.gather(*(stream.seek(_move(target, stream)) for stream in streams))
    yield {"streams": len(streams)}


def _move(target: Place, stream: Stream) -> Callable[[Source], None]:
    if target.ids is not None:
        after = target.ids[stream.worker]
        return lambda source: source.seek(after)
    if target.at is not None:
        at = target.at
        return lambda source: source.seek_time(at)
    return Source.seek_end if target.end else Source.seek_oldest


def _feed(parts: Parts, name: str) -> Feed:
    if parts.feed is None:
        raise EngineError(f"{name}: no [[webhook]] of that name")
    return parts.feed
