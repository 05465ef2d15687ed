"""The steps of a client's session: which replies each may get, and how long to wait for them."""

import enum
from dataclasses import dataclass


class Step(enum.IntEnum):
    """What a reply is awaited for."""

    GREETING = 0
    EHLO = 1
    HELO = 2
    STARTTLS = 3
    AUTH = 4
    RSET = 5
    MAIL = 6
    RCPT = 7
    DATA = 8  #: the go-ahead
    CHUNK = 9  #: a BDAT that is not the last
    END = 10  #: the final dot, or BDAT LAST
    QUIT = 11


#: By step, then by the first digit of a reply's code: "+" granted, "-" refused, "!" not possible here, the server is
#: confused. Strings, because an index is all that is spent on it per reply.
VERDICTS = (
    "!!+!--",  # GREETING
    "!!+!--",  # EHLO
    "!!+!--",  # HELO
    "!!+!--",  # STARTTLS
    "!!++--",  # AUTH
    "!!+!!!",  # RSET
    "!!+!--",  # MAIL
    "!!+!--",  # RCPT
    "!!!+--",  # DATA
    "!!+!--",  # CHUNK
    "!!+!--",  # END
    "!!+---",  # QUIT
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds to wait for the reply to each step (RFC 5321 4.5.3.2). content: for a slice to leave."""

    greeting: float = 60
    command: float = 60
    rcpt: float = 120
    data: float = 120
    end: float = 600
    content: float = 180

    def by_step(self) -> tuple[float, ...]:
        """Indexed by Step."""
        special = {Step.GREETING: self.greeting, Step.RCPT: self.rcpt, Step.DATA: self.data}
        special |= {Step.CHUNK: self.end, Step.END: self.end}
        return tuple(special.get(step, self.command) for step in Step)
