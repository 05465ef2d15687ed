"""Unsubscribes by mail: who writes to the address of List-Unsubscribe (RFC 2369) leaves, as by its link."""

from collections.abc import Mapping

from engine.base.metrics import Metrics
from engine.feedback.known import Known
from engine.feedback.suppressor import Suppressor
from engine.message.link_token import Kind, LinkTokens, of_local_part
from engine.storage.events.event import Event


class Leaving:
    """The token in the local part says who, and of which message. `reload` before anything else."""

    def __init__(self, known: Known, suppressor: Suppressor, metrics: Metrics) -> None:
        self._unsubscribes = metrics.unsubscribes
        self._known = known
        self._suppressor = suppressor

    def reload(self, keys: Mapping[int, bytes]) -> None:
        """keys: of link tokens. Use these from now on."""
        self._tokens = LinkTokens(keys)

    async def left(self, address: str, sender: str, at: float, answer: str) -> Event | None:
        """His suppression is durable, and the event is to be; None: the address has no token of ours.

        address: written to. answer: the id of what was written. Raises StorageError.
        """
        token = self._tokens.read(Kind.UNSUBSCRIBE, of_local_part(address.rpartition("@")[0]))
        sent = self._known.message(token.message) if token is not None else None
        if token is None or sent is None or token.recipient >= len(sent.recipients):
            return None
        recipient = sent.recipients[token.recipient]
        if not recipient:
            return None
        new = await self._suppressor.judge(
            recipient, sent.tenant, sent.stream, "unsubscribe", "unsubscribe: mailto", at, True, message=sent.id
        )
        self._unsubscribes.labels("mailto", "done" if new is not None else "kept").inc()
        return Event(
            id="", at=int(at * 1000) / 1000, type="unsubscribed", message=sent.id, message_class="", sender=sender,
            recipient=recipient, destination=address, kind="mailto", proof="token", answer=answer,
            reply="" if new is not None else "he had left already", tenant=sent.tenant,
            stream=sent.stream, batch=sent.batch,
        )  # fmt: skip
