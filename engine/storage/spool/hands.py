"""Deliveries in hand: those that are objects, until their end is durable; and the contents kept in memory for them."""

from engine.storage.spool.entry import Delivery, Message


class Hands:
    """deliveries: all of them. hot_bytes: of contents that may be kept in memory; the oldest go first."""

    def __init__(self, hot_bytes: int) -> None:
        self.deliveries: dict[Delivery, None] = {}
        self.hot_bytes = hot_bytes
        self._hot: dict[Message, None] = {}  #: oldest first
        self._used = 0

    @property
    def roomy(self) -> bool:
        """No content of those in hand has to go soon."""
        return self._used <= self.hot_bytes // 2

    def take(self, deliveries: list[Delivery], content_bytes: int) -> None:
        """All deliveries of one message that are in hand now, with so much of its content in memory."""
        for delivery in deliveries:
            self.deliveries[delivery] = None
        message = deliveries[0].message
        message.in_hand = len(deliveries)
        message.hot_bytes = content_bytes
        self._hot[message] = None
        self._used += content_bytes
        while self._used > self.hot_bytes:
            self.chill(next(iter(self._hot)))

    def let_go(self, delivery: Delivery) -> None:
        """It is a row, or gone."""
        del self.deliveries[delivery]
        message = delivery.message
        message.in_hand -= 1
        if not message.in_hand:
            self.chill(message)

    def chill(self, message: Message) -> None:
        """Forget a content in memory; the disk has it."""
        if message in self._hot:
            del self._hot[message]
            self._used -= message.hot_bytes
        message.hot = None
