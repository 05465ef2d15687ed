"""What an operator can see of SMS: the binds, to carriers and of applications."""

from collections.abc import AsyncIterator
from typing import Any

from engine.admin.parts import Parts


async def binds(parts: Parts) -> AsyncIterator[dict[str, Any]]:
    """Every bind that is or should be. window: requests without an answer, and how many there may be."""
    if parts.carriers is None or parts.binds is None:
        return
    for link in parts.carriers.links():
        yield {
            "side": "carrier", "name": link.row.name, "bind": link.kind, "state": "bound" if link.bound else "down",
            "peer": link.peer, "unanswered": link.unanswered, "window": link.row.window, "reason": link.reason,
        }  # fmt: skip
    for account, bind, kind in parts.binds.all():
        yield {
            "side": "account", "name": account.row.system_id, "bind": kind, "state": "bound", "peer": bind.peer,
            "unanswered": bind.session.owed, "window": account.row.window, "reason": "",
        }  # fmt: skip
