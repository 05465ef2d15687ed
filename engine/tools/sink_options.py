"""How a test MX behaves: what it offers, what it answers, what it takes."""

import ssl
from dataclasses import dataclass, field

from engine.tools.sink_rules import Pace, Script


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkOptions:
    """How a sink behaves. tls: offers STARTTLS, or with `implicit` speaks TLS at once. login: "user:password"."""

    name: str = "sink.example"
    script: Script = field(default_factory=Script)
    max_connections: int = 10_000
    max_size: int = 100 << 20
    pace: Pace | None = None
    pace_reply: bytes = b"451 4.7.1 too many messages a second, try later\r\n"
    pipelining: bool = True
    chunking: bool = False
    eightbit: bool = True
    smtputf8: bool = True
    dsn: bool = True
    tls: ssl.SSLContext | None = None
    implicit: bool = False
    login: str = ""
