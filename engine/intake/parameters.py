"""The parameters of MAIL and RCPT (RFC 1870, 3461, 6152, 6531; AUTH= of RFC 4954), parsed and checked."""

import re
from collections.abc import Callable

from engine.base.errors import EngineError
from engine.intake.admission import Submission
from engine.message.envelope import Notify

_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*+")
_ESCAPED = re.compile(r"\+([0-9A-F]{2})")
#: utf-8-addr-xtext of RFC 6533 3; in SMTPUTF8 sessions 8-bit characters may stand for themselves.
_UTF8_TEXT = re.compile(r"(?:[!-*,-<>-\[\]-~\u00a0-\ud7ff\ue000-\U0010ffff]|\\x\{[0-9A-F]{2,6}\})*+")
_UTF8_ESCAPED = re.compile(r"\\x\{([0-9A-F]{2,6})\}")
_ATOM = re.compile(r"[A-Za-z0-9-]{1,64}")
_MAX_ENVID = 100  # characters of xtext, RFC 3461 4.4
_MAX_ORCPT = 500  # RFC 3461 4.2
_MAX_SIZE_DIGITS = 20  # RFC 1870 3
_NOTIFY = {"SUCCESS": Notify.SUCCESS, "FAILURE": Notify.FAILURE, "DELAY": Notify.DELAY}


class ParameterError(EngineError):
    """A parameter that is unknown or wrong. `reply`: "501 5.5.4 ..."."""

    def __init__(self, reply: str) -> None:
        super().__init__(reply)
        self.reply = reply


def mail_parameters(text: str, submission: Submission, max_bytes: int) -> None:
    """Take the parameters of MAIL into the submission. text: what follows the path. Raises ParameterError."""
    if text.startswith(" SIZE=") and text.isascii() and text[6:].isdigit() and len(text) < _MAX_SIZE_DIGITS:
        # The one that nearly every client sends, alone.
        if int(text[6:]) > max_bytes:
            raise ParameterError(f"552 5.3.4 The message is larger than {max_bytes} bytes")
        return
    for name, value in _parsed(text):
        handler = _MAIL.get(name)
        if handler is None:
            raise ParameterError(f"555 5.5.4 Unsupported parameter {name}")
        handler(value, submission)
        if name == "SIZE" and int(value) > max_bytes:
            raise ParameterError(f"552 5.3.4 The message is larger than {max_bytes} bytes")


def rcpt_parameters(text: str, smtputf8: bool) -> tuple[int, str]:
    """NOTIFY as bits and ORCPT decoded, of RCPT's parameters. Raises ParameterError."""
    notify, orcpt = 0, ""
    for name, value in _parsed(text):
        if name == "NOTIFY":
            notify = _notify(value)
        elif name == "ORCPT":
            orcpt = _orcpt(value, smtputf8)
        else:
            raise ParameterError(f"555 5.5.4 Unsupported parameter {name}")
    return notify, orcpt


def decode_xtext(text: str) -> str:
    """xtext of RFC 3461 4, decoded to printable ASCII. Raises ValueError."""
    if not _XTEXT.fullmatch(text):
        raise ValueError("not xtext")
    decoded = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text) if "+" in text else text
    # A CR, LF or 8-bit byte in disguise would come out again in a notification's header.
    if decoded and not (decoded.isascii() and decoded.isprintable()):
        raise ValueError("xtext hides a control character")
    return decoded


def _parsed(text: str) -> list[tuple[str, str]]:
    """Names in upper case with values; each name once."""
    if not text.startswith(" "):
        raise ParameterError("501 5.5.4 Malformed parameter")
    parameters = []
    for word in text.split(" "):
        if word:
            name, equals, value = word.partition("=")
            if not _ATOM.fullmatch(name) or (equals and not value):
                raise ParameterError("501 5.5.4 Malformed parameter")
            parameters.append((name.upper(), value))
    if len(parameters) > 1 and len({name for name, _ in parameters}) < len(parameters):
        raise ParameterError("501 5.5.4 A parameter is given twice")
    return parameters


def _size(value: str, submission: Submission) -> None:
    if not (value.isascii() and value.isdigit()) or len(value) > _MAX_SIZE_DIGITS:
        raise ParameterError("501 5.5.4 SIZE takes a number of bytes")


def _body(value: str, submission: Submission) -> None:
    # The content itself says which of the two it is.
    if value.upper() not in ("7BIT", "8BITMIME"):
        raise ParameterError("501 5.5.4 BODY is 7BIT or 8BITMIME")


def _smtputf8(value: str, submission: Submission) -> None:
    if value:
        raise ParameterError("501 5.5.4 SMTPUTF8 takes no value")
    submission.smtputf8 = True


def _ret(value: str, submission: Submission) -> None:
    if value.upper() not in ("FULL", "HDRS"):
        raise ParameterError("501 5.5.4 RET is FULL or HDRS")
    submission.ret = value.upper()


def _envid(value: str, submission: Submission) -> None:
    try:
        submission.envid = decode_xtext(value) if len(value) <= _MAX_ENVID else ""
    except ValueError as exc:
        raise ParameterError("501 5.5.4 ENVID is not xtext") from exc
    if not submission.envid:
        raise ParameterError("501 5.5.4 ENVID is empty or longer than 100 characters")


def _auth(value: str, submission: Submission) -> None:
    """RFC 4954 5: taken note of nowhere, as from clients that are not trusted with it."""
    if not _XTEXT.fullmatch(value) or not value:
        raise ParameterError("501 5.5.4 AUTH is not xtext")


_MAIL: dict[str, Callable[[str, Submission], None]] = {
    "SIZE": _size,
    "BODY": _body,
    "SMTPUTF8": _smtputf8,
    "RET": _ret,
    "ENVID": _envid,
    "AUTH": _auth,
}


def _notify(value: str) -> int:
    words = value.upper().split(",")
    if words == ["NEVER"]:
        return Notify.NEVER
    bits = 0
    for word in words:
        if word not in _NOTIFY:
            raise ParameterError("501 5.5.4 NOTIFY is NEVER alone, or of SUCCESS, FAILURE, DELAY")
        bits |= _NOTIFY[word]
    return bits


def _orcpt(value: str, smtputf8: bool) -> str:
    kind, semicolon, text = value.partition(";")
    if not semicolon or not text or not _ATOM.fullmatch(kind) or len(value) > _MAX_ORCPT:
        raise ParameterError("501 5.5.4 ORCPT is type;address in xtext, of at most 500 characters")
    try:
        if kind.lower() == "utf-8":
            return f"utf-8;{_decode_utf8_text(text, smtputf8)}"
        return f"{kind};{decode_xtext(text)}"
    except ValueError as exc:
        raise ParameterError("501 5.5.4 ORCPT is not xtext") from exc


def _decode_utf8_text(text: str, smtputf8: bool) -> str:
    if not _UTF8_TEXT.fullmatch(text) or not (smtputf8 or text.isascii()):
        raise ValueError("not utf-8-addr-xtext")
    decoded = _UTF8_ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)
    if not decoded.isprintable():
        raise ValueError("hides a control character")
    return decoded
