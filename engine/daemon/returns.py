"""What comes back by mail to a worker, and what is known of what went out: built once, in the order of the layers."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from engine.base.clock import Clock
from engine.base.metrics import Metrics
from engine.base.settings import Settings
from engine.delivery.kinds import Kinds
from engine.delivery.return_paths import SenderPaths
from engine.delivery.tracker import Tracker
from engine.feedback.inbound import Inbound
from engine.feedback.known import Known
from engine.feedback.suppressor import SessionRefusals, Suppressor
from engine.message.bounce_rules import Classifier, load_classifier
from engine.message.ids import IdSource
from engine.net.resolver import Lookup
from engine.storage.events.recipients import recipients_of
from engine.storage.ledger.reader import LedgerReader
from engine.storage.ledger.segments import ledger_directory, ledgers
from engine.storage.ledger.writer import Ledger
from engine.storage.link_keys import link_keys
from engine.storage.secrets import read_keys
from engine.storage.spool.spool import Spool
from engine.storage.tables.suppressions import Suppressions

RETURN_PATH_KEYS = "return-path.keys"  #: in data_dir


class Loaded(NamedTuple):
    """What settings name and the disk has."""

    keys: dict[int, bytes]
    links: dict[int, bytes]
    classifier: Classifier


def load(settings: Settings) -> Loaded:
    """Raises EngineError: something of it cannot be used."""
    keys = read_keys(Path(settings.node.data_dir, RETURN_PATH_KEYS))
    return Loaded(keys, link_keys(settings), load_classifier(Path(settings.bounces.rules_file)))


def kept_s(settings: Settings) -> float:
    """How long the ledger is kept: at least as long as the links live that are known by it."""
    links = bool(settings.tracking.base_url or settings.click_domain)  # at the level none still those of unsubscribing
    return float(max(settings.ledger.keep, settings.tracking.expire_after if links else 0))


class Returns:
    """See above. return_paths, ledger, tracker, kinds, refusals: for those who send; inbound: for listeners."""

    def __init__(
        self, settings: Settings, number: int, spool: Spool, suppressions: Suppressions, ids: IdSource, clock: Clock,
        metrics: Metrics, log_line: Callable[[str], None], dns: Lookup,
    ) -> None:  # fmt: skip
        """Raises EngineError."""
        data_dir = Path(settings.node.data_dir)
        keys, links, classifier = load(settings)
        self.return_paths = SenderPaths(settings, keys)
        self.kinds = Kinds(classifier, settings)
        self._suppressor = Suppressor(settings, suppressions)
        self.refusals = SessionRefusals(self._suppressor, clock)
        # The first worker also keeps what those have left that are no more.
        gone = [other for other in ledgers(data_dir) if other >= settings.node.workers] if not number else []
        left = [ledger_directory(data_dir, other) for other in gone]
        self.ledger = Ledger(data_dir, number, settings.ledger, kept_s(settings), clock, left)
        self.tracker = Tracker(settings, links, self.ledger, ids.next, metrics, clock)
        self.reader = LedgerReader(data_dir)
        self.inbound = Inbound(
            settings, spool, keys, links, classifier, self._suppressor, ids, clock, metrics, log_line,
            Known(self.ledger, self.reader, partial(recipients_of, data_dir)), dns,
        )  # fmt: skip

    async def prepare(self, settings: Settings) -> Loaded:
        """First part of a reload: read what these settings name. Raises EngineError."""
        return await asyncio.to_thread(load, settings)

    def reload(self, settings: Settings, loaded: Loaded) -> None:
        """Second part: work by it."""
        self.kinds.reload(loaded.classifier, settings)
        self.return_paths.reload(settings, loaded.keys)
        self.tracker.reload(settings, loaded.links)
        self._suppressor.reload(settings)
        self.inbound.reload(settings, loaded.keys, loaded.links, loaded.classifier)
        self.ledger.reload(settings.ledger, kept_s(settings))

    async def upkeep(self) -> None:
        await self.ledger.upkeep()

    async def close(self) -> None:
        """When nothing is sent any more, and nothing comes. Raises StorageError."""
        await self.inbound.close()
        self.reader.close()
        await self.ledger.close()
