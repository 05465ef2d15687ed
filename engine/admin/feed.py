"""What an operator can see and say of consumers of events: the streams of webhooks."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from engine.admin.parts import Parts
from engine.base.errors import EngineError
from engine.feed.feed import Feed
from engine.feed.post import place_text
from engine.feed.source import Source
from engine.feed.stream import Stream
from engine.storage.events.event import Id
from engine.storage.events.journal import events_directory
from engine.storage.events.merged import journals
from engine.storage.events.place import Place, parse_place
from engine.storage.events.reader import newest_id

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
    """Go on elsewhere: what lies between is posted again, or not at all. place: storage/events/place.py.

    Every worker judges all of it, so that none moves where one would not.
    """
    try:
        target = parse_place(place, parts.clock.time())
    except ValueError as exc:
        raise EngineError(str(exc)) from exc
    found = _feed(parts, name).streams(name)
    if target.ids is not None:
        await asyncio.to_thread(_check, Path(parts.settings.node.data_dir), target.ids)
    streams = [stream for stream in found if target.ids is None or stream.worker in target.ids]
    await asyncio.gather(*(stream.seek(_move(target, stream)) for stream in streams))
    yield {"streams": len(streams)}


def _check(data_dir: Path, ids: Mapping[int, Id]) -> None:
    """Raises EngineError: there is no such journal, or it did not get that far: all that is to come until it does would
    be passed over."""
    known = journals(data_dir)
    for worker, after in ids.items():
        if worker not in known:
            raise EngineError(f"{place_text(after, worker)}: there is no worker {worker}")
        newest = newest_id(events_directory(data_dir, worker))
        if after > max(newest, (0, 0)):
            raise EngineError(
                f"{place_text(after, worker)}: is not written yet, the newest is {place_text(newest, worker)}"
            )


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
