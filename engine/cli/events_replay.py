"""`postrider events replay`: what was told already, told again: on the terminal, or to a webhook.

Straight from the files, beside the daemon: no cursor moves. A webhook gets the events of each worker in their order, a
batch at a time, as it gets all others; the first batch it does not take ends it, with the place to go on from.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from engine.base.errors import EngineError, UsageError
from engine.base.settings import Settings, Webhook
from engine.base.units import counted
from engine.cli.common import Commands, add_config, settings_of
from engine.storage.events.event import Id, id_text
from engine.storage.events.merged import MergedReader
from engine.storage.events.place import Place, parse_ids, parse_place

Event = dict[str, Any]


def add_to(actions: Commands) -> None:
    parser = actions.add_parser("replay", help="tell again what is kept: as JSON lines, or to a webhook")
    parser.add_argument(
        "--from",
        required=True,
        metavar="PLACE",
        dest="start",
        help="behind this id (25.0,1:17.2), time, 2h (ago), oldest",
    )
    parser.add_argument("--to", default="now", metavar="PLACE", help="up to this id, or before this time (now)")
    parser.add_argument("--type", action="append", default=[], metavar="TYPE", help="only these; may be repeated")
    parser.add_argument("--webhook", default="stdout", metavar="NAME", help="of a [[webhook]]; else to stdout")
    add_config(parser)
    parser.set_defaults(run=_replay)


def place(text: str) -> Place:
    """Raises UsageError."""
    try:
        return parse_place(text, time.time())
    except ValueError as exc:
        raise UsageError([str(exc)]) from exc


def stand(reader: MergedReader, target: Place) -> None:
    """Have a new reader stand there; what is not kept any more is said on stderr."""
    if target.ids is not None:
        reader.seek(target.ids)
        for worker, gap in reader.gaps(target.ids):
            events = counted(gap.events, "event")
            sys.stderr.write(
                f"postrider: worker {worker}: {'' if gap.exact else 'at least '}{events} behind"
                f" {id_text(gap.after)} are {gap.why() if gap.missing else 'not kept any more'}\n"
            )
    elif target.at is not None:
        reader.seek_time(target.at)
    elif target.end:
        reader.seek_tail(0)


def end_of(reader: MergedReader) -> int:
    """Say what was passed over on the way. 1: there was something."""
    damaged, exact, missing = reader.losses()
    if damaged or not exact:
        many = counted(damaged, "event") if exact else f"at least {counted(damaged, 'event')}" if damaged else "events"
        sys.stderr.write(f"postrider: {many} damaged, and passed over\n")
    if missing:
        sys.stderr.write(f"postrider: {counted(missing, 'file')} of events missing\n")
    return 1 if damaged or missing or not exact else 0


def _replay(args: argparse.Namespace) -> int:
    settings, start, end = settings_of(args), place(args.start), place(args.to)
    row = next((row for row in settings.webhook if row.name == args.webhook), None)
    if row is None and args.webhook != "stdout":
        raise UsageError([f"{args.webhook}: no [[webhook]] of that name"])
    reader = MergedReader(settings.node.data_dir)
    stand(reader, start)
    events = (event for event in _until(reader.read(), end) if not args.type or event.get("type") in args.type)
    if row is None:
        for event in events:
            sys.stdout.write(json.dumps(event, ensure_ascii=False) + "\n")
        return end_of(reader)
    wanted = (event for event in events if not row.types or event.get("type") in row.types)
    sys.stdout.write(f"replay: {counted(asyncio.run(_post_all(settings, row, wanted)), 'event')} taken\n")
    return end_of(reader)


def _until(events: Iterable[Event], end: Place) -> Iterator[Event]:
    """Ids end each journal by itself; a time, those from then on."""
    for event in events:
        if end.ids is not None:
            worker, own = _split(event)
            if worker in end.ids and own > end.ids[worker]:
                continue
        elif end.at is not None and event.get("at", 0) >= end.at:
            continue
        yield event


def _split(event: Event) -> tuple[int, Id]:
    [(worker, own)] = parse_ids(event["id"]).items()
    return worker, own


async def _post_all(settings: Settings, row: Webhook, events: Iterable[Event]) -> int:
    """How many were taken. Raises EngineError: where it ended, and why."""
    from engine.base.clock import SystemClock
    from engine.base.metrics import Metrics
    from engine.feed.feed import secret_of
    from engine.feed.post import body_of, signed_headers
    from engine.net.http_post import HttpPoster, PostFailed
    from engine.net.resolver import Resolver

    secret, clock = secret_of(row), SystemClock()
    resolver = Resolver(settings.resolver, Metrics(), clock)
    poster = HttpPoster(resolver, row.allow_private)
    taken = 0
    places: dict[int, str] = {}
    try:
        for worker, lines in _batches(row, events):
            body = body_of(row.name, settings.node.name, worker, [line for _, line in lines])
            headers = signed_headers(secret, body, clock.time()) | {"Postrider-Replay": "1"}
            try:
                await poster.post(row.url, body, headers, row.timeout)
            except PostFailed as exc:
                behind = f", up to {','.join(places.values())}" if places else ""
                raise EngineError(f"webhook {row.name}: {exc}; {counted(taken, 'event')} taken before{behind}") from exc
            taken += len(lines)
            places[worker] = lines[-1][0]
    finally:
        await poster.close()
        await resolver.close()
    return taken


def _batches(row: Webhook, events: Iterable[Event]) -> Iterator[tuple[int, list[tuple[str, bytes]]]]:
    """(id, line) of events of one worker, as many as a batch of this webhook has."""
    for worker, group in groupby(events, key=lambda event: _split(event)[0]):
        lines: list[tuple[str, bytes]] = []
        size = 0
        for event in group:
            line = json.dumps(event, ensure_ascii=False).encode("utf-8", "backslashreplace")
            if lines and (len(lines) >= row.batch_events or size + len(line) > row.batch_bytes):
                yield worker, lines
                lines, size = [], 0
            lines.append((event["id"], line))
            size += len(line)
        yield worker, lines
