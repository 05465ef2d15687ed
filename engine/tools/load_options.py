"""What the load generator sends, where to, and how fast."""

import ssl
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What to send. rate: messages a second of all sessions together, 0 as fast as answered."""

    host: str
    port: int
    messages: int
    sessions: int = 20
    size: int = 4096
    messages_per_connection: int = 10
    recipients: int = 1
    domains: int = 1
    domain: str = "load.example"
    sender: str = "sender@load.example"
    ehlo: str = "load.example"
    tls: ssl.SSLContext | None = None
    pipelining: bool = True
    rate: float = 0.0
    patience_s: float = 60.0
    seed: int | None = None
