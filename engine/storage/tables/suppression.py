"""An address that must not be sent to: what is known of it, and the numbers it is looked up by.

A *person* is an address or a number of one channel, as a keyed hash; an *entry* is a person and a scope. Rows keep both
numbers, the filter in memory keeps entries. So a row without its address, of somebody who was erased, suppresses like
any other, and nobody reads the address from it who has not the key (`KEY_NAME` in data_dir, 0600).

63 bits: SQLite's integers have a sign. Among ten million entries a stranger is taken for one of them once in 10^12.
"""

import enum
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from engine.base.errors import StorageError
from engine.storage.secrets import KEY_BYTES, read_keys

KEY_NAME = "suppression.key"
MAIL, SMS = "mail", "sms"
_MAX_EVIDENCE = 500
#: A term that ends so much earlier is as long: several of one hour are no reason for as many rows.
NEARLY_S = 86400.0
_SALTS = 10_000  #: scopes whose numbers are remembered


class Cause(enum.StrEnum):
    """Why. On disk: never rename."""

    HARD_BOUNCE = "hard-bounce"  #: there is no such address
    COMPLAINT = "complaint"  #: called spam
    UNSUBSCRIBE = "unsubscribe"
    STOP = "stop"  #: the word, from a phone
    MANUAL = "manual"
    ERASED = "erased"  #: nothing is kept of the person but the hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppression:
    """One row. address: as `comparable` or `sms_key` writes it; "" of somebody erased, whom `person` names.

    tenant, stream: the scope. Both empty: everything; a tenant: what he sends; a tenant's stream: that. A stream of SMS
    is a sender id, whoever sends. since, until: unix seconds; until 0: for good. evidence: what was said, one line;
    message: the id of the message or answer it is about. who: decided it.
    """

    address: str
    channel: str = MAIL
    tenant: str = ""
    stream: str = ""
    cause: Cause
    since: float
    until: float = 0.0
    evidence: str = ""
    message: str = ""
    who: str = ""
    person: int = 0

    @property
    def scope(self) -> str:
        return "stream" if self.stream else "tenant" if self.tenant else "global"


def of_leaving(row: Suppression, held: Iterable[Suppression]) -> Suppression | None:
    """What is to be written of somebody who leaves; None: he has left already, in this very scope and for as long.

    held: all that holds of him. What holds for another cause, or wider, is none of his doing and may be lifted without
    him: his own row stands beside it. In its scope the last row holds, so that it never ends before the one it follows.
    """
    for each in held:
        if each.cause is Cause.ERASED:
            return None  # nothing may name him, and nothing reaches him
        if (each.tenant, each.stream) == (row.tenant, row.stream):
            if each.cause is row.cause and _as_long(each.until, row.until):
                return None
            return row if not row.until or 0 < each.until <= row.until else replace(row, until=each.until)
    return row


def _as_long(until: float, wanted: float) -> bool:
    return not until or 0 < wanted - NEARLY_S <= until


def sms_key(number: str) -> str:
    """A number, or a sender id, as it is compared: no "+", since carriers leave it out, and one case."""
    return number.removeprefix("+").casefold()


def one_line(text: str) -> str:
    """Evidence that can be stored and shown: printable, and of bounded length."""
    if text.isprintable() and len(text) <= _MAX_EVIDENCE:
        return text
    shown = text.encode("utf-8", "replace").decode()[: _MAX_EVIDENCE * 2]
    return " ".join("".join(c if c.isprintable() else " " for c in shown).split())[:_MAX_EVIDENCE]


class Hasher:
    """The numbers of persons and scopes, under the key of a data directory."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        #: What a person's hash begins with: to be copied.
        self.channels = {channel: self._start(channel) for channel in (MAIL, SMS)}
        self._salts: dict[tuple[str, str], int] = {("", ""): 0}
        #: Tells whether another key made a table, without giving it away.
        self.fingerprint = self._start("fingerprint").hexdigest()[:8]

    def person(self, channel: str, address: str) -> int:
        """address: as it is compared."""
        made = self.channels[channel].copy()
        made.update(address.encode("utf-8", "surrogatepass"))
        return int.from_bytes(made.digest()) >> 1

    def salt(self, tenant: str, stream: str) -> int:
        """What makes the entry of a scope from a person, by exclusive or; 0 of the scope that is everything."""
        salt = self._salts.get((tenant, stream))
        if salt is None:
            made = self._start("scope")
            for text in (tenant, stream):
                data = text.encode("utf-8", "surrogatepass")
                made.update(b"%d:%b" % (len(data), data))
            salt = int.from_bytes(made.digest()) >> 1
            if len(self._salts) < _SALTS:
                self._salts[tenant, stream] = salt
        return salt

    def person_of(self, row: Suppression) -> int:
        return row.person or self.person(row.channel, row.address)

    def _start(self, purpose: str) -> "hashlib.blake2s":
        return hashlib.blake2s(purpose.encode() + b"\0", key=self._key, digest_size=8)


def load_key(data_dir: Path) -> Hasher:
    """With the key of this directory, made if there is none. Raises StorageError.

    There is one: with another nothing would be found again.
    """
    path = data_dir / KEY_NAME
    keys = list(read_keys(path).values())
    if len(keys) != 1 or len(keys[0]) != KEY_BYTES:
        raise StorageError(f"{path} is not one key of {KEY_BYTES} bytes")
    return Hasher(keys[0])
