"""What an operator's word is about: everything, a destination, a tenant, a batch, a class, one message.

    *    example.net    sms:alpha    account:shop    tenant:acme    batch:spring-sale    class:bulk    0Hs7kQpf3Za2Wq

Matches rows of the table by a comparison of columns, whatever their number, and deliveries in hand one by one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, Self

from engine.base.errors import EngineError
from engine.message.address import AddressError, domain_to_ascii
from engine.message.channels import channel_of
from engine.message.envelope import MessageClass
from engine.message.ids import is_id, split_id
from engine.storage.spool.entry import Delivery
from engine.storage.spool.names import Names
from engine.storage.spool.spool import Spool
from engine.storage.spool.table import Rows, Table
from engine.storage.tables.queue_state import ALL

Kind = Literal["all", "destination", "tenant", "batch", "class", "message"]
_CLASSES = {c.name.lower(): int(c) for c in MessageClass}


class Rowed(Protocol):
    """What has rows: a spool that runs, or a part of one that does not."""

    @property
    def table(self) -> Table: ...
    @property
    def texts(self) -> dict[str, Names]: ...


@dataclass(frozen=True, slots=True)
class Scope:
    """name: of what the kind says; "" for all. `str` gives what `parse` reads."""

    kind: Kind
    name: str = ""

    @classmethod
    def parse(cls, text: str, spool: Spool | None) -> Self:
        """Raises EngineError: the text is none of these. A message must be queued.

        Without a spool, where nobody runs it: what looks like a message id is one.
        """
        if text == ALL:
            return cls("all")
        for kind in ("tenant", "batch"):
            if text.startswith(f"{kind}:"):
                if len(text) == len(kind) + 1:
                    raise EngineError(f"{text} needs a name behind it")
                return cls(kind, text[len(kind) + 1 :])
        if text.startswith("class:"):
            if text[6:] not in _CLASSES:
                raise EngineError(f"{text}: a class is transactional or bulk")
            return cls("class", text[6:])
        channel, name = channel_of(text)
        if channel != "mail":
            if not name or " " in name:
                raise EngineError(f"{text} is not the queue of a carrier or an account, sms:NAME or account:SYSTEM_ID")
            return cls("destination", text)
        if cls._is_queued(text, spool):
            return cls("message", text)
        try:
            return cls("destination", domain_to_ascii(text))
        except AddressError as exc:
            raise EngineError(f"{text}: no queued message and no domain name") from exc

    @classmethod
    def stored(cls, text: str) -> Self:
        """What `str` gave, whatever is queued now."""
        if text == ALL:
            return cls("all")
        kind, colon, name = text.partition(":")
        if colon and kind in ("tenant", "batch", "class", "message"):
            return cls(kind, name)  # type: ignore[arg-type]  # one of these literals
        return cls("destination", text)

    def __str__(self) -> str:
        if self.kind == "all":
            return ALL
        return self.name if self.kind == "destination" else f"{self.kind}:{self.name}"

    def holds(self, delivery: Delivery) -> bool:
        """Whether a delivery is in it."""
        message = delivery.message
        match self.kind:
            case "all":
                return True
            case "destination":
                return delivery.destination == self.name
            case "tenant":
                return message.tenant == self.name
            case "batch":
                return message.batch == self.name
            case "class":
                return message.message_class == _CLASSES[self.name]
            case "message":
                return message.id == self.name

    def rows(self, spool: Rowed, **more: int) -> Iterator[Rows]:
        """Rows in it, a slab at a time. more: values of further columns."""
        columns = self._columns(spool)
        return iter(()) if columns is None else spool.table.select(**columns, **more)

    def in_hand(self, spool: Spool) -> list[Delivery]:
        return [delivery for delivery in spool.in_hand if self.holds(delivery)]

    @staticmethod
    def _is_queued(text: str, spool: Spool | None) -> bool:
        if spool is None:
            return is_id(text)
        scope = Scope("message", text)
        return any(True for _ in scope.rows(spool)) or bool(scope.in_hand(spool))

    def _columns(self, spool: Rowed) -> dict[str, int] | None:
        """What the columns of its rows hold; None: there is no such row."""
        match self.kind:
            case "all":
                return {}
            case "class":
                return {"message_class": _CLASSES[self.name]}
            case "message":
                try:
                    packed, node = split_id(self.name)
                except ValueError:
                    return None
                number = spool.texts["node"].find(node)
                return None if number is None else {"id": packed, "node": number}
            case kind:
                number = spool.texts[kind].find(self.name)
                return None if number is None else {kind: number}
