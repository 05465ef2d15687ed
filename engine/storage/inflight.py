"""What is on the wire just now, in a file that a killed process leaves behind.

A slot of shared memory for each: written before a submit, cleared when its outcome is known, without any call to the
disk. After kill -9 the next start reads which deliveries may have been sent already, and what is told of them says so;
a slot of the dead process stays until its delivery is final, however many processes die before that. After a power cut
the file says what it said some seconds earlier.
"""

import mmap
import os
from pathlib import Path
from typing import Final

from engine.base.errors import StorageError

_SLOT_BYTES: Final = 24  # 14 characters of an id, a dot, a number, and perhaps this
_AGAIN: Final = b"+"
_SLOTS: Final = 65_536
_EMPTY: Final = bytes(_SLOT_BYTES)


class Inflight:
    """See above. before: slots of what dead processes had on the wire, by message id and delivery number. again: those
    of which a dead process had sent some for the second time."""

    def __init__(self, path: Path) -> None:
        """Raises StorageError."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                # Not a file with holes: a full disk would kill the process that writes into one.
                os.posix_fallocate(descriptor, 0, _SLOT_BYTES * _SLOTS)
                self._map = mmap.mmap(descriptor, _SLOT_BYTES * _SLOTS)
            finally:
                os.close(descriptor)
        except OSError as exc:
            raise StorageError(f"cannot use {path}: {exc.strerror}") from exc
        self.before: dict[tuple[str, int], int] = {}
        self.again: set[tuple[str, int]] = set()
        data = bytes(self._map)
        if any(data):
            for slot in range(_SLOTS):
                entry = data[slot * _SLOT_BYTES : (slot + 1) * _SLOT_BYTES]
                name, dot, number = entry.rstrip(b"\0").partition(b".")
                digits = number.removesuffix(_AGAIN)
                if dot and digits.isdigit() and name.isascii():
                    key = name.decode(), int(digits)
                    self.before[key] = slot
                    if digits != number:
                        self.again.add(key)
        # Some of them were settled just before the end, and nobody will ask: in the end their slots are needed.
        if len(self.before) > _SLOTS // 2:
            self.before.clear()
        kept = set(self.before.values())
        self._free = [slot for slot in range(_SLOTS - 1, -1, -1) if slot not in kept]
        if any(data):
            for slot in self._free:
                self._map[slot * _SLOT_BYTES : (slot + 1) * _SLOT_BYTES] = _EMPTY

    def enter(self, message_id: str, number: int) -> int:
        """Before it is sent: its slot; -1 if all are taken, which no window is wide enough for."""
        if not self._free:
            return -1
        slot = self._free.pop()
        self._write(slot, f"{message_id}.{number}".encode())
        return slot

    def enter_again(self, message_id: str, number: int) -> None:
        """Before what may have been sent is sent again: it keeps its slot."""
        self._write(self.before[message_id, number], f"{message_id}.{number}".encode() + _AGAIN)

    def leave(self, slot: int) -> None:
        """Its outcome is recorded."""
        if slot >= 0:
            self._map[slot * _SLOT_BYTES : (slot + 1) * _SLOT_BYTES] = _EMPTY
            self._free.append(slot)

    def doubt(self, slot: int, message_id: str, number: int) -> None:
        """Its outcome could not be recorded: what is in this slot may have been sent, as if that process were dead."""
        if slot >= 0:
            self.before[message_id, number] = slot

    def perhaps(self, message_id: str, number: int) -> bool:
        """Whether it may have been sent, and nobody recorded what became of that."""
        return (message_id, number) in self.before

    def forget(self, message_id: str, number: int) -> None:
        """Its end is recorded."""
        if self.before:
            self.leave(self.before.pop((message_id, number), -1))
            self.again.discard((message_id, number))

    def _write(self, slot: int, value: bytes) -> None:
        start = slot * _SLOT_BYTES
        self._map[start : start + _SLOT_BYTES] = value[:_SLOT_BYTES].ljust(_SLOT_BYTES, b"\0")

    def close(self) -> None:
        self._map.close()
