"""An event: one line of the journal that says what became of one recipient.

Events are projections of spool frames. `id` is "<seq>.<n>": the number of the frame and the position of the event
in it, so that the same frame gives the same ids however often it is projected (E1). A field at its default is left
out of the line. On disk: fields are added, never renamed and never given another meaning.

`TYPES` has the types that there are. A new one needs a line there; consumers take or leave what they do not know.

SMS are sent to a carrier, destination "sms:NAME"; their `sent` has the price of all parts. Receipts have the state as
`status` ("DELIVRD"), the carrier's words as `reply`, its id, and the price of what it is about. A receipt or an answer
that waits for an application (destination "account:NAME") has outcomes only: its delivered is `handed-over`.
"""

from collections.abc import Mapping

import msgspec

#: Every type there is, and what it says.
TYPES: Mapping[str, str] = {
    # Of mail and SMS; what follows `received` are outcomes, see `Status`; from `expired` on without an attempt.
    "rejected": "not taken of a client that may submit, and `reply` says why; of a flood some, as of `refused`",
    "received": "a recipient of a message of a client, once it is in the spool",
    "delivered": "a mail server took it; of SMS: the phone has all parts, by their receipts (no `attempt`)",
    "deferred": "an attempt that is not the last one",
    "failed": "refused for good",
    "unknown": "the connection was lost after the message and before the reply",
    "expired": "given up after its time",
    "removed": "by an operator",
    "suppressed": "must not be sent to",
    # An operator's.
    "admin": "somebody changed the suppressions, or withdrew links; `text` says how",
    # Of SMS.
    "sent": "an outcome: the carrier took all parts; what mail calls delivered",
    "undelivered": "a receipt says of a part that it never will be, and so the message is not",
    "receipt": "any other that decides nothing yet: of a part among several, or of an intermediate state",
    "receipt-missing": "not all receipts came in time; they still count if they come later",
    "receipt-unmatched": "nothing that was sent has its id; `reply` is its text",
    "receipt-unreadable": "it has no id or no state; `reply` is its text",
    "handed-over": "an outcome: an application took a receipt or an answer",
    "answered": "a message from a phone, and who has it",
    "answer-unrouted": "a message from a phone that nobody has",
    "answer-failed": "a URL did not take a message from a phone, and it is given up",
    "opted-out": "a phone said STOP",
    "opted-in": "a phone said START",
    # Of mail that comes back, one for each recipient that it is about.
    "bounced": "a delivery failed after all, elsewhere",
    "reported": "nothing failed, or not yet: delayed, relayed, ...",
    "complained": "a person called the message unwanted",
    "auto-replied": "vacation, acknowledgement",
    "challenged": "a system wants to know whether the sender is a person",
    "feedback": "a provider's report that is no complaint; `kind` says of what: fraud, virus, not-spam, ...",
    "auth-reported": "a signature or an alignment failed somewhere",
    "replied": "a person wrote",
    "refused": "it was not taken, and so is not read; of a flood some, and `text` says how many more",
    "unread": "it came to a feedback domain, and is no report",
    # Of links, each with a verdict: who it was, as far as is known by then.
    "clicked": "a tracked link was followed",
    "opened": "the picture of a message was fetched",
    "verdict": "more is known of an earlier `clicked` or `opened`, whose id is `hit`; the last verdict counts",
    "unsubscribed": "somebody left; `kind` says how (one-click, stream, all, pause, not-me)",
}
#: By the number of a message class.
CLASSES = ("transactional", "bulk")


class Event(msgspec.Struct, frozen=True, omit_defaults=True, gc=False, rename={"message_class": "class"}):
    """at: unix seconds. message: its id. delay_s: seconds since the message was accepted. The fields from
    `attempt` on belong to outcomes; they mean what they mean in `Outcome`.

    Of receipts: part: from 1, of so many parts; 0: it is about all of them. price: of the part, or of all of them; of
    what was sent, of all. It is left out where the carrier's is not in the settings.
    carrier_id: what the carrier calls it. latency_s: since the carrier took it.
    tenant, stream, batch: of the message, where it has them.
    Of answers: answer: the id of what a phone sent. text: what it says. Of admin: what was done, and by whom.
    Of what comes back by mail: message: the one of ours that it is about, "" if nobody knows. recipient: of that.
    sender, destination: of what came. status, reply: what it reports. kind: what that means (config/bounces.toml);
    outcomes that are failures have it, too.
    Of links: link, url: which one; link counts from 3, 2 is the hidden one. verdict: human, machine or unsure; reasons:
    of it (tracking/judge.py), and "withdrawn" or "expired" of a link that led nowhere, whatever the verdict.
    client, agent: who asked. hit: the id of the event that a verdict is about.
    proof: "token" if it is certain whom it is about. answer: the id of what came. text: the words of a person.
    truncated: of what came something was not read that may name more recipients.
    """

    id: str
    at: float
    type: str
    message: str
    message_class: str
    sender: str
    recipient: str
    destination: str
    envid: str = ""
    attempt: int = 0
    status: str = ""
    reply: str = ""
    remote: str = ""
    phase: str = ""
    scope: str = ""
    provider: str = ""
    delay_s: float = 0.0
    part: int = 0
    parts: int = 0
    price: str = ""
    carrier_id: str = ""
    latency_s: float = 0.0
    answer: str = ""
    text: str = ""
    kind: str = ""
    proof: str = ""
    tenant: str = ""
    stream: str = ""
    batch: str = ""
    truncated: bool = False
    link: int = 0
    url: str = ""
    verdict: str = ""
    reasons: tuple[str, ...] = ()
    client: str = ""
    agent: str = ""
    hit: str = ""


def class_name(message_class: int) -> str:
    """As events have it."""
    return CLASSES[message_class]


#: (seq, n) of an event's id, for comparison.
Id = tuple[int, int]
#: Before every event.
NO_ID: Id = (0, -1)


def id_text(event: Id) -> str:
    """As it is written; of `NO_ID`, "0.0", which no event has either: frames are counted from 1."""
    return f"{event[0]}.{max(event[1], 0)}"


def event_id(line: bytes) -> tuple[int, int]:
    """(seq, n) of a line of the journal, for comparison. Raises ValueError: not an event."""
    try:
        return parse_id(_ID_DECODER.decode(line).id)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise ValueError("not an event") from exc


def parse_id(text: str) -> tuple[int, int]:
    """(seq, n) of an event id such as "1042.0". Raises ValueError."""
    seq, dot, n = text.partition(".")
    if not (dot and seq.isascii() and seq.isdecimal() and n.isascii() and n.isdecimal()):
        raise ValueError(f'"{text}" is not an event id, such as "1042.0"')
    return int(seq), int(n)


class _Id(msgspec.Struct):
    id: str


_ID_DECODER = msgspec.json.Decoder(_Id)
