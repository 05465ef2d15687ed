"""What an operator can see of SMS: the binds, to carriers and of applications."""

from collections.abc import AsyncIterator
from math import isfinite
from typing import Any

from engine.admin.parts import Parts
from engine.base.units import format_duration, format_rate
from engine.delivery.carrier_link import CarrierLink


async def binds(parts: Parts) -> AsyncIterator[dict[str, Any]]:
    """Every bind that is or should be. window: requests without an answer, and how many there may be. rate: of parts,
    as the carrier takes them now, all its binds together; of an account, as configured; None: no limit. takes: it is
    bound, and takes messages, or may do so again."""
    if parts.carriers is None or parts.binds is None:
        return
    now = parts.clock.monotonic()
    for link in parts.carriers.links():
        yield {
            "side": "carrier", "name": link.row.name, "bind": link.kind, "state": "bound" if link.bound else "down",
            "peer": link.peer, "unanswered": link.unanswered, "window": link.row.window,
            "rate": format_rate(link.pace.rate) if isfinite(link.pace.rate) else None,
            "takes": link.bound and not link.stalled, "reason": link.reason or _slowed(link, now),
        }  # fmt: skip
    for account, bind, kind in parts.binds.all():
        yield {
            "side": "account", "name": account.row.system_id, "bind": kind, "state": "bound", "peer": bind.peer,
            "unanswered": bind.session.owed, "window": account.row.window,
            "rate": format_rate(account.row.rate) if account.row.rate else None, "takes": True, "reason": "",
        }  # fmt: skip


def _slowed(link: CarrierLink, now: float) -> str:
    """What a bind waits for though it is bound; "": nothing."""
    pause, left = link.pause, link.pause.left(now)
    if pause.silent and pause.alone:
        return f"answers no submits: {f'a pause of {format_duration(left)} more' if left > 0 else 'one is tried'}"
    if left > 0:
        return f"told to slow down: a pause of {format_duration(left)} more"
    return "told to slow down" if link.pace.slowed else ""
