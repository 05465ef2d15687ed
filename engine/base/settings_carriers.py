"""What settings of carriers and of the applications that use them must satisfy: rules, checks, warnings.

Rules are as in settings_rules.py, checks as in settings_checks.py, which use these.
"""

import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.base.hostport import is_host_name, is_ip_address, is_loopback, parse_host_port
from engine.base.settings import Account, Carrier, Settings

Report = Callable[[str, str], None]
Rows = Sequence[tuple[int, Any]]
#: Fields of a bind (SMPP 3.4 5.2.1 to 5.2.3) less their NUL; a password may be longer than the 8 of the specification.
_MAX_SYSTEM_ID, MAX_SMPP_PASSWORD, _MAX_SYSTEM_TYPE = 15, 16, 12
#: The longest address (SMPP 3.4 5.2.8), less its NUL.
_MAX_ADDRESS = 20
#: Of a sender id: characters of a name (3GPP TS 23.040 9.1.2.5), and digits (E.164).
_MAX_NAME, _MAX_DIGITS = 11, 15
#: E.164: fifteen digits, the first of them not 0.
_PREFIX = re.compile(r"[1-9][0-9]{0,14}")
_PRICE = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")
#: Whose national tables there are (protocol/sms_shifts.py; a test compares the two).
LANGUAGES = ("tr", "es", "pt", "bn", "gu", "hi", "kn", "ml", "or", "pa", "ta", "te", "ur")


# ---- rules

_TAG = re.compile("0[xX][0-9A-Fa-f]{4}")


def carrier_name(value: str, base: Path) -> str:
    """Of a queue, a folder and a metric."""
    if not _is_word(value, 63):
        raise ValueError(f'"{value}" is not a name: 1 to 63 printable ASCII characters without spaces or ":"')
    return value


def account_id(value: str, base: Path) -> str:
    """The system_id of an application: what it binds with, and the name of its queue."""
    if not _is_word(value, _MAX_SYSTEM_ID):
        raise ValueError(
            f'"{value}" is not a system_id: 1 to {_MAX_SYSTEM_ID} printable ASCII characters without spaces or ":"'
        )
    return value


def system_id(value: str, base: Path) -> str:
    """Ours, as a carrier gave it."""
    if not (value and value.isascii() and value.isprintable() and len(value) <= _MAX_SYSTEM_ID):
        raise ValueError(f'"{value}" is not a system_id: 1 to {_MAX_SYSTEM_ID} printable ASCII characters')
    return value


def outbind_system_id(value: str, base: Path) -> str:
    return value and system_id(value, base)


def system_type(value: str, base: Path) -> str:
    if not (value.isascii() and value.isprintable()) or len(value) > _MAX_SYSTEM_TYPE:
        raise ValueError(f'"{value}" is not a system_type: at most {_MAX_SYSTEM_TYPE} printable ASCII characters')
    return value


def password(value: str, base: Path) -> str:
    """Never shown."""
    if len(value.encode()) > MAX_SMPP_PASSWORD:
        raise ValueError(f"{len(value.encode())} octets are too long for SMPP; {MAX_SMPP_PASSWORD} or less")
    if not value.isprintable():
        raise ValueError("control characters are not allowed")
    return value


def host(value: str, base: Path) -> str:
    if not (is_ip_address(value) or is_host_name(value)):
        raise ValueError(f'"{value}" is not a host: a name, or an IP address without brackets')
    return value.lower()


def tls(value: str | bool, base: Path) -> str:
    if isinstance(value, bool):
        return "verify" if value else "none"
    if value == "opportunistic":
        raise ValueError('"opportunistic" is nothing that SMPP has; "none", "encrypt" or "verify"')
    return value


def prefixes(value: tuple[str, ...], base: Path) -> tuple[str, ...]:
    return _each(value, _PREFIX.fullmatch, 'the first digits of international numbers, such as "44", without "+"')


def country(value: str, base: Path) -> str:
    return value and countries((value,), base)[0]


def countries(value: tuple[str, ...], base: Path) -> tuple[str, ...]:
    _each(value, _is_country, 'a country of two letters (ISO 3166), such as "GB"')
    return tuple(text.upper() for text in value)


def networks(value: tuple[str, ...], base: Path) -> tuple[str, ...]:
    """Country and name of the network, as `postrider sms route` shows them."""

    def good(text: str) -> bool:
        code, _, name = text.partition(":")
        return _is_country(code) and bool(name.strip()) and name.isprintable()

    _each(value, good, 'a country and a network in it, such as "GB:Vodafone"')
    return tuple(f"{text[:2].upper()}:{text[3:].strip()}" for text in value)


def senders(value: tuple[str, ...], base: Path) -> tuple[str, ...]:
    """Whether a carrier can say it is told when a message with it is accepted."""

    def good(text: str) -> bool:
        digits = text.removeprefix("+")
        number = digits.isascii() and digits.isdecimal()
        room = len(digits) <= _MAX_DIGITS if number else len(text) <= _MAX_NAME
        return bool(text) and room and text.isprintable() and text == text.strip()

    return _each(value, good, 'a sender id, such as "Shop" (up to 11 characters), "60999" or "+447700900123"')


def classes(value: tuple[str, ...], base: Path) -> tuple[str, ...]:
    if not value:
        raise ValueError("none of them: the carrier would never have a message")
    return value


