"""What can be written in SMS, for their tests."""

from engine.protocol.sms_alphabets import DEFAULT_TABLES, Tables
from engine.protocol.sms_shifts import ESCAPE, HOLE, LOCKING, SINGLE


def characters(tables: Tables = DEFAULT_TABLES) -> str:
    """Those that can be written in a pair of tables."""
    return "".join(sorted(set(LOCKING[tables.locking] + SINGLE[tables.single]) - {ESCAPE, HOLE}))
