"""What a server offers: the reply to EHLO, read once (RFC 5321 4.1.1.1)."""

from engine.protocol.smtp_reply import Reply

_MAX_SIZE_DIGITS = 18


class Extensions:
    """The extensions this client makes use of; `none()` before EHLO, after HELO and after STARTTLS.

    size_limit: largest message taken, 0 is unlimited or not said. auth: mechanisms, upper case.
    """

    __slots__ = ("auth", "chunking", "dsn", "eightbit", "pipelining", "size", "size_limit", "smtputf8", "starttls")

    def __init__(self, keywords: dict[str, str]) -> None:
        self.pipelining = "PIPELINING" in keywords
        self.chunking = "CHUNKING" in keywords
        self.eightbit = "8BITMIME" in keywords
        self.smtputf8 = "SMTPUTF8" in keywords
        self.dsn = "DSN" in keywords
        self.starttls = "STARTTLS" in keywords
        self.size = "SIZE" in keywords
        self.size_limit = _size(keywords.get("SIZE", ""))
        self.auth = frozenset(keywords.get("AUTH", "").upper().split())

    @classmethod
    def none(cls) -> "Extensions":
        return cls({})

    @classmethod
    def of(cls, reply: Reply) -> "Extensions":
        """From a positive reply to EHLO. The first line is a greeting; a keyword said twice adds up (AUTH=, AUTH)."""
        keywords: dict[str, str] = {}
        for raw in reply.lines[1:]:
            keyword, _, rest = raw.decode("ascii", "replace").replace("=", " ", 1).strip().partition(" ")
            keyword = keyword.upper()
            keywords[keyword] = f"{keywords[keyword]} {rest}" if keyword in keywords else rest
        return cls(keywords)


def _size(text: str) -> int:
    """SIZE's argument; what is no number sets no limit, as if none had been given."""
    word = text.split(" ", 1)[0]
    return int(word) if word.isascii() and word.isdigit() and len(word) <= _MAX_SIZE_DIGITS else 0
