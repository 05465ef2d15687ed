"""The tables [tracking], [[click_domain]] and [ledger]: links that tell of clicks, and what is kept to know them by."""

from typing import Literal

import msgspec

from engine.base.units import Duration, Size

TrackLevel = Literal["none", "anonymous", "full"]


class Tracking(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Links of mail lead by way of us; on where there is a base_url and the level is not none."""

    base_url: str = ""  #: "https://click.example.org"; what links begin with
    level: TrackLevel = "none"  #: the most that is told of a click; a message may ask for less
    keys: tuple[str, ...] = ()  #: "2:hex", the first one signs; none: a file in data_dir
    text_links: bool = False  #: links of plain text, too
    opens: bool = False  #: a picture of one pixel tells that a message was opened
    honeypot: bool = False  #: a hidden link that only machines follow
    unsubscribe: bool = True  #: List-Unsubscribe fields of bulk mail (RFC 8058), where there is a base_url
    unsubscribe_mailto: str = ""  #: domain of an [[inbound]] where it is asked for by mail, too
    expire_after: Duration = Duration(365 * 86400)  #: then a link leads nowhere
    sms_url: str = ""  #: the short one, for SMS
    proxies: tuple[str, ...] = ()  #: networks whose X-Forwarded-For is believed
    scanners_file: str = "scanners.toml"  #: relative to the settings file
    verdict_after: Duration = Duration(6)  #: a hit without a sure sign of a machine is `unsure` so long
    corrected_for: Duration = Duration(60)  #: since a hit; later evidence does not change its verdict
    many_recipients: int = 10  #: one address that asks for the links of so many within a minute is a machine
    max_connections: int = 1000  #: of clients of links, in all; from one address as many as [intake] says
    separate: bool = False  #: listeners of kind tracking are those of `postrider redirect`, not of the daemon


def content_number_s(expire_after: float) -> float:
    """How long a content that is counted without its recipients keeps its number, whose age is that of its links."""
    return min(86400.0, expire_after / 8)


class ClickDomain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What links of one tenant begin with."""

    tenant: str
    base_url: str
    sms_url: str = ""


class LedgerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was sent, to be known again when something about it comes back."""

    segment_bytes: Size = Size(32 << 20)
    keep: Duration = Duration(90 * 86400)  #: or as long as links live, if that is longer and tracking is on
