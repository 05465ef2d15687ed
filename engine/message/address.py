"""Mail addresses as SMTP writes them (RFC 5321 4.1.2, RFC 6531 3.3).

Strict: what the grammar does not allow is refused here, so that nothing behind intake ever meets CR, LF, NUL, a stray
angle bracket or an undecodable byte in an address. Two liberties, both harmless: a trailing dot of the domain and a
source route are dropped.

A domain that is not ASCII is turned into its A-label form (xn--...) when the local part is ASCII, because then any
receiver can be told the address; with a UTF-8 local part it needs SMTPUTF8 anyway and stays as written.
"""

import ipaddress
import re
import unicodedata
from functools import lru_cache
from typing import Final

import idna
from mypy_extensions import mypyc_attr

from engine.base.errors import EngineError

_ATEXT: Final = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
#: Ordinary mailboxes in a path: one match instead of a walk. Possessive, so linear whatever comes.
_ORDINARY_PATH: Final = re.compile(rf"<([{_ATEXT}]++(?:\.[{_ATEXT}]++)*+)@([A-Za-z0-9.-]++)>")

#: C0 and C1 controls, line and paragraph separators, and lone surrogates, which are bytes that were not UTF-8.
_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_DOT_ATOM: Final = re.compile(rf"[{_ATEXT}\u00a0-\U0010ffff]++(?:\.[{_ATEXT}\u00a0-\U0010ffff]++)*+")
_QUOTED: Final = re.compile(r'"(?:[ !#-\[\]-~\u00a0-\U0010ffff]|\\[ -~])*+"')
_ROUTE: Final = re.compile(r"@[A-Za-z0-9.-]++(?:,@[A-Za-z0-9.-]++)*+:")
_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")

MAX_LOCAL_BYTES: Final = 64  # RFC 5321 4.5.3.1.1
MAX_DOMAIN_BYTES: Final = 255  # RFC 5321 4.5.3.1.2; the DNS's own limit is 253 characters in A-label form
_MAX_DNS_NAME: Final = 253


@mypyc_attr(native_class=False)
class AddressError(EngineError):
    """Not an address that can be used. `reply`: enhanced code and words, "5.1.3 ...", to go after 553."""

    def __init__(self, reply: str) -> None:
        super().__init__(reply)
        self.reply = reply


def parse_path(text: str, smtputf8: bool = False) -> tuple[str, str, str]:
    """The path that `text` starts with: (address, destination, what follows the closing bracket).

    text: the argument of MAIL or RCPT after FROM: or TO:. The null sender gives ("", "", rest), <postmaster> without
    a domain ("postmaster", "", rest). Raises AddressError.
    """
    match = _ORDINARY_PATH.match(text)
    if match is not None:
        local, domain = match.groups()
        if len(local) <= MAX_LOCAL_BYTES:
            as_sent, destination = _domain(domain)
            return f"{local}@{as_sent}", destination, text[match.end() :]
        raise AddressError("5.1.3 The local part is longer than 64 octets")
    inside, rest = _bracketed(text)
    if inside == "":
        return "", "", rest
    if inside.lower() == "postmaster":
        return "postmaster", "", rest
    address, destination = parse_mailbox(inside, smtputf8)
    return address, destination, rest


def has_controls(text: str) -> bool:
    """Whether something is in it that intake lets into no address."""
    return _FORBIDDEN.search(text) is not None


def parse_mailbox(text: str, smtputf8: bool = True) -> tuple[str, str]:
    """An address without brackets: (address as it will be sent, destination). Raises AddressError."""
    if has_controls(text):
        raise AddressError("5.1.3 The address contains a control character or bytes that are not UTF-8")
    if text.startswith("@"):
        route = _ROUTE.match(text)
        if route is None:
            raise AddressError("5.1.3 Malformed source route")
        text = text[route.end() :]
    local, domain = _split(text)
    if not text.isascii() and not smtputf8:
        raise AddressError("5.6.7 A non-ASCII address needs SMTPUTF8")
    if len(local.encode()) > MAX_LOCAL_BYTES:
        raise AddressError("5.1.3 The local part is longer than 64 octets")
    as_sent, destination = _domain(domain)
    if local.isascii():
        as_sent = as_sent if as_sent.isascii() else destination
    return f"{local}@{as_sent}", destination


def destination_of(address: str) -> str:
    """The key of the queue an address belongs to: its domain as A-labels in lower case without a trailing dot.

    A literal stays one: "[192.0.2.1]", "[IPv6:2001:db8::1]" in its shortest form. Raises AddressError.
    """
    return _domain(_split(address)[1])[1]


