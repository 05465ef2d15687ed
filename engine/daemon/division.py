"""Settings of a node, for those who share them.

Limits that are cut into even parts, one for each worker: what is memory, threads or bytes a second. And listeners that
a redirector of its own has.

What several workers may need unevenly is not cut: connections and rates of sites (queue/holdings.py), clients
(intake/clients.py).
"""

import msgspec

from engine.base.settings import Settings


def part_of(settings: Settings) -> Settings:
    """The settings of one worker. A limit of which there is less than there are workers is one each."""
    workers = settings.node.workers
    signing, spool, resolver = settings.signing, settings.spool, settings.resolver
    return msgspec.structs.replace(
        settings,
        signing=msgspec.structs.replace(signing, threads=-(-signing.threads // workers)),
        spool=msgspec.structs.replace(
            spool,
            hot_bytes=type(spool.hot_bytes)(spool.hot_bytes // workers),
            # 0 is no limit, and stays it.
            move_rate=type(spool.move_rate)(-(-spool.move_rate // workers)),
            # Of max_memory, or of what there is, which a worker finds out for itself.
            memory_guard=spool.memory_guard / workers,
        ),
        resolver=msgspec.structs.replace(resolver, max_queries=max(resolver.max_queries // workers, 1)),
    )


def of_daemon(settings: Settings) -> Settings:
    """Without the listeners that `postrider redirect` has."""
    if not settings.tracking.separate:
        return settings
    return msgspec.structs.replace(settings, listener=tuple(row for row in settings.listener if row.kind != "tracking"))
