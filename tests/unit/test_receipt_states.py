"""States: which are final, which words name them."""

import pytest

from engine.protocol.receipt_states import State, read_state


def test_which_states_are_final() -> None:
    intermediate = {State.ENROUTE, State.ACCEPTED, State.SCHEDULED}
    assert {state for state in State if state.intermediate} == intermediate
    assert {state for state in State if not state.final} == intermediate | {State.UNKNOWN}


@pytest.mark.parametrize("state", State)
def test_a_state_is_read_from_its_word_its_name_and_its_number(state: State) -> None:
    for words in (state.word, state.name, state.name.lower(), str(state.value), f"{state.value:03d}"):
        assert read_state(words) == (state, words)


@pytest.mark.parametrize(
    ("words", "state"),
    [
        ("BUFFRED", State.ENROUTE), ("ACKED", State.ACCEPTED), ("FAILED", State.UNDELIVERABLE),
        ("NOCRED", State.REJECTED), ("SYSERR", State.UNDELIVERABLE), ("Delivered", State.DELIVERED),
        ("DND_REJECTED", State.REJECTED), ("REJECTED_BY_OPERATOR", State.REJECTED), 
        ("UN-DELIVERED", State.UNDELIVERABLE),
        ("MESSAGE_EXPIRED", State.EXPIRED), ("CB:0053", State.UNDELIVERABLE), ("BLACKLIST", State.REJECTED),
        # Nothing but a word of the table means delivered, and no number but those of message_state means anything.
        ("DELIV", State.UNKNOWN), ("ALMOST_DELIVERED", State.UNKNOWN), ("10", State.UNKNOWN), ("٢", State.UNKNOWN),
        ("²", State.UNKNOWN), ("9" * 5000, State.UNKNOWN), ("?", State.UNKNOWN),
    ],
)  # fmt: skip
def test_words_of_the_field(words: str, state: State) -> None:
    assert read_state(words) == (state, words)


@pytest.mark.parametrize(
    ("text", "state", "words"),
    [
        ("DELIVRD imsi:250", State.DELIVERED, "DELIVRD"), ("DELIVRD reason:no failure", State.DELIVERED, "DELIVRD"),
        ("NOT DELIVERED", State.UNDELIVERABLE, "NOT DELIVERED"), ("DND REJECTED", State.REJECTED, "DND"),
        ("DND_REJECT x:1", State.REJECTED, "DND_REJECT"), ("so so", State.UNKNOWN, "so"),
    ],
)  # fmt: skip
def test_what_follows_the_state_is_left_out(text: str, state: State, words: str) -> None:
    assert read_state(text) == (state, words)
