"""What came back and a person should see, handed on: into a folder, to a URL, or forwarded by mail.

A forward that is refused, or that nobody takes in time, goes into the folder (`Envelope.box`): nothing is lost.
"""

from email.utils import formatdate

from engine.base.metrics import Metrics
from engine.base.settings import Settings
from engine.feedback.arrival import Arrival
from engine.feedback.own import OwnMessages
from engine.intake.admission import Origin, Refused
from engine.intake.large import Incoming
from engine.message.address import destination_of
from engine.message.channels import box_key, is_forward
from engine.message.content import Content
from engine.message.envelope import Envelope, MessageClass, Recipient
from engine.message.headers import HeaderError, admit_header, reframe
from engine.storage.spool.spool import Spool


class HandOn:
    """See above. `reload` before anything else."""

    def __init__(self, spool: Spool, metrics: Metrics) -> None:
        self._spool = spool
        self._forwarded = metrics.forwarded.labels()
        self._own = OwnMessages(metrics)

    def reload(self, settings: Settings) -> None:
        """Use these from the next message on."""
        self._node = settings.node.name.encode()
        self._max_header_bytes, self._max_received = settings.intake.max_header_bytes, settings.intake.max_received
        self._expire_after = float(settings.retry.expire_after)

    async def whole(self, arrival: Arrival, content: bytes | Incoming, origin: Origin, framed: bool) -> None:
        """The whole message, to whom the settings say. Raises StorageError, Refused."""
        head = content.head if isinstance(content, Incoming) else content if framed else reframe(content)
        date = f"{formatdate(arrival.at)[:-5]}+0000".encode()
        received = b"Received: %b%b\r\n\tfor <%b>;\r\n\t%b\r\n" % (
            origin.trace, arrival.id.encode(), arrival.recipient.encode(), date
        )  # fmt: skip
        try:
            admitted = admit_header(
                head, received, b"Date: %b\r\n" % date, b"Message-ID: <%b@%b>\r\n" % (arrival.id.encode(), self._node),
                self._max_header_bytes, self._max_received, trusted=False,
            )  # fmt: skip
        except HeaderError as exc:
            raise Refused(exc.reason, exc.reply) from exc
        whole: Content = admitted.content if isinstance(content, bytes) else await content.finish(admitted.content)
        replies, domain = arrival.row.replies, arrival.row.domain
        forward = is_forward(replies)
        # Without a sender: there is nobody to tell of a failure, and no loop. The folder has as long again as the way.
        expires_at = arrival.at + self._expire_after * (2 if forward else 1)
        envelope = Envelope(
            id=arrival.id, sender="", recipients=(Recipient(replies if forward else arrival.recipient),),
            received_at=arrival.at, expires_at=expires_at, content_bytes=len(whole),
            message_class=int(MessageClass.TRANSACTIONAL), body="7BIT" if admitted.seven_bit else "8BITMIME",
            smtputf8=admitted.utf8_header, client=origin.client, header_from=admitted.header_from,
            box=domain if forward else "",
        )  # fmt: skip
        destination = destination_of(replies) if forward else box_key(domain)
        await self._spool.accept(envelope, whole, [(destination, (0,))])
        self._own.count(envelope.message_class)
        self._forwarded.inc()
