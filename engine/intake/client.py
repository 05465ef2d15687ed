"""Who is at the other end of a session, as far as the network, a proxy or XCLIENT told."""

import re

from engine.intake.policy import Address

#: What may follow EHLO: host names (also the bad ones of real clients), address literals. Goes into Received.
_HELO = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")

UNKNOWN = "unknown"


def valid_helo(name: str) -> bool:
    """Whether a client may call itself so."""
    return _HELO.fullmatch(name) is not None


class Client:
    """Name and address of a client; login is only what XCLIENT claimed for it."""

    __slots__ = ("address", "esmtp", "helo", "login", "name")

    def __init__(self, address: Address) -> None:
        self.address = address
        self.name = UNKNOWN  #: until reverse.py or XCLIENT says better
        self.login = ""
        self.helo = ""  # of XCLIENT; else EHLO says
        self.esmtp = True

    def __str__(self) -> str:
        return f"{self.name}[{self.address}]"

    def trace(self, helo: str, node: str, protocol: str) -> bytes:
        """The beginning of the value of Received (RFC 5321 4.4), up to the id."""
        literal = f"IPv6:{self.address}" if self.address.version == 6 else str(self.address)
        return f"from {helo} ({self.name} [{literal}])\r\n\tby {node} with {protocol} id ".encode("ascii", "replace")


def protocol_name(esmtp: bool, smtputf8: bool, tls: bool, authenticated: bool) -> str:
    """The word after "with" (RFC 3848, RFC 6531 4.3): SMTP, ESMTPSA, UTF8SMTPS, ..."""
    if not esmtp:
        return "SMTP"
    return f"{'UTF8SMTP' if smtputf8 else 'ESMTP'}{'S' if tls else ''}{'A' if authenticated else ''}"
