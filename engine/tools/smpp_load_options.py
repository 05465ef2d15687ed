"""What the load generator over SMPP sends, where to, and how fast."""

import ssl
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SmppLoadOptions:
    """What to send. rate: submits a second of all sessions together, 0 as fast as answered.

    destination: `#` stand for the digits of the message's number. registered_delivery: as in submit_sm.
    receipts_s: how long after the last response to wait for receipts, 0 not at all. patience_s: give up after so long
    without a response.
    """

    host: str
    port: int
    messages: int
    sessions: int = 1
    window: int = 10
    system_id: str = "load"
    password: str = ""
    text: str = "Load"
    source: str = "Load"
    destination: str = "44770#######"
    registered_delivery: int = 0
    receipts_s: float = 0.0
    rate: float = 0.0
    tls: ssl.SSLContext | None = None
    patience_s: float = 60.0
