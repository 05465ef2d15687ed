"""What became of what carriers took, for the client that asks (query_sm)."""

from engine.feedback.outstanding import Taken
from engine.protocol.receipt_parts import Fate
from engine.protocol.receipt_states import State
from engine.storage.tables.sent import SentTable


class SentStates:
    """Implements intake.smpp_orders.SentStates, as long as the table remembers."""

    def __init__(self, table: SentTable) -> None:
        self._table = table

    def state_of(self, message_id: str, account: str) -> tuple[int, float, int] | None:
        """message_state; of several numbers that of the first. When it was reached, nobody keeps."""
        rows = self._table.of_message(message_id)
        taken = Taken.of([row for row in rows if row.part.index == rows[0].part.index]) if rows else None
        if taken is None or taken.parts[0].account != account:
            return None
        whole = taken.whole
        match whole.fate:
            case Fate.DELIVERED:
                state = State.DELIVERED
            case Fate.FAILED:
                known = [whole.state(number) for number in range(1, len(taken.parts) + 1)]
                failed = (state for state in known if state is not None and state.final)
                state = next((state for state in failed if state is not State.DELIVERED), State.UNDELIVERABLE)
            case Fate.MISSING | Fate.SENT:
                state = State.UNKNOWN
            case _:
                state = State.ENROUTE
        return int(state), 0.0, 0
