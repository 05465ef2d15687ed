"""Channels, and destinations that are no mail domain: a carrier, an application, a box of an [[inbound]] domain.

No mail domain has a colon in it.
"""

from typing import Final, Literal

#: `Envelope.channel` of an SMS.
CHANNEL: Final = "sms"
_CARRIER: Final = "sms:"
_ACCOUNT: Final = "account:"
_BOX: Final = "box:"


def carrier_key(name: str) -> str:
    """The destination of what a carrier is to have."""
    return _CARRIER + name


def account_key(system_id: str) -> str:
    """The destination of what an application is to have."""
    return _ACCOUNT + system_id


def box_key(domain: str) -> str:
    """The destination of what people wrote to an [[inbound]] domain, where it is not forwarded."""
    return _BOX + domain


def is_forward(replies: str) -> bool:
    """Whether `replies` of an [[inbound]] domain is an address: no URL, and no folder."""
    return "@" in replies and "/" not in replies


def channel_of(destination: str) -> tuple[Literal["mail", "carrier", "account", "box"], str]:
    """What kind of destination it is, and its name."""
    if destination.startswith(_BOX):
        return "box", destination[len(_BOX) :]
    if destination.startswith(_CARRIER):
        return "carrier", destination[len(_CARRIER) :]
    if destination.startswith(_ACCOUNT):
        return "account", destination[len(_ACCOUNT) :]
    return "mail", destination


def goes_by(destination: str, way: str) -> bool:
    """Whether what is for a destination can be sent by a way: mail by "host:port", SMS by "sms:NAME", all by "", the
    route.
    """
    return not way or channel_of(destination)[0] == channel_of(way)[0]
