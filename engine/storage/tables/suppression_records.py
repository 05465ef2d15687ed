"""Suppressions as people and other programs have them: flat records of texts, for CSV and JSON lines.

    address  channel  scope  tenant  stream  cause  evidence  message  who  since  until  hash  key

Times are "2026-11-27T03:39:24Z", until "" is for good. Of somebody erased `address` is "" and `hash` stands for it,
with the fingerprint of the key that made it. What is read may have less: an address is enough.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from engine.base.units import parse_duration
from engine.message.address import AddressError, comparable, parse_mailbox
from engine.storage.tables.suppression import MAIL, SMS, Cause, Hasher, Suppression, one_line, sms_key

FIELDS = (
    "address", "channel", "scope", "tenant", "stream", "cause", "evidence", "message", "who", "since", "until", "hash",
    "key",
)  # fmt: skip
_KNOWN = frozenset(FIELDS)
_NOTHING = dict.fromkeys(FIELDS, "")
_CAUSES = {str(cause): cause for cause in Cause if cause is not Cause.ERASED}
#: E.164: no country's code begins with 0. The shortest numbers there are, of Niue say, have 7 digits with it. What is
#: said to be of SMS may be a short code, too, that answered.
_NUMBER, _ANY_NUMBER = re.compile(r"\+?[1-9][0-9]{6,14}"), re.compile(r"\+?[0-9]{3,15}")
_HASH = re.compile(r"[0-9a-f]{16}")
_MAX_NAME, _MAX_SENDER = 255, 21


def to_record(row: Suppression, hasher: Hasher) -> dict[str, str]:
    erased = {"hash": f"{row.person:016x}", "key": hasher.fingerprint} if not row.address else {"hash": "", "key": ""}
    return {
        "address": row.address,
        "channel": row.channel,
        "scope": row.scope,
        "tenant": row.tenant,
        "stream": row.stream,
        "cause": str(row.cause),
        "evidence": row.evidence,
        "message": row.message,
        "who": row.who,
        "since": written_time(row.since),
        "until": written_time(row.until) if row.until else "",
        **erased,
    }


def from_record(record: Mapping[str, Any], hasher: Hasher, now: float, who: str) -> Suppression:
    """The row of a record; what it does not say is now, by `who`, and for good. Raises ValueError: why it is none."""
    if not all(isinstance(value, str) for name, value in record.items() if name in _KNOWN and value is not None):
        raise ValueError("a field is not a text")
    texts = _NOTHING | {name: value for name, value in record.items() if value}
    address, person = texts["address"].strip(), 0
    if not address and texts["hash"]:
        if not _HASH.fullmatch(texts["hash"]) or int(texts["hash"], 16) >> 63:
            raise ValueError(f'"{texts["hash"][:40]}" is not a hash')
        if texts["key"] != hasher.fingerprint:
            raise ValueError("a hash made with another suppression.key suppresses nobody here")
        person, channel = int(texts["hash"], 16), texts["channel"] or MAIL
        if channel not in (MAIL, SMS):
            raise ValueError(f'"{channel[:40]}" is neither mail nor sms')
    else:
        channel, address = parse_address(address, texts["channel"])
        if texts["channel"] not in ("", channel):
            raise ValueError(f"{address} is no address of the channel {texts['channel'][:40]}")
    tenant, stream = parse_scope(channel, texts["tenant"], texts["stream"])
    return Suppression(
        address=address,
        channel=channel,
        tenant=tenant,
        stream=stream,
        cause=Cause.ERASED if person else parse_cause(texts["cause"] or Cause.MANUAL),
        evidence=one_line(texts["evidence"]),
        message=one_line(texts["message"]),
        who=one_line(texts["who"]) or who,
        since=parse_time(texts["since"]) if texts["since"] else now,
        until=parse_until(texts["until"], now) if texts["until"] else 0.0,
        person=person,
    )


def parse_address(text: str, channel: str = "") -> tuple[str, str]:
    """(channel, address as it is compared) of an address, or a number. channel: if that is said. Raises ValueError."""
    if "@" not in text:
        if not (_ANY_NUMBER if channel == SMS else _NUMBER).fullmatch(text):
            raise ValueError(f'"{text[:100]}" is neither an address nor a number, such as +447700900123')
        return SMS, sms_key(text)
    if text.startswith("@") and ":" not in text:
        raise ValueError(f'"{text[:100]}": nothing stands before the "@"; the list is of addresses, not of domains')
    try:
        return MAIL, comparable(parse_mailbox(text)[0])
    except AddressError as exc:
        raise ValueError(f'"{text[:100]}": {exc.reply.partition(" ")[2]}') from exc


def parse_scope(channel: str, tenant: str, stream: str) -> tuple[str, str]:
    """Tenant and stream as rows have them. Raises ValueError."""
    for name in (tenant, stream):
        if len(name) > _MAX_NAME or not name.isprintable():
            raise ValueError(f"the name of a tenant or a stream is up to {_MAX_NAME} printable characters")
    if channel == SMS and stream:
        if tenant:
            raise ValueError("a stream of SMS is a sender id, whoever sends: it goes without a tenant")
        if len(stream) > _MAX_SENDER:
            raise ValueError(f"{stream} is not a sender: 1 to {_MAX_SENDER} characters")
        stream = sms_key(stream)
    return tenant, stream


def parse_cause(text: str) -> Cause:
    """Raises ValueError. "erased" is no cause that a record can name: it is what `postrider suppress erase` does."""
    if text not in _CAUSES:
        raise ValueError(f'"{text[:40]}" is not a cause: {", ".join(_CAUSES)}')
    return _CAUSES[text]


def written_time(at: float) -> str:
    return datetime.fromtimestamp(min(max(at, 0.0), 253_402_300_799.0), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> float:
    """Unix seconds of a date, or a date and a time, UTC where no zone is named. Raises ValueError."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f'"{text[:40]}" is not a time, such as "2026-11-27" or "2026-11-27T03:39:24Z"') from None
    try:
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    except OverflowError:
        raise ValueError(f"{text[:40]} is out of range") from None


def parse_until(text: str, now: float) -> float:
    """The same, or a duration from now. Raises ValueError: also of a time that is past."""
    try:
        until = now + parse_duration(text)
    except ValueError:
        until = parse_time(text)
    if until <= now:
        raise ValueError(f"{text} is past")
    return until