def price(value: str, base: Path) -> str:
    if not _PRICE.fullmatch(value):
        raise ValueError(f'"{value}" is not a price, such as "0.03"')
    return value


def languages(value: tuple[str, ...], base: Path) -> tuple[str, ...]:
    return _each(value, LANGUAGES.__contains__, f"one of {', '.join(LANGUAGES)}")


def tlvs(value: tuple[tuple[str, str], ...], base: Path) -> tuple[tuple[str, str], ...]:
    """Tags as "0x1400"; 0 to 0x13FF are the specification's and the engine's own (SMPP 3.4 5.3.2)."""
    for tag, text in value:
        if not _TAG.fullmatch(tag) or not 0x1400 <= int(tag, 16) <= 0x3FFF:
            raise ValueError(f'"{tag}" is not the tag of a vendor, 0x1400 to 0x3FFF')
        if not text.isascii() or len(text) > 255:
            raise ValueError(f"the value of {tag} is not ASCII, or longer than 255")
    return value


def _each(value: tuple[str, ...], good: Callable[[str], object], what: str) -> tuple[str, ...]:
    bad = [f'"{text}"' for text in value if not good(text)]
    if bad:
        raise ValueError(f"{', '.join(bad)}: not {what}")
    return value


def _is_word(value: str, most: int) -> bool:
    """What may stand in a destination: no space, which divides it from its way, and no colon, which ends its kind."""
    return 0 < len(value) <= most and value.isascii() and value.isprintable() and not set(" :") & set(value)


def _is_country(text: str) -> bool:
    return len(text) == 2 and text.isascii() and text.isalpha()


# ---- what fields say about each other


def two_passwords(row: Carrier) -> str:
    return "given, password is, too: one of the two" if row.password and row.password_file else ""


def one_password(row: Account) -> str:
    """Its own, or that of a login."""
    if bool(row.password) is not bool(row.credential):
        return ""
    return (
        "given, password is, too: one of the two" if row.credential else "missing, and so is password: one of the two"
    )


def half_outbind(row: Carrier) -> str:
    """Of a carrier that calls: who it is and how it proves that."""
    return "" if row.outbind_system_id or not row.outbind_password else "does nothing without outbind_system_id"


def open_outbind(row: Carrier) -> str:
    return "" if row.outbind_password or not row.outbind_system_id else "needs outbind_password: anybody could say it"


def unjoined_languages(row: Carrier) -> str:
    if row.languages and not row.join.startswith("udh"):
        return f'do nothing with join = "{row.join}": which table was used is said in a user data header'
    return ""


def check_carriers(tables: Mapping[str, Rows], report: Report) -> None:
    """Names are names of one."""
    for table, key in (("carrier", "name"), ("account", "system_id")):
        # Two that differ in case only would be two queues that nobody can tell apart.
        seen: set[str] = set()
        for number, row in tables[table]:
            name = getattr(row, key)
            if name is None:
                continue
            if name.lower() in seen:
                report(f"[[{table}]] {number} {key}", f'"{name}" is there already')
            seen.add(name.lower())


# ---- warnings


def carrier_warnings(settings: Settings) -> Iterator[str]:
    """Of SMS: what will work and is probably not meant."""
    listening = any(listener.kind == "smpp" for listener in settings.listener)
    if listening and not settings.account:
        yield 'a [[listener]] of kind "smpp" and no [[account]]: nobody can bind'
    if settings.account and not listening:
        yield '[[account]], and no [[listener]] of kind "smpp": nobody can bind'
    if settings.account and not settings.carrier:
        yield "[[account]], and no [[carrier]]: no message could go anywhere"
    for number, row in enumerate(settings.carrier, 1):
        if not row.password and not row.password_file:
            yield f"[[carrier]] {number}: no password: most carriers refuse that"
        if row.password and row.tls == "none" and not is_loopback(row.host):
            yield f'[[carrier]] {number} tls: "none": the password and every message travel for all to read'
        if _unused(row, settings.account):
            yield f"[[carrier]] {number}: never reached, no [[account]] may use any of its senders"
    yield from _account_warnings(settings)


def _account_warnings(settings: Settings) -> Iterator[str]:
    for number, account in enumerate(settings.account, 1):
        host = account.outbind and parse_host_port(account.outbind)[0]
        if host and account.outbind_tls == "none" and not is_loopback(host):
            yield f'[[account]] {number} outbind_tls: "none": passwords and every message travel for all to read'
        if account.outbind_password and not host:
            yield f"[[account]] {number} outbind_password: does nothing without outbind"


def open_secrets(settings: Settings, path: Path) -> Iterator[str]:
    """A settings file that holds passwords and is there for all to read."""
    tables = [
        *("carrier" for row in settings.carrier if row.password or row.outbind_password),
        *("account" for row in settings.account if row.password or row.outbind_password),
        *("webhook" for row in settings.webhook if row.secret),
    ]
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return
    if tables and mode & 0o007:
        names = " and ".join(f"[[{name}]]" for name in dict.fromkeys(tables))
        yield f"has passwords ({names}) and mode {mode:04o}, everybody can read it; make it 0640"


def _unused(carrier: Carrier, accounts: Sequence[Account]) -> bool:
    """Answers of our own go out by it, too, but only from numbers that somebody sent from."""
    if not carrier.senders or not accounts:
        return False
    allowed = [set(account.senders) for account in accounts]
    return all(allowed) and not any(own & set(carrier.senders) for own in allowed)
