"""Whether a refusal is about us: it names what we said of ourselves, and so it tells nothing of the recipient.

What a receiver is told: the sender and its domain, or a return path of ours; the name of EHLO; and the address that the
connection came from. "User unknown" with one of them may be about the sender as well; an address that is not suppressed
costs one more refusal, a person who is, all his mail.
"""

import ipaddress
import re

from engine.base.settings import Settings
from engine.routing.targets import is_local

_BETWEEN = re.compile(r"[\s<>()\[\],;:\"'`]+")
_NAME = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)+")
_IP = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4})(?![\w:]|\.\d)")
_MOST_CHARS = 2000


class Ours:
    """Names and addresses of this node, by its settings."""

    def __init__(self, settings: Settings) -> None:
        sources = settings.source
        hosts = (settings.node.name, *(each.ehlo for each in sources), *(row.domain for row in settings.inbound))
        self._hosts = frozenset(host.lower() for host in hosts if host)
        self._addresses = frozenset(
            ipaddress.ip_address(text) for each in sources for text in (each.address, each.address6) if text
        )

    def are_in(self, reply: str, sender: str, recipient: str, remote: str = "", header_from: str = "") -> bool:
        """Whether a reply names us, and not only its recipient or who said it.

        sender: of the envelope, "" if it is not known. remote: who replied, as in an outcome. header_from: a domain.
        """
        text = reply[:_MOST_CHARS].lower()
        if recipient:
            text = text.replace(recipient.lower(), " ")
        sender = sender.lower()
        if sender and sender in [word.strip(".") for word in _BETWEEN.split(text)]:
            return True
        ours = {*self._hosts, sender.rpartition("@")[2], header_from}
        ours.discard(recipient.lower().rpartition("@")[2])
        if any(name in ours for name in _NAME.findall(text)):
            return True
        return any(self._is_address(found, remote) for found in _IP.findall(text))

    def _is_address(self, text: str, remote: str) -> bool:
        if f"[{text}]" in remote:
            return False
        try:
            ip = ipaddress.ip_address(text)
        except ValueError:
            return False
        return ip in self._addresses or (not ip.is_loopback and not ip.is_unspecified and is_local(ip))
