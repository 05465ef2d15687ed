"""Stories of what follows from an attempt, on the stage of queue.py: attempts, and the reports that are made."""

from pathlib import Path
from typing import Any

import numpy as np

from engine.base.clock import Clock
from engine.base.settings import Retry, RetryClass, Settings
from engine.delivery.bouncer import Bouncer
from engine.message.envelope import Envelope
from engine.message.ids import IdSource
from engine.message.outcome import Outcome, Status
from engine.storage.spool.entry import Delivery
from engine.storage.spool.frame import Frame, FrameType, scan
from engine.storage.spool.records import decode_envelope
from tests.support.queue import Letter, Stage, outcome, stage

HOUR = 3600.0
LATER = Status.DEFERRED
STEADY = Settings(retry=Retry(schedule="1m, 5m, 1h*", jitter=0.0, transactional=RetryClass(schedule="30s, 1m")))


class Reports(Bouncer):
    """The real bouncer; remembers what it composed."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        super().__init__(settings, IdSource("out.test", 0, clock), clock)
        self.made: list[tuple[str, list[str]]] = []
        self.statuses: list[str] = []

    def compose(self, envelope: Envelope, content: bytes, outcomes: Any, action: Any) -> Any:
        report = super().compose(envelope, content, outcomes, action)
        if report is not None:
            self.made.append((action, [envelope.recipients[o.index].address for o in outcomes]))
            self.statuses += [o.status_code for o in outcomes]
        return report


def story_with_reports(path: Path, story: Any, settings: Settings = STEADY) -> None:
    with stage(path, settings) as s:
        s.notifier = Reports(settings, s.clock)
        s.settlement._notifier = s.notifier
        s.spool.tells_of_delay = s.notifier.tells_of_delay
        s.run(story(s))


async def attempt(s: Stage, message: Letter, *outcomes: Outcome) -> Delivery:
    """An agent takes the only delivery of this message and gets these outcomes; deferred for everyone by default."""
    if rows := message.rows:
        s.manager.release(np.array(rows, dtype=np.uint32), now=True)
        await s.rest()
    delivery = message.delivery
    agent = s.agent(delivery.destination)
    assert agent.take() is delivery
    await s.settle(delivery, *(outcomes or [outcome(i, LATER, "451 later") for i in delivery.indexes]))
    agent.leave()
    await s.rest()
    return delivery


def records(s: Stage) -> list[tuple[str, str]]:
    """What the journal holds, in order: ("message" or the fates of an outcome, id)."""
    out = []
    for path in sorted((s.path / "spool" / "journal").glob("*.log")):
        for frame in scan(path.read_bytes(), int(path.name.split(".")[1], 16)):
            assert isinstance(frame, Frame)
            if frame.type == FrameType.MESSAGE:
                out.append(("message", s.named(decode_envelope(frame.header[1]).id)))
            elif frame.type == FrameType.OUTCOME:
                out.append((" ".join(Status(row[1]).name.lower() for row in frame.header[6]), s.named(frame.header[1])))
    return out
