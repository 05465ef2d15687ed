"""A load generator over SMTP: some sessions, each a message at a time, the envelope pipelined where it is offered.

A message without an answer (the connection was lost) is sent again, with the same X-Load-Id, until it is answered
or nothing has been answered for `patience_s`: after a crash test, ids in `--accepted` missing at the sink are losses,
and duplicates can be no more than what was in flight.
"""

import asyncio
import random
import time
from array import array
from collections import Counter
from dataclasses import dataclass
from typing import TextIO

from engine.tools.latency import latency_of
from engine.tools.load_message import MessageMaker
from engine.tools.load_options import LoadOptions
from engine.tools.load_session import Answer, LoadSession, SessionLost

_RECONNECT_S = (0.02, 0.2)  #: pause before a new connection: first, at most


@dataclass(slots=True)
class LoadReport:
    """What came of it. seconds: to the last answer; latencies: from MAIL to the last reply."""

    accepted: int = 0
    refused: int = 0
    unanswered: int = 0
    refused_recipients: int = 0
    connections: int = 0
    lost_connections: int = 0
    sent_again: int = 0
    seconds: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    last_error: str = ""
    replies: dict[str, int] | None = None

    def as_dict(self) -> dict[str, object]:
        rate = self.accepted / self.seconds if self.seconds else 0.0
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {"rate": round(rate, 1), **{k: round(v, 3) if isinstance(v, float) else v for k, v in fields.items()}}


class Load:
    """One run. `accepted`: a file that gets the id of each message with a 250, written out at once."""

    def __init__(self, options: LoadOptions, accepted: TextIO | None = None) -> None:
        self._options = options
        self._accepted = accepted
        self._maker = MessageMaker(options)
        self._report = LoadReport()
        self._replies: Counter[str] = Counter()
        self._latencies = array("d")
        self._next = 0
        self._again: list[int] = []
        self._open: set[LoadSession] = set()
        self._given_up = False
        self._timer: asyncio.TimerHandle | None = None
        self._started = self._answered_at = 0.0

    @property
    def run_id(self) -> str:
        """What every X-Load-Id of this run begins with."""
        return self._maker.run_id

    async def run(self) -> LoadReport:
        """Send everything. Ends early only if nothing was answered for `patience_s`."""
        self._started = self._answered_at = time.monotonic()
        self._watch()
        async with asyncio.TaskGroup() as group:
            for number in range(min(self._options.sessions, self._options.messages)):
                group.create_task(self._work(random.Random(number)))  # noqa: S311  pauses, no secrets
        if self._timer is not None:
            self._timer.cancel()
        report = self._report
        report.seconds = self._answered_at - self._started
        report.unanswered = self._options.messages - report.accepted - report.refused
        report.replies = dict(self._replies)
        report.p50_ms, report.p99_ms, report.max_ms = latency_of(self._latencies)
        return report

    def _watch(self) -> None:
        """One deadline for all sessions: a timer for each message would cost more than the message."""
        left = self._answered_at + self._options.patience_s - time.monotonic()
        if left > 0:
            self._timer = asyncio.get_running_loop().call_later(left, self._watch)
            return
        self._given_up = True
        for session in list(self._open):
            session.abort()

    async def _work(self, chance: random.Random) -> None:
        """One session after another until there is no message left or patience ends."""
        pause = _RECONNECT_S[0]
        while not self._given_up and (index := self._take()) is not None:
            answered = self._answered_at
            held = [index]
            try:
                await self._session(held)
                pause = _RECONNECT_S[0]
            except (SessionLost, OSError) as error:
                self._lost(held, error)
                if self._answered_at > answered:
                    pause = _RECONNECT_S[0]
                await asyncio.sleep(pause * (0.5 + chance.random()))
                pause = min(2 * pause, _RECONNECT_S[1])

    def _lost(self, held: list[int], error: Exception) -> None:
        self._report.last_error = str(error) or type(error).__name__
        self._report.lost_connections += 1
        self._report.sent_again += len(held)
        self._again += held

    async def _session(self, held: list[int]) -> None:
        """One connection with up to `messages_per_connection` messages; `held`: the one that is not answered yet."""
        session = await LoadSession.connect(self._options)
        self._report.connections += 1
        self._open.add(session)
        try:
            for count in range(self._options.messages_per_connection):
                if count:
                    index = self._take()
                    if index is None:
                        break
                    held.append(index)
                await self._pace()
                message = self._maker.make(held[0])
                began = time.monotonic()
                answer = await session.send(message)
                held.pop()
                self._settle(message.id, answer, began)
            await session.quit()
        finally:
            self._open.discard(session)
            session.abort()

    def _settle(self, message_id: str, answer: Answer, began: float) -> None:
        now = self._answered_at = time.monotonic()
        report = self._report
        report.refused_recipients += answer.refused_recipients
        if answer.accepted:
            report.accepted += 1
            self._latencies.append(now - began)
            if self._accepted is not None:
                self._accepted.write(message_id + "\n")
                self._accepted.flush()
        else:
            report.refused += 1
            report.last_error = answer.reply
        self._replies[answer.reply[:3]] += 1

    def _take(self) -> int | None:
        """The next message to send: one to send again, or a new one."""
        if self._again:
            return self._again.pop()
        if self._next == self._options.messages:
            return None
        self._next += 1
        return self._next - 1

    async def _pace(self) -> None:
        """With a rate: wait until the next message is due."""
        if self._options.rate:
            due = self._started + (self._next - 1) / self._options.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
