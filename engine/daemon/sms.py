"""Everything of SMS in a worker, built once: carriers, applications, and what comes back from phones.

One worker of a node does it, the first: it has the binds of all carriers and applications, and so their windows.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from engine.base.settings import Listener, Settings
from engine.delivery.agent import Kit
from engine.delivery.carriers import Carriers
from engine.delivery.courier import Courier
from engine.delivery.failover import Failover
from engine.delivery.sms_kit import SmsKit
from engine.delivery.sms_reports import SmsReports
from engine.delivery.underway import Underway
from engine.feedback.answers import Answers
from engine.feedback.direct import Direct
from engine.feedback.receipts import Receipts
from engine.intake.clients import Clients
from engine.intake.guesses import Guesses
from engine.intake.smpp_binds import Binds
from engine.intake.smpp_listener import SmppListener
from engine.intake.smpp_orders import SmppOrders
from engine.intake.smpp_outbind import Outbinds
from engine.intake.sms_admission import SmsAdmission
from engine.intake.sms_links import SmsLinks
from engine.message.channels import account_key, carrier_key
from engine.message.envelope import Track
from engine.message.ids import IdSource
from engine.message.number import normalise
from engine.net.outbox import Outbox
from engine.net.resolver import Lookup
from engine.protocol.smpp_pdu import DataSm, DeliverSm
from engine.queue.manager import Manager
from engine.queue.orders import Orders
from engine.queue.scope import Scope
from engine.routing.plan import Plan
from engine.routing.router import Router
from engine.routing.sms_routes import SmsRoutes
from engine.storage.inflight import Inflight
from engine.storage.link_keys import link_keys
from engine.storage.numbers import Numbers
from engine.storage.spool.entry import State
from engine.storage.tables.credentials import Credentials
from engine.storage.tables.grouped import Grouped
from engine.storage.tables.sent import SentTable
from engine.storage.tables.sms_quota import SmsQuota
from engine.storage.tables.suppressions import Suppressions

#: In data_dir. What was sent has a file of its own: it is written all the time.
_ANSWERS, _SENT, _QUOTA, _INFLIGHT = "sms.db", "sms-sent.db", "sms-quota.db", "sms-inflight"
_NUMBERS = "short-links"


class SmsEngine:
    """See above. kit: what the courier needs; carriers, binds: for operators."""

    def __init__(
        self,
        settings: Settings,
        data_dir: Path,
        kit: Kit,
        reports: SmsReports,
        manager: Manager,
        router: Router,
        credentials: Credentials,
        suppressions: Suppressions,
        ids: IdSource,
        dns: Lookup,
        outbox: Outbox,
        log_line: Callable[[str], None],
        level_of: Callable[[str], Track],
    ) -> None:
        """level_of: of a batch. Raises EngineError: something of the settings or the disk cannot be used."""
        self._kit = kit
        self._reports = reports
        self._manager = manager
        self._router = router
        self._credentials = credentials
        self._outbox = outbox
        self._country = settings.sms.country
        clock, metrics, spool = kit.clock, kit.metrics, kit.spool
        self._db = Grouped(data_dir / _ANSWERS)
        self._sent = SentTable(data_dir / _SENT)
        self._quota = SmsQuota(data_dir / _QUOTA)
        self._inflight = Inflight(data_dir / _INFLIGHT)
        underway = Underway()
        self.binds = Binds(settings, metrics, bound=self._account_opened, call=self._account_wanted)
        self._receipts = Receipts(
            settings, spool, self._sent, reports, metrics, clock, self._person, underway,
            Direct(self.binds, self._waits_for_account),
            lambda one: kit.settlement.tried(one.report, one.outcome, one.at),
        )  # fmt: skip
        reports.fates = self._receipts
        self._answers = Answers(
            settings, self._db, suppressions, spool, self._receipts.inquiries, self._receipts, dns, ids, clock, metrics
        )  # fmt: skip
        self.carriers = Carriers(settings, self._receipts, outbox, kit.contexts, self._carrier_opened)
        self._routes = SmsRoutes(settings, self.carriers.healthy)
        assert kit.ledger is not None
        numbers = Numbers(data_dir / _NUMBERS)
        self._links = SmsLinks(settings, link_keys(settings), kit.ledger, numbers, ids.next, clock, level_of)
        self._admission = SmsAdmission(
            spool, ids, clock, metrics, settings, log_line, self._routes, self._normalise, self._quota,
            suppressions.sms, self._links,
        )  # fmt: skip
        self.kit = SmsKit(
            carriers=self.carriers, receivers=self.binds, book=self._receipts, inflight=self._inflight,
            underway=underway, alternatives=Failover(self._routes, self.carriers), suppressed=suppressions.sms,
            placed=self._links.placed,
        )  # fmt: skip

    def attach(self, orders: Orders, courier: Courier) -> None:
        """What clients order of queued messages is done by these."""
        kit = self._kit
        self._orders = SmppOrders(
            kit.spool, self._manager, orders, courier, self._receipts.inquiries, self._admission, self._normalise,
            kit.clock,
        )  # fmt: skip
        self._outbinds = Outbinds(
            kit.settings, self._admission, self._orders, self.binds, self._credentials, kit.metrics, kit.clock,
            self._outbox, kit.contexts, self._waits_for_account, self._account_reopened,
        )  # fmt: skip

    def start(self) -> None:
        """Raises StorageError."""
        self._answers.start()
        self.carriers.start()
        self._outbinds.start()

    async def reload(self, settings: Settings) -> None:
        """Work by new settings. Raises EngineError: they cannot be used, and nothing has changed."""
        keys = link_keys(settings)
        await self.carriers.reload(settings)
        self._country = settings.sms.country
        self._routes.reload(settings)
        self._manager.restore()
        self._links.reload(settings, keys)
        self._admission.reload(settings)
        self._reports.reload(settings)
        self._receipts.reload(settings)
        self._answers.reload(settings)
        self.binds.reload(settings)
        self._outbinds.reload(settings)

    async def upkeep(self) -> None:
        """Raises StorageError."""
        self._quota.save()
        await self._receipts.upkeep()

    def collect(self) -> None:
        """Set the gauges; called in a thread, so it only reads."""
        metrics, now = self._kit.metrics, self._kit.clock.monotonic()
        pauses: dict[str, float] = {}
        for link in self.carriers.links():
            name = link.row.name
            pauses[name] = max(pauses.get(name, 0.0), link.pause.left(now))
            metrics.sms_rate.labels(name).set(link.pace.rate)
        for name, left in pauses.items():
            metrics.sms_pause.labels(name).set(left)

    async def stop(self) -> None:
        """Unbind from carriers, and from called applications; what they brought is durable and answered then."""
        await asyncio.gather(self.carriers.stop(), self._outbinds.stop())
        await self._answers.close()
        await self._receipts.settled()

    async def close(self) -> None:
        """After the spool."""
        await self._db.close()
        await self._sent.close()
        self._quota.close()
        self._inflight.close()

    def make_listener(self, row: Listener, settings: Settings, clients: Clients, guesses: Guesses) -> SmppListener:
        kit = self._kit
        listener = SmppListener(
            row, settings, self._admission, self._orders, self.binds, self._credentials, kit.metrics, kit.clock,
            self._outbox, clients=clients, guesses=guesses,
        )  # fmt: skip
        listener.called = self.carriers.called
        return listener

    # Inside.

    def _person(self, carrier: str, pdu: DeliverSm | DataSm, answer: Callable[[int], None]) -> None:
        self._answers.person(carrier, pdu, answer)

    def _normalise(self, text: str, ton: int, npi: int) -> str:
        return normalise(text, ton, npi, self._country)

    def _carrier_opened(self, name: str) -> None:
        self._manager.restore()  # what found no other carrier may find this one
        self._reopen(carrier_key(name))

    def _account_opened(self, system_id: str) -> None:
        """What it did not take over another bind goes now, whenever it would have been tried again."""
        for rows in Scope("destination", account_key(system_id)).rows(self._kit.spool, state=State.WAITING):
            self._manager.release(rows, now=True)
        self._account_reopened(system_id)
        self._outbinds.bound(system_id)

    def _account_reopened(self, system_id: str) -> None:
        self._reopen(account_key(system_id))

    def _account_wanted(self, system_id: str) -> None:
        self._outbinds.call(system_id)

    def _waits_for_account(self, system_id: str) -> bool:
        queue = self._manager.destinations.get((account_key(system_id), ""))
        return queue is not None and queue.live > 0

    def _reopen(self, destination: str) -> None:
        plan = self._router.cached(destination)
        if isinstance(plan, Plan):
            self._manager.sites.reopen(plan)
