"""The carriers and their links: who is bound, which link an agent may use, what a reload changes."""

import asyncio
import hmac
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from engine.base.settings import Carrier, Settings
from engine.delivery.carrier_link import BindKind, CarrierLink
from engine.delivery.sms_pace import Pace
from engine.delivery.sms_ports import Incoming
from engine.delivery.sms_render import CarrierRules
from engine.net.outbox import Outbox
from engine.net.stream import TlsContexts
from engine.routing.routes import read_password

log = logging.getLogger(__name__)

_KINDS: dict[str, tuple[BindKind, ...]] = {
    "transceiver": ("transceiver",),
    "transmitter": ("transmitter",),
    "pair": ("transmitter", "receiver"),
}


@dataclass(slots=True)
class _Own:
    """A carrier. free: links that can send and have no agent. called: those that it has made itself."""

    row: Carrier
    rules: CarrierRules
    links: list[CarrierLink] = field(default_factory=list)
    free: list[CarrierLink] = field(default_factory=list)
    called: list[CarrierLink] = field(default_factory=list)

    @property
    def all(self) -> Sequence[CarrierLink]:
        return [*self.links, *self.called]


class Carriers:
    """See above. opened: told the name of a carrier that can be sent to again."""

    def __init__(
        self, settings: Settings, incoming: Incoming, outbox: Outbox, contexts: TlsContexts,
        opened: Callable[[str], None],
    ) -> None:  # fmt: skip
        """Raises ConfigError."""
        self._incoming = incoming
        self._outbox = outbox
        self._contexts = contexts
        self._opened = opened
        self._own = {row.name: self._made(row) for row in settings.carrier}
        self._stopping: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        for own in self._own.values():
            for link in own.links:
                link.start()

    async def reload(self, settings: Settings) -> None:
        """Carriers that changed are unbound, and bound anew. Raises ConfigError, and changes nothing."""
        made = {
            row.name: self._made(row)
            for row in settings.carrier
            if row.name not in self._own or self._own[row.name].row != row
        }
        staying = {row.name for row in settings.carrier} - made.keys()
        leaving = [own for name, own in self._own.items() if name not in staying]
        self._own = {row.name: made.get(row.name) or self._own[row.name] for row in settings.carrier}
        await asyncio.gather(*(link.stop() for own in leaving for link in own.all))
        for own in made.values():
            for link in own.links:
                link.start()

    async def stop(self) -> None:
        """Unbind all."""
        await asyncio.gather(*(link.stop() for own in self._own.values() for link in own.all))

    def rules(self, name: str) -> CarrierRules | None:
        """None: there is no such carrier any more."""
        own = self._own.get(name)
        return own.rules if own is not None else None

    def healthy(self, name: str) -> bool:
        """It can be sent to now."""
        own = self._own.get(name)
        return own is not None and any(link.bound and not link.stalled for link in own.links if link.sends)

    def stalled(self, name: str) -> bool:
        """It is bound, and takes nothing."""
        own = self._own.get(name)
        bound = [link for link in own.links if link.sends and link.bound] if own is not None else []
        return bool(bound) and all(link.stalled for link in bound)

    def revived(self, name: str) -> None:
        """It takes something again."""
        self._opened(name)

    def down(self, name: str) -> bool:
        """It cannot be sent to, and not only because it was not tried yet."""
        own = self._own.get(name)
        links = [link for link in own.links if link.sends] if own is not None else []
        return not any(link.bound for link in links) and all(link.attempts for link in links)

    def why_down(self, name: str) -> str:
        own = self._own.get(name)
        if own is None:
            return f"there is no [[carrier]] {name}"
        return next((link.reason for link in own.links if link.sends and link.reason), "all its binds are in use")

    def engage(self, name: str) -> CarrierLink | None:
        """A bound link for an agent alone, until it is released."""
        own = self._own.get(name)
        if own is None:
            return None
        link = next((link for link in own.free if link.bound), None)
        if link is not None:
            own.free.remove(link)
        return link

    def release(self, link: CarrierLink) -> None:
        link.pump = None
        own = self._own.get(link.row.name)
        if own is not None and link in own.links:
            own.free.append(link)

    def called(self, system_id: bytes, password: bytes, transport: asyncio.Transport) -> str:
        """Somebody has connected to us and said outbind: bind there if it is a carrier that may. Its name; "": it is
        none, or has as many such connections as binds already.
        """
        for own in self._own.values():
            row = own.row
            if row.outbind_system_id.encode() != system_id or not row.outbind_password:
                continue
            if len(own.called) < row.binds and hmac.compare_digest(row.outbind_password.encode(), password):
                own.called.append(own.links[0].answer(transport, own.called.remove))
                return row.name
        return ""

    def links(self) -> Sequence[CarrierLink]:
        """All, for operators."""
        return [link for own in self._own.values() for link in own.all]

    def _made(self, row: Carrier) -> _Own:
        own = _Own(row, CarrierRules(row))
        password = read_password(row.password_file) if row.password_file else row.password
        pace = Pace(row.rate)
        for _ in range(row.binds):
            for kind in _KINDS[row.bind]:
                link = CarrierLink(
                    row, kind, password, pace, self._incoming, self._outbox, self._contexts, self._changed
                )  # fmt: skip
                own.links.append(link)
                if link.sends:
                    own.free.append(link)
        return own

    def _changed(self, link: CarrierLink) -> None:
        if link.bound and link.sends:
            self._opened(link.row.name)
