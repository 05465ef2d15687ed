"""How a test SMSC behaves: whom it lets in, what it answers, how it fails."""

import ssl
from dataclasses import dataclass, field

from engine.protocol.receipt_states import State
from engine.tools.sink_rules import Pace
from engine.tools.smpp_sink_rules import PLAIN, IdForms, Prefixes, ReceiptHabits


@dataclass(frozen=True, slots=True, kw_only=True)
class SmscOptions:
    """How a test SMSC behaves. name: its system_id. login: "system_id:password"; "": everyone is let in.

    replies, states, answers, silent: by the destination. ids: taken in turn, written of numbers from first_id on.
    pace, throttle: more submits than that, or such a share of them, get ESME_RTHROTTLED. dead_after, close_after:
    submits of one connection. split: lengths of the pieces that everything is sent in. window: receipts and answers
    on one bind that wait for their acknowledgement; early receipts are not counted.
    """

    name: str = "sink.example"
    login: str = ""
    replies: Prefixes[int] = field(default_factory=Prefixes)
    states: Prefixes[State] = field(default_factory=Prefixes)
    answers: Prefixes[str] = field(default_factory=Prefixes)
    silent: Prefixes[bool] = field(default_factory=Prefixes)
    receipts: ReceiptHabits = ReceiptHabits()  # noqa: RUF009  frozen
    ids: tuple[IdForms, ...] = (PLAIN,)
    first_id: int = 1
    pace: Pace | None = None
    throttle: float = 0.0
    dead_after: int = 0
    close_after: int = 0
    split: tuple[int, ...] = ()
    window: int = 500
    tls: ssl.SSLContext | None = None
