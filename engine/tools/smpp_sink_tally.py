"""What the test SMSC received and sent: counts."""

import time
from collections import Counter
from typing import TextIO

#: Contents remembered to find duplicates: 250 MiB at most.
REMEMBERED = 1_000_000


class SmppTally:
    """Counts of one test SMSC.

    submits: destinations of submit_sm, submit_multi and data_sm, whatever became of them. messages: those taken; with
    the silent ones, which got no answer. parts: those of them that are a part of a longer message. unique: distinct
    pairs of addresses and content, headers and TLVs that number parts included. duplicates: content seen before for
    that destination. `ids_file` gets a line `ID DESTINATION` for each unique one.
    """

    def __init__(self, ids_file: TextIO | None = None, remembered: int = REMEMBERED) -> None:
        self.connections = self.open = self.max_open = self.binds = self.refused_binds = 0
        self.protocol_errors = 0
        self.submits = self.messages = self.parts = self.unique = self.duplicates = self.silent = 0
        self.throttled = self.queried = self.cancelled = self.replaced = 0
        self.receipts_sent = self.receipts_acknowledged = self.receipts_refused = self.receipts_lost = 0
        self.answers_sent = self.answers_acknowledged = self.answers_refused = 0
        self.sent_again = 0
        self.refused: Counter[str] = Counter()
        self.states: Counter[str] = Counter()
        self.first_at = self.last_at = 0.0
        self._seen: dict[int, None] = {}
        self._contents: dict[int, None] = {}
        self._remembered = remembered
        self._ids_file = ids_file

    def connected(self) -> None:
        self.connections += 1
        self.open += 1
        self.max_open = max(self.max_open, self.open)

    def submitted(self) -> None:
        """One came, whatever will become of it."""
        self.last_at = time.time()
        if not self.submits:
            self.first_at = self.last_at
        self.submits += 1

    def took(self, message_id: str, source: bytes, destination: bytes, content: bytes, *, part: bool) -> None:
        """One is taken. content: header, text and the TLVs that belong to them."""
        self.messages += 1
        self.parts += part
        # Of the 64 bits of a hash, two of a million are the same once in a hundred million runs.
        if not self._new(self._contents, hash((destination, content))):
            self.duplicates += 1
        if self._new(self._seen, hash((source, destination, content))):
            self.unique += 1
            if self._ids_file is not None:
                self._ids_file.write(f"{message_id} {destination.decode('ascii', 'backslashreplace')}\n")

    def _new(self, seen: dict[int, None], key: int) -> bool:
        if key in seen:
            return False
        seen[key] = None
        if len(seen) > self._remembered:
            del seen[next(iter(seen))]
        return True

    def as_dict(self) -> dict[str, object]:
        """For the status file and the final line. Times are unix seconds; rate is between first and last submit."""
        seconds = self.last_at - self.first_at
        counts = {name: value for name, value in vars(self).items() if isinstance(value, int) and name[0] != "_"}
        return {
            **counts,
            "refused": dict(self.refused),
            "states": dict(self.states),
            "first_at": round(self.first_at, 6),
            "last_at": round(self.last_at, 6),
            "rate": round(self.submits / seconds, 1) if seconds > 0 else 0.0,
        }

    def as_text(self) -> str:
        return (
            f"{self.messages} messages of {self.submits} submits over {self.binds} binds; {self.unique} unique, "
            f"{self.duplicates} duplicates, throttled: {self.throttled}, refused: {dict(self.refused)}; "
            f"receipts: {self.receipts_sent} sent, {self.receipts_acknowledged} acknowledged, "
            f"{self.receipts_lost} lost; answers: {self.answers_sent}"
        )

    def flush(self) -> None:
        if self._ids_file is not None:
            self._ids_file.flush()
