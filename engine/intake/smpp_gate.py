"""What SMPP connections ask of whoever let them in: a listener, or a call of ours (outbind)."""

import asyncio
from collections.abc import Callable, Coroutine

from engine.base.clock import Clock
from engine.base.metrics import Metrics
from engine.base.settings import Settings
from engine.intake.guesses import Guesses
from engine.intake.hooks import Verifier
from engine.intake.smpp_binds import Binds
from engine.intake.smpp_connection import Called, Orders
from engine.intake.sms_admission import SmsAdmission
from engine.net.outbox import Outbox
from engine.protocol.smpp_pdu import Pdu
from engine.protocol.smpp_tables import status_name


class SmppGate:
    """The part of smpp_connection.Gate that is the same for all. binds: of all. credentials: None, and no account can
    use one. auth_delay_s: before a wrong password is answered.
    """

    def __init__(
        self,
        settings: Settings,
        admission: SmsAdmission,
        orders: Orders,
        binds: Binds,
        credentials: Verifier | None,
        metrics: Metrics,
        clock: Clock,
        outbox: Outbox,
        guesses: Guesses,
        auth_delay_s: float = 1.0,
    ) -> None:
        self.settings = settings
        self.admission = admission
        self.orders = orders
        self.binds = binds
        self.credentials = credentials
        self.metrics = metrics
        self.clock = clock
        self.outbox = outbox
        self.guesses = guesses
        self.auth_delay_s = auth_delay_s
        self.called: Called | None = None  #: to be set by whoever has carriers
        self._counts: dict[tuple[type[Pdu], int], Callable[[], None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def answered(self, command: type[Pdu], status: int) -> None:
        count = self._counts.get((command, status))
        if count is None:
            count = self.metrics.sms_requests.labels(command.__name__, status_name(status)).inc
            self._counts[command, status] = count
        count()

    async def end_tasks(self) -> None:
        """Cancel what was spawned."""
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
