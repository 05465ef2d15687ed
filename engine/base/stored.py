"""Something on its way to the disk: as a future, but whoever is to be told is told in the turn in which it is there.

Thousands of records become durable in a second; a future would have the loop call each of those who wait by itself.
"""

import asyncio
import logging
from collections.abc import Callable, Generator
from typing import Any

from engine.base.errors import StorageError
from engine.base.serial_thread import answer

log = logging.getLogger(__name__)


class Stored:
    """Await it, or ask to be told. Nobody can cancel it."""

    def __init__(self) -> None:
        self._over = False
        self._error: StorageError | None = None
        self._told: list[Callable[[Stored], object]] | None = None

    def done(self) -> bool:
        """It is on the disk, or has failed."""
        return self._over

    def exception(self) -> StorageError | None:
        """Why it failed; None: it has not."""
        return self._error

    def add_done_callback(self, told: "Callable[[Stored], object]") -> None:
        """Have it called with this; at once, if it is done."""
        if self._over:
            told(self)
        elif self._told is None:
            self._told = [told]
        else:
            self._told.append(told)

    def finish(self, error: StorageError | None = None) -> None:
        """It is on the disk, or never will be; once."""
        self._over, self._error = True, error
        told, self._told = self._told, None
        if told is not None:
            for tell in told:
                try:
                    tell(self)
                except (Exception, asyncio.CancelledError):  # one listener's fault is not that of those behind it (Q3)
                    log.exception("after a record was written")

    def __await__(self) -> Generator[Any, None, None]:
        """Raises StorageError."""
        if not self._over:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.add_done_callback(lambda _: answer(waiter, None, None))
            yield from waiter
        if self._error is not None:
            raise self._error


def stored() -> Stored:
    """What is on the disk already."""
    there = Stored()
    there.finish()
    return there
