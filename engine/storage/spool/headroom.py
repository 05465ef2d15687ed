"""What the mover may copy where the disk has little room: only what it can finish, and never the last of it.

A copy needs room before its original gives any. It may take half of what is free: the other half is left to outcomes
and an operator's orders, which make more.
"""

import logging
from collections.abc import Callable

from engine.storage.spool.segment import Segment

log = logging.getLogger(__name__)

_MOST_OF_FREE = 0.5
#: What a copy takes beside the message: a head, its line in an index, its state in a side file. What a death takes.
_COPY_BYTES, _DEATH_BYTES = 512, 9


class Headroom:
    """Of one mover, in its thread. free: looks how many bytes are free. All may raise StorageError: it cannot look.

    wanted: whether nothing is accepted until there is more.
    """

    def __init__(self, free: Callable[[], int], wanted: Callable[[], bool]) -> None:
        self._free = free
        self.wanted = wanted
        self._waiting: set[int] = set()  #: files that may not be emptied, as the log was told

    def may_empty(self, segment: Segment) -> bool:
        """What still lives in a file can be copied; of a file of shared contents that may be all of it."""
        shared = segment.path.suffix == ".con"
        size = segment.bytes if shared else min(segment.live_bytes, segment.bytes)
        if self._has(size + segment.refs * _COPY_BYTES):
            self._waiting.discard(segment.number)
            return True
        if segment.number not in self._waiting:
            self._waiting.add(segment.number)
            log.warning("spool: %s is not emptied: the disk has no room for what lives in it", segment.path)
        return False

    def may_note(self, deaths: int) -> bool:
        """So many messages that are dead can be written to a side file."""
        return self._has(_COPY_BYTES + deaths * _DEATH_BYTES)

    def _has(self, size: int) -> bool:
        return size <= self._free() * _MOST_OF_FREE
