"""What is withdrawn, in memory: read again each second, so that a request asks no database."""

import asyncio
from collections.abc import Iterable

from engine.storage.ledger.sent import Sent
from engine.storage.tables.withdrawals import Withdrawal, Withdrawals, content_of


class Withdrawn:
    """The rows that hold now."""

    def __init__(self, table: Withdrawals) -> None:
        """Reads it. Raises StorageError."""
        self._table = table
        self._set(table.all())

    async def refresh(self) -> None:
        """Each second. Raises StorageError: what is known holds."""
        self._set(await asyncio.to_thread(lambda: list(self._table.all())))

    def holds(self, sent: Sent, link: int, url: str) -> bool:
        """Whether this link of a message leads nowhere."""
        rows = self._rows
        if not rows:
            return False
        return (
            ("url", url) in rows
            or ("link", content_of(sent, link)) in rows
            or ("content", content_of(sent)) in rows
            or (bool(sent.batch) and ("batch", sent.batch) in rows)
            or (bool(sent.tenant) and ("tenant", sent.tenant) in rows)
        )

    def close(self) -> None:
        self._table.close()

    def _set(self, rows: Iterable[Withdrawal]) -> None:
        self._rows = {(row.kind, row.what) for row in rows}
