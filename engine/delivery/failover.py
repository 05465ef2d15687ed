"""Another carrier for what one cannot take now."""

from collections.abc import Sequence
from typing import Protocol

from engine.delivery.carriers import Carriers
from engine.message.channels import carrier_key, channel_of
from engine.message.envelope import Envelope
from engine.storage.spool.entry import Delivery


class Routes(Protocol):
    """routing.sms_routes.SmsRoutes."""

    def carriers(self, number: str, sender: str, message_class: int) -> Sequence[str]:
        """Names of those that may have it, the first to try first."""


class Failover:
    """Implements sms_agent.Alternatives."""

    def __init__(self, routes: Routes, carriers: Carriers) -> None:
        self.routes = routes
        self._carriers = carriers

    def next_for(self, delivery: Delivery, envelope: Envelope, refused: bool = False) -> str | None:
        """Another of those that may have all its recipients and can be sent to now.

        refused: by the one it is with. When there were as many attempts as there are carriers it waits, and does not go
        round and round.
        """
        _, now = channel_of(delivery.destination)
        common: list[str] = []
        for place, index in enumerate(delivery.indexes):
            may = self.routes.carriers(envelope.recipients[index].address, envelope.sender, envelope.message_class)
            common = [name for name in common if name in may] if place else list(may)
        if refused and delivery.attempts + 1 >= len(common):  # this attempt is not counted yet
            return None
        others = (name for name in common if name != now)
        return next((carrier_key(name) for name in others if self._carriers.healthy(name)), None)
