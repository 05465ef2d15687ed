"""Events of what people answer, in the journal of the spool like all others."""

import asyncio

from engine.feedback.ports import Noted
from engine.message.envelope import MessageClass
from engine.storage.events.event import Event, class_name, noted_lines
from engine.storage.spool.spool import Spool

_CLASS = class_name(MessageClass.TRANSACTIONAL)


class EventNotes:
    """Implements ports.Notes."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def note(self, noted: Noted) -> asyncio.Future[None]:
        event = Event(
            id="", at=noted.at, type=noted.type, message=noted.message, message_class=_CLASS, sender=noted.sender,
            recipient=noted.recipient, destination=noted.destination, attempt=noted.attempt, reply=noted.reply,
            remote=noted.remote, answer=noted.answer, text=noted.text,
        )  # fmt: skip
        return self._spool.note(lambda seq: noted_lines(seq, [event]))
