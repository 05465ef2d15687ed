"""What bounces and complaints do to an address: the rules by which they suppress it.

    hard          there is no such address: for everybody
    complaint     for what the tenant sends
    unsubscribe   for the stream, else for what the tenant sends
    anything else is about us, the content, or now: never. A block on our address must not suppress the person

F1  only what is sure can suppress: a receiver's reply in the session, a signed return path, an authenticated report. A
    report that names several recipients suppresses none.

Of a rule that wants several in a time, each is on disk; what is said of the same message again counts once.
"""

import asyncio
import logging
from dataclasses import replace
from typing import Literal, NamedTuple

from engine.base.clock import Clock
from engine.base.errors import EngineError
from engine.base.settings import Settings
from engine.base.units import Duration
from engine.message.address import comparable
from engine.message.envelope import Envelope
from engine.message.outcome import Outcome
from engine.storage.tables.suppression import MAIL, NEARLY_S, Cause, Suppression, of_leaving, one_line
from engine.storage.tables.suppressions import Suppressions

log = logging.getLogger(__name__)

_SIGHT = "insert or ignore into sightings (entry, cause, evidence, at) values (?, ?, ?, ?)"
_COUNT = "select count(*) from sightings where entry = ? and cause = ? and at > ? and at <= ?"
_FORGET = "delete from sightings where cause = ? and at <= ?"


class Rule(NamedTuple):
    """So many within a time suppress, for so long; 0: for good. scope: how far, where there is a tenant, a stream."""

    cause: Cause
    scope: Literal["global", "tenant", "stream"]
    expires_s: Duration
    times: int = 1
    window_s: Duration = Duration(0)


class Suppressor:
    """See above. One per worker; all methods on its loop."""

    def __init__(self, settings: Settings, suppressions: Suppressions) -> None:
        self._suppressions = suppressions
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        """Use these settings from now on."""
        rules = settings.suppression
        self._rules = {"unsubscribe": Rule(Cause.UNSUBSCRIBE, "stream", rules.unsubscribe_expires)}
        if rules.automatic:
            self._rules |= {
                "hard": Rule(
                    Cause.HARD_BOUNCE, "global", rules.hard_bounce_expires, rules.hard_bounces, rules.hard_bounce_window
                ),
                "complaint": Rule(
                    Cause.COMPLAINT, "tenant", rules.complaint_expires, rules.complaints, rules.complaint_window
                ),
            }

    async def judge(
        self,
        address: str,
        tenant: str | None,
        stream: str,
        kind: str,
        evidence: str,
        at: float,
        sure: bool,
        *,
        message: str = "",
        recipients: int = 1,
    ) -> Suppression | None:
        """What follows from a bounce or a complaint: a suppression that is durable now, or None.

        address: of mail. tenant: whose message it was; "": the node's own; None: nobody knows, and then nothing follows
        but what holds for everybody. kind: as the classifier says, or "unsubscribe". evidence: a reply or the words of
        a report. message: the id of the one it is about, which tells it from others. at: unix seconds. sure: F1.
        recipients: how many the report names. Raises AddressError, StorageError; it may be called again with the same.
        """
        rule = self._rules.get(kind)
        if rule is None or not sure or recipients != 1:
            return None
        if tenant is None and rule.scope != "global":
            log.warning(
                "%s: %s: not suppressed (%s): it is not known whose message it was", message, address, rule.cause
            )
            return None
        row = Suppression(
            channel=MAIL,
            address=comparable(address),
            tenant="" if rule.scope == "global" or tenant is None else tenant,
            stream=stream if rule.scope == "stream" else "",
            cause=rule.cause,
            since=at,
            until=at + rule.expires_s if rule.expires_s else 0.0,
            evidence=one_line(evidence),
            message=message,
            who="rule",
        )
        new = await self._new(rule, row, at)
        if new is not None:
            await self._suppressions.add(new)
            log.info("%s: suppressed (%s, %s): %s", new.address, new.cause, new.scope, new.evidence)
        return new

    async def _new(self, rule: Rule, row: Suppression, at: float) -> Suppression | None:
        """What is to be written, if anything is."""
        if rule.cause is Cause.UNSUBSCRIBE:
            return of_leaving(row, await self._suppressions.held(row))
        nearly = replace(row, until=max(at, row.until - NEARLY_S)) if row.until else row
        if self._suppressions.holds(nearly) or not await self._enough(rule, row, at):
            return None
        return row

    async def _enough(self, rule: Rule, row: Suppression, at: float) -> bool:
        if rule.times == 1:
            return True
        db, entry, cause = self._suppressions.db, self._suppressions.entry(row), str(rule.cause)
        # One message is one sight, in however many words it is told.
        evidence = row.message or row.evidence or str(at)
        oldest = at - rule.window_s
        await db.write((_SIGHT, (entry, cause, evidence, at)), (_FORGET, (cause, oldest)))
        [[count]] = await db.rows(_COUNT, entry, cause, oldest, at)
        return int(count) >= rule.times


class SessionRefusals:
    """Refusals in the session, judged (delivery.settlement.Refusals)."""

    def __init__(self, suppressor: Suppressor, clock: Clock) -> None:
        self._suppressor = suppressor
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    def refused(self, envelope: Envelope, outcome: Outcome, provider: str) -> None:
        if not envelope.sender:
            return  # a report of ours, or what somebody wrote to us and is handed on
        if outcome.kind == "hard":
            task = asyncio.get_running_loop().create_task(self._judge(envelope, outcome, outcome.kind))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Before the table is."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _judge(self, envelope: Envelope, outcome: Outcome, kind: str) -> None:
        address = envelope.recipients[outcome.index].address
        # What is said to the whole transaction names nobody, unless there is one recipient.
        sure = outcome.phase == "rcpt" or len(envelope.recipients) == 1
        try:
            await self._suppressor.judge(
                address, envelope.owner, envelope.stream, kind, outcome.reply, self._clock.time(), sure,
                message=envelope.id,
            )  # fmt: skip
        except EngineError as exc:
            log.error("%s: %s: not suppressed: %s", envelope.id, address, exc)
        except Exception:  # top of a task; a refusal of a next message is judged again
            log.exception("%s: %s: not suppressed", envelope.id, address)
