"""The envelope: who sent a message, to whom, and what the client asked about reports (RFC 5321, RFC 3461)."""

import enum

import msgspec


class Notify(enum.IntFlag):
    """NOTIFY of RFC 3461 4.1. UNSET: the client said nothing, which means failure (and delay if asked by settings)."""

    UNSET = 0
    NEVER = 1
    SUCCESS = 2
    FAILURE = 4
    DELAY = 8


class MessageClass(enum.IntEnum):
    """What goes first. On disk and an index of queues: never renumber."""

    TRANSACTIONAL = 0
    BULK = 1


class Track(enum.IntEnum):
    """What links may tell of a message; the strictest first, so that the least of several holds. `Envelope.track`."""

    NONE = 0  #: nothing: they stay as they are
    ANONYMOUS = 1  #: that somebody clicked, not who
    FULL = 2  #: who

    @property
    def word(self) -> str:
        return self.name.lower()


class Recipient(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One RCPT. address: as it will be sent, no angle brackets, no source route. orcpt: decoded, `rfc822;...`."""

    address: str
    notify: int = 0
    orcpt: str = ""


class Envelope(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Everything about a message but its content. Stored in the spool as an array: only append fields, with defaults.

    sender: "" is the null sender. received_at, expires_at: unix seconds. content_bytes: length of the content.
    body: "7BIT", "8BITMIME" or "BINARYMIME" as declared or found. ret: "", "FULL" or "HDRS". envid: decoded.
    client: "name[address]" for log and Received. user: the authenticated login or "".
    """

    id: str
    sender: str
    recipients: tuple[Recipient, ...]
    received_at: float
    expires_at: float
    content_bytes: int
    message_class: int = 1
    body: str = "7BIT"
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    client: str = ""
    user: str = ""
    header_from: str = ""  #: domain of the From header, lower case: picks the DKIM key without another parse
    batch: str = ""  #: what the client calls the mailing this belongs to
    channel: str = ""  #: "": mail; channels.CHANNEL
    tenant: str = ""  #: on whose behalf the client sends; "": its own
    stream: str = ""  #: of the tenant's mail: what a recipient may leave without leaving the rest
    track: str = ""  #: a word of Track, as settings and client agreed when it was accepted; "": none
    box: str = ""  #: domain of [[inbound]] whose folder has it if it cannot be forwarded; "": it is no such forward

    @property
    def owner(self) -> str:
        """Whose message it is: the tenant that suppressions, queues and events name."""
        return self.tenant or self.user
