"""What a webhook is posted: its body, and the signature that says it is ours, and from when. Pure.

    {"webhook": "shop", "node": "mx1.example.net", "worker": 0, "events": [{...}, ...]}

Events are as in the journal (storage/events/event.py); an id of any worker but the first begins with its number,
"1:17.2", and so is unique in the node. `missed`, if there, says what will never come: retention deleted it before it
was taken.

    Postrider-Timestamp: unix seconds of this attempt
    Postrider-Signature: v1=HMAC-SHA256(secret, timestamp "." body), hexadecimal
"""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from engine.storage.events.event import id_text
from engine.storage.events.retention import Gap

TIMESTAMP, SIGNATURE = "Postrider-Timestamp", "Postrider-Signature"
#: A receiver refuses what is older, or a recording could be played to it.
FRESH_S = 300.0
#: How every line of a journal begins.
_ID = b'{"id":"'


def numbered(line: bytes, worker: int) -> bytes:
    """A line of this worker's journal, with an id that is unique in the node."""
    return b'{"id":"%d:%b' % (worker, line[len(_ID) :]) if worker and line.startswith(_ID) else line


def place_text(after: tuple[int, int], worker: int) -> str:
    """An id, unique in the node."""
    return f"{worker}:{id_text(after)}" if worker else id_text(after)


def body_of(webhook: str, node: str, worker: int, lines: Sequence[bytes], gap: Gap | None = None) -> bytes:
    """lines: of the journal, `numbered`."""
    head: dict[str, Any] = {"webhook": webhook, "node": node, "worker": worker}
    if gap is not None:
        head["missed"] = {
            "after": place_text(gap.after, worker), "last": place_text(gap.last, worker), "events": gap.events,
            "exact": gap.exact,
        }  # fmt: skip
    events = b",\n".join(line.rstrip(b"\n") for line in lines)
    return msgspec.json.encode(head)[:-1] + b',"events":[\n' + events + b"\n]}\n"


def signed_headers(secret: str, body: bytes, now: float) -> dict[str, str]:
    timestamp = str(int(now))
    return {TIMESTAMP: timestamp, SIGNATURE: f"v1={_mac(secret, timestamp, body)}"}


def is_signed(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """What a receiver asks: whether this is from who knows the secret, and was sent lately."""
    timestamp, signature = headers.get(TIMESTAMP, ""), headers.get(SIGNATURE, "")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16):
        return False
    return (
        hmac.compare_digest(f"v1={_mac(secret, timestamp, body)}".encode(), signature.encode("utf-8", "replace"))
        and abs(now - int(timestamp)) <= FRESH_S
    )


def _mac(secret: str, timestamp: str, body: bytes) -> str:
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
