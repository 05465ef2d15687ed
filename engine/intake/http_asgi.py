"""What applications behind our HTTP listeners share: the types of ASGI (asgi.readthedocs.io), and a whole reply."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]


async def reply(send: Send, status: int, headers: Headers, body: bytes = b"") -> None:
    """All of an answer."""
    fields = [*headers, (b"content-length", b"%d" % len(body))]
    if status == 413:
        fields.append((b"connection", b"close"))  # what is still to come is not read
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})
