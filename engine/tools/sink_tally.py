"""What the test MX received: counts, and copies of the messages if asked for."""

import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

#: Pairs of message id and recipient remembered to find duplicates: 100 MiB at most.
REMEMBERED = 1_000_000


class Tally:
    """Counts of one sink. A duplicate is a message id seen before for the same recipient.

    The id is the header field X-Load-Id, else Message-ID. `ids_file` gets a line `ID RECIPIENT` for each pair.
    """

    def __init__(self, ids_file: TextIO | None = None, remembered: int = REMEMBERED) -> None:
        self.connections = self.open = self.max_open = self.refused_connections = self.tls = 0
        self.messages = self.recipients = self.unique = self.duplicates = self.without_id = self.bytes = 0
        self.dropped = self.protocol_errors = 0
        self.refused: Counter[str] = Counter()
        self.first_at = self.last_at = 0.0
        self._seen: dict[bytes, None] = {}
        self._remembered = remembered
        self._ids_file = ids_file

    def connected(self) -> None:
        self.connections += 1
        self.open += 1
        self.max_open = max(self.max_open, self.open)

    def received(self, message_id: bytes, recipients: Sequence[str], size: int) -> None:
        """One accepted message."""
        now = time.time()
        if not self.messages:
            self.first_at = now
        self.last_at = now
        self.messages += 1
        self.recipients += len(recipients)
        self.bytes += size
        if not message_id:
            self.without_id += 1
            return
        for recipient in recipients:
            pair = b"%b %b" % (message_id, recipient.encode("utf-8", "surrogateescape"))
            if pair in self._seen:
                self.duplicates += 1
                continue
            self.unique += 1
            self._seen[pair] = None
            if len(self._seen) > self._remembered:
                del self._seen[next(iter(self._seen))]
            if self._ids_file is not None:
                self._ids_file.write(pair.decode("utf-8", "backslashreplace") + "\n")

    def as_dict(self) -> dict[str, object]:
        """For the status file and the final line. Times are unix seconds; rate is between first and last message."""
        seconds = self.last_at - self.first_at
        return {
            "messages": self.messages,
            "recipients": self.recipients,
            "unique": self.unique,
            "duplicates": self.duplicates,
            "without_id": self.without_id,
            "bytes": self.bytes,
            "connections": self.connections,
            "open": self.open,
            "max_open": self.max_open,
            "refused_connections": self.refused_connections,
            "tls": self.tls,
            "refused": dict(self.refused),
            "dropped": self.dropped,
            "protocol_errors": self.protocol_errors,
            "first_at": round(self.first_at, 6),
            "last_at": round(self.last_at, 6),
            "rate": round(self.messages / seconds, 1) if seconds > 0 else 0.0,
        }

    def as_text(self) -> str:
        return (
            f"{self.messages} messages for {self.recipients} recipients over {self.connections} connections; "
            f"{self.unique} unique, {self.duplicates} duplicates, refused: {dict(self.refused)}"
        )

    def flush(self) -> None:
        if self._ids_file is not None:
            self._ids_file.flush()


class Shelf:
    """Received messages as files: NUMBER.eml, the content as it came (dot-stuffing undone), NUMBER.json, the envelope.

    A message is written under a temporary name and renamed last, so that who sees the .eml finds all of it.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        taken = [int(path.stem) for path in directory.glob("*.eml") if path.stem.isdigit()]
        self._number = max(taken, default=0)

    def put(self, envelope: dict[str, object], content: bytes) -> Path:
        self._number += 1
        path = self._directory / f"{self._number:08d}.eml"
        path.with_suffix(".json").write_text(json.dumps(envelope, ensure_ascii=False, indent=1) + "\n", "utf-8")
        path.with_suffix(".tmp").write_bytes(content)
        os.replace(path.with_suffix(".tmp"), path)
        return path


#: Usual spellings first: folding the case of every header would cost more than the rest of the sink.
_ID_FIELDS = (b"X-Load-Id:", b"Message-ID:", b"Message-Id:")


def message_id_of(content: bytes | bytearray) -> bytes:
    """X-Load-Id of a content, else its Message-ID, else b"". Looks at the first 16 KiB of the header only."""
    end = content.find(b"\r\n\r\n", 0, 16384)
    head = content[: end if end >= 0 else 16384]
    for name in _ID_FIELDS:
        if found := _field(head, name):
            return found
    folded = bytes(head).lower()
    return _field(folded, b"x-load-id:") or _field(folded, b"message-id:")


def _field(head: bytes | bytearray, name: bytes) -> bytes:
    start = 0 if head.startswith(name) else head.find(b"\r\n" + name) + 2
    if start == 1:
        return b""
    stop = head.find(b"\r\n", start)
    return bytes(head[start + len(name) : stop if stop >= 0 else len(head)]).strip()
