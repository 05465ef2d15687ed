"""The sender that a receiver is told, where reports are to come back to us: one for each recipient.

Chosen at the last moment, like a signature: the sender that the client gave stays with the message, and hears of what
fails in the session.
"""

from collections.abc import Mapping

from msgspec.structs import replace

from engine.base.settings import Settings
from engine.message.address import AddressError, destination_of
from engine.message.envelope import Envelope
from engine.message.return_path import ReturnPaths

#: Goes with the message: of a complaint, providers send back the header, and often not the return path.
FIELD = "X-Postrider-Return"


class SenderPaths:
    """The rows of [[inbound]] that give mail a return path, and the keys."""

    def __init__(self, settings: Settings, keys: Mapping[int, bytes]) -> None:
        self.reload(settings, keys)

    def reload(self, settings: Settings, keys: Mapping[int, bytes]) -> None:
        """Use these from the next message on."""
        self._paths = ReturnPaths(keys)
        #: Whether anything can come back here: then it is noted what was sent.
        self._any = bool(settings.inbound)
        self._rows = tuple(row for row in settings.inbound if row.kind == "return-path" and row.signed)

    def domain_for(self, envelope: Envelope) -> str:
        """Where reports about this mail are to come; "": to its own sender, or to nobody."""
        if not self._rows or not envelope.sender:
            return ""
        try:
            sender = destination_of(envelope.sender)
        except AddressError:
            return ""
        for row in self._rows:
            if (not row.senders or sender in row.senders) and (not row.users or envelope.user in row.users):
                return row.domain
        return ""

    def notes(self, envelope: Envelope) -> bool:
        """Whether the ledger is to know it: a reply, a complaint or a bounce may be about it, and come here."""
        return self._any and bool(envelope.sender)

    def made(self, envelope: Envelope, index: int, domain: str) -> tuple[Envelope, bytes]:
        """The envelope that this recipient is sent, and a field for the header, with its CRLF."""
        sender = f"{self._paths.local_part(envelope.id, envelope.recipients[index].address)}@{domain}"
        return replace(envelope, sender=sender), f"{FIELD}: {sender}\r\n".encode()
