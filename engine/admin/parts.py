"""What the operator's commands look at and act on: the objects of one worker."""

import asyncio
from dataclasses import dataclass, field

from engine.base.clock import Clock
from engine.base.metrics import Metrics
from engine.base.settings import Settings
from engine.delivery.carriers import Carriers
from engine.delivery.courier import Courier
from engine.feed.feed import Feed
from engine.intake.smpp_binds import Binds
from engine.queue.budget import LocalBudget
from engine.queue.manager import Manager
from engine.queue.orders import Orders
from engine.queue.sweeper import Sweeper
from engine.routing.router import Router
from engine.storage.spool.spool import Spool
from engine.storage.tables.queue_state import QueueState


@dataclass(slots=True, kw_only=True)
class Parts:
    """Handed down by the daemon. settings changes at a reload; started_at: unix seconds. importing: one at a time."""

    settings: Settings
    clock: Clock
    started_at: float
    spool: Spool
    manager: Manager
    router: Router
    budget: LocalBudget
    courier: Courier
    state: QueueState
    orders: Orders
    sweeper: Sweeper
    metrics: Metrics
    carriers: Carriers | None = None  #: of the worker that does SMS
    binds: Binds | None = None
    feed: Feed | None = None
    importing: asyncio.Lock = field(default_factory=asyncio.Lock)
