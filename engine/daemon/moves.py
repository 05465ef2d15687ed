"""What a running daemon cannot change."""

from engine.base.errors import EngineError
from engine.base.settings import Settings


def refuse_moves(old: Settings, new: Settings) -> None:
    """Raises EngineError: only a restart can do that."""
    for name, what in (("data_dir", "data_dir"), ("name", "node name"), ("workers", "number of workers")):
        if getattr(new.node, name) != getattr(old.node, name):
            raise EngineError(f"a new {what} needs a restart")
