"""Command lines of an SMTP client, each argument checked before a byte is made of it.

No CR, LF, NUL, other control character, or angle bracket that is not quoted and escaped gets into any argument;
whoever asks for one gets InvalidArgument, and nothing has been sent. Everything returned ends in CRLF.
"""

import base64
import re
from typing import Final

from mypy_extensions import mypyc_attr

from engine.base.errors import EngineError

#: RFC 3461 4.2 and 4.4: longer ones are not passed on.
MAX_ENVID: Final = 100
MAX_ORCPT: Final = 500

# What most addresses are made of; the rest is looked at character by character.
_PLAIN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9.-]+")
# A quoted local part without control characters.
_QUOTED: Final = re.compile(r'"(?:[^"\\\x00-\x1f\x7f-\x9f]|\\[^\x00-\x1f\x7f-\x9f])*+"')
_BARE_BRACKET: Final = re.compile(r"(\\.)|([<>])")
_LOOSE: Final = re.compile(r'[^"\\<>()\s,;\x00-\x1f\x7f-\x9f]+')
_HOST: Final = re.compile(r"[A-Za-z0-9_.:\[\]-]+")
_KEYWORD: Final = re.compile(r"[A-Za-z0-9-]+")
_NOTIFY: Final = ((1, "NEVER"), (2, "SUCCESS"), (4, "FAILURE"), (8, "DELAY"))


@mypyc_attr(native_class=False)
class InvalidArgument(EngineError):
    """An argument that must not be sent; the text says which and why."""


def address(text: str) -> bytes:
    """A forward or reverse path without its brackets; "" is the null sender. UTF-8 where not ASCII.

    A bracket in a quoted local part is written as a quoted pair: the same mailbox (RFC 5321 4.1.2), and no server
    that looks for the first ">" is misled.
    """
    if _PLAIN.fullmatch(text) or not text:
        return text.encode("ascii")
    local, rest = "", text
    if text.startswith('"'):
        quoted = _QUOTED.match(text)
        if quoted is None:
            raise InvalidArgument(f"unsafe quoted local part in {text!r}")
        local = _BARE_BRACKET.sub(lambda found: found[1] or "\\" + found[2], quoted[0])
        rest = text[quoted.end() :]
    if not _LOOSE.fullmatch(rest):
        raise InvalidArgument(f"unsafe character in address {text!r}")
    try:
        return (local + rest).encode("utf-8")
    except UnicodeEncodeError as exc:
        raise InvalidArgument(f"address {text!r} is not text") from exc


def hello(verb: str, name: str) -> bytes:
    """EHLO or HELO with our name or address literal."""
    if not _HOST.fullmatch(name):
        raise InvalidArgument(f"unsafe EHLO name {name!r}")
    return f"{verb} {name}\r\n".encode("ascii")


def mail(
    sender: str,
    *,
    size: int | None = None,
    body: str = "",
    smtputf8: bool = False,
    ret: str = "",
    envid: str = "",
) -> bytes:
    """MAIL with the parameters given; the caller has looked up which of them the server offers. envid: decoded."""
    line = b"MAIL FROM:<" + address(sender) + b">"
    if size is not None:
        line += b" SIZE=%d" % size
    if body:
        line += b" BODY=" + _keyword(body)
    if smtputf8:
        line += b" SMTPUTF8"
    if ret:
        line += b" RET=" + _keyword(ret)
    if envid:
        encoded = xtext(envid)
        if len(encoded) <= MAX_ENVID:
            line += b" ENVID=" + encoded
    return line + b"\r\n"


def rcpt(recipient: str, *, notify: int = 0, orcpt: str = "") -> bytes:
    """RCPT; notify: bits as in message.envelope.Notify, orcpt: decoded, "rfc822;ada@example.org"."""
    if not recipient:
        raise InvalidArgument("empty recipient")
    line = b"RCPT TO:<" + address(recipient) + b">"
    if notify:
        line += b" NOTIFY=" + ",".join(word for bit, word in _NOTIFY if notify & bit).encode("ascii")
    if orcpt:
        encoded = original_recipient(orcpt)
        if encoded and len(encoded) <= MAX_ORCPT:
            line += b" ORCPT=" + encoded
    return line + b"\r\n"


def _keyword(text: str) -> bytes:
    if not _KEYWORD.fullmatch(text):
        raise InvalidArgument(f"unsafe parameter value {text!r}")
    return text.encode("ascii")


def xtext(text: str) -> bytes:
    """RFC 3461 4: printable ASCII but "+", "=" and angle brackets as it is, every other byte as +XX."""
    return b"".join(
        bytes((byte,)) if 33 <= byte <= 126 and byte not in b"+=<>" else b"+%02X" % byte
        for byte in text.encode("utf-8", "replace")
    )


def original_recipient(text: str) -> bytes:
    """The value of ORCPT: the type as it is, the address in xtext, or as RFC 6533 3 asks where it is not ASCII.

    b"": it cannot be sent (no type, or no way to write it in that type); ORCPT is a courtesy, the mail goes out.
    """
    kind, separator, value = text.partition(";")
    if not separator or not value or not _KEYWORD.fullmatch(kind):
        return b""
    if value.isascii() and kind.lower() != "utf-8":
        return kind.encode("ascii") + b";" + xtext(value)
    if kind.lower() != "utf-8" or "<" in value or ">" in value:
        return b""
    return b"utf-8;" + "".join(_utf8_xchar(char) for char in value).encode("ascii")


def _utf8_xchar(char: str) -> str:
    """RFC 6533 3: utf-8-addr-xtext, which passes through servers with or without SMTPUTF8."""
    return char if "!" <= char <= "~" and char not in "+=\\" else f"\\x{{{ord(char):X}}}"


def auth_plain(username: str, password: str) -> bytes:
    """AUTH PLAIN with the initial response (RFC 4616)."""
    if "\0" in username or "\0" in password:
        raise InvalidArgument("NUL in credentials")
    return b"AUTH PLAIN " + base64.b64encode(f"\0{username}\0{password}".encode()) + b"\r\n"


def auth_answer(text: str) -> bytes:
    """One answer of AUTH LOGIN."""
    return base64.b64encode(text.encode()) + b"\r\n"
