"""What an operator can ask of a worker, by name. The socket is in server.py, which a supervisor has, too."""

from functools import partial

from engine.admin import actions, feed, sms, spool, views
from engine.admin.parts import Parts
from engine.admin.server import Command

COMMANDS: dict[str, Command] = {
    "status": views.status,
    "queues": views.queues,
    "list": views.listing,
    "show": views.show,
    "why": views.why,
    "binds": sms.binds,
    "consumers": feed.consumers,
    "consumer_pause": feed.consumer_pause,
    "consumer_resume": feed.consumer_resume,
    "consumer_seek": feed.consumer_seek,
    "retry": actions.retry,
    "hold": actions.hold,
    "resume": actions.resume,
    "bounce": actions.bounce,
    "purge": actions.purge,
    "move": actions.move,
    "spool_status": spool.spool_status,
    "spool_compact": spool.spool_compact,
    "spool_import": spool.spool_import,
    "spool_purge": spool.spool_purge,
    "spool_queued": spool.spool_queued,
}


def commands_of(parts: Parts) -> dict[str, Command]:
    """The commands, on one worker."""
    return {name: partial(command, parts) for name, command in COMMANDS.items()}