def comparable(address: str) -> str:
    """One spelling of an address: lower case, its domain as A-labels. Raises AddressError: it has no such domain.

    RFC 5321 2.4 lets a host tell "Ada" from "ada". None that matters does, and who is not to be written to must not be
    missed because a report spells him another way. Nor by quotes that are not needed: they are no part of a mailbox's
    name (RFC 5321 4.1.2), and neither are backslashes.
    """
    if address.startswith('"'):
        address = _unquoted(address)
    if address.isascii():
        return address.lower()
    local, at, domain = address.rpartition("@")
    return f"{unicodedata.normalize('NFC', local.lower())}{at}{domain_to_ascii(domain)}"


def _unquoted(address: str) -> str:
    """With as little quoting as the local part needs; what is no quoted string stays."""
    match = _QUOTED.match(address)
    if match is None or not address.startswith("@", match.end()):
        return address
    local, rest = _ESCAPED.sub(r"\1", match[0][1:-1]), address[match.end() :]
    if _DOT_ATOM.fullmatch(local):
        return local + rest
    kept = _SPECIAL.sub(r"\\\g<0>", local)
    return f'"{kept}"{rest}'


_ESCAPED: Final = re.compile(r"\\(.)")
_SPECIAL: Final = re.compile(r'["\\]')


def domain_to_ascii(domain: str) -> str:
    """A-labels, lower case, no trailing dot. Raises AddressError. domain_to_unicode is its inverse."""
    return _domain(domain)[1]


def domain_to_unicode(domain: str) -> str:
    """U-labels for people's eyes; a domain that is none in IDNA's view comes back as it is."""
    try:
        return str(idna.decode(domain)) if "xn--" in domain.lower() else domain
    except (idna.IDNAError, UnicodeError):
        return domain


def _bracketed(text: str) -> tuple[str, str]:
    """What stands between < and its >, quoted strings respected, and what follows."""
    if not text.startswith("<"):
        raise AddressError("5.1.3 The address must stand in angle brackets")
    at = 1
    while at < len(text):
        char = text[at]
        if char == ">":
            return text[1:at], text[at + 1 :]
        if char == '"':
            quoted = _QUOTED.match(text, at)
            if quoted is None:
                raise AddressError("5.1.3 Malformed quoted local part")
            at = quoted.end()
            continue
        if char in "< ":
            break
        at += 1
    raise AddressError("5.1.3 Malformed address")


def _split(text: str) -> tuple[str, str]:
    """Local part and domain. Raises AddressError."""
    match = _QUOTED.match(text) if text.startswith('"') else _DOT_ATOM.match(text)
    if match is None or not text.startswith("@", match.end()):
        if "@" not in text:
            raise AddressError("5.1.3 The address has no domain")
        raise AddressError("5.1.3 Malformed local part")
    return match[0], text[match.end() + 1 :]


@lru_cache(maxsize=8192)
def _domain(text: str) -> tuple[str, str]:
    """(domain as it will be sent, destination). Most mail of a moment goes to few domains: worth a cache."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_DOMAIN_BYTES:
        raise AddressError("5.1.3 The domain is longer than 255 octets")
    if text.startswith("["):
        literal = _literal(text)
        return literal, literal
    as_sent = text.removesuffix(".")
    try:
        if as_sent.isascii():
            ascii_form = as_sent.lower()
        else:
            ascii_form = idna.encode(as_sent, uts46=True).decode().lower()
            as_sent = str(idna.decode(ascii_form))  # one spelling: width and case folded
    except (idna.IDNAError, UnicodeError) as exc:
        raise AddressError("5.1.3 The domain is not a valid international name") from exc
    labels = ascii_form.split(".")
    if len(ascii_form) > _MAX_DNS_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise AddressError("5.1.3 Malformed domain")
    if labels[-1].isdigit():
        raise AddressError("5.1.3 An IP address must stand in square brackets")
    return as_sent, ascii_form


def _literal(text: str) -> str:
    """An address literal (RFC 5321 4.1.3) in one spelling."""
    inside = text[1:-1] if text.endswith("]") else ""
    try:
        if inside[:5].lower() == "ipv6:":
            if "%" not in inside:
                return f"[IPv6:{ipaddress.IPv6Address(inside[5:])}]"
        else:
            return f"[{ipaddress.IPv4Address(inside)}]"
    except ValueError:
        pass
    raise AddressError("5.1.3 Malformed address literal")
