"""What is a stop and what is not (sms.md, "Answers and opt-out")."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.message.sms_words import HELP_WORDS, START_WORDS, STOP_WORDS, Heard, Wish, Words

WORDS = Words()


def wish(text: str, words: Words = WORDS) -> Wish | None:
    heard = words.hear(text)
    return heard.wish if heard else None


@pytest.mark.parametrize(
    ("words", "meant"), [(STOP_WORDS, Wish.STOP), (START_WORDS, Wish.START), (HELP_WORDS, Wish.HELP)]
)
def test_each_word_however_it_is_written(words: tuple[str, ...], meant: Wish) -> None:
    for word in words:
        for text in (
            word,
            word.lower(),
            word.title(),
            f"  {word}. ",
            f'"{word}!!!"',
            f"«{word}»",
            f"{word}\r\n",
            f"{word} 👍",
        ):
            assert wish(text) is meant, text


@pytest.mark.parametrize(
    "text",
    [
        "Stop. Thank you", "Stop, thank you very much!", "STOP please", "Please stop", "please, STOP. Thanks",
        "Stop thx",
        "stop stop stop", "Stop. Stop!", "Opt out", "OPT-OUT", "opt_out", "stop all", "STOP-ALL", "un-subscribe",
        "Unsubscribe please. Many thanks", "ＳＴＯＰ", "S.T.O.P.", "Sorry, stop", "stop\u200b", "Quit pls", "Stop?",
        "Стоп, спасибо", "Пожалуйста, отписка", "отмена. Спасибо большое!", "СТОП СТОП", "стоп пожалуйста",
        "Заранее спасибо. Стоп",
    ],
)  # fmt: skip
def test_a_stop(text: str) -> None:
    assert wish(text) is Wish.STOP


@pytest.mark.parametrize(
    "text",
    [
        "we have to STOP this bill", "Don't stop", "do not stop", "don't stop please", "Stop by at 5", "stop it",
        "bus stop", "The end", "the end.", "Cancel my order 1234", "STOP 2", "1 stop", "non-stop", "nonstop", "stopped",
        "Stopping", "Thank you", "Thanks a lot", "please", "", " ", "...", "👍", "Stop. I want my money back",
        "endless", "Is this the end? Thank you", "stop you", "stop so much", "not STOP", "Stop cancel", "Stop start",
        "I quit smoking", "Ended", "the quit", "Liked “STOP”", "Reply STOP to unsubscribe",
        "не стоп", "Стоп машина", "автостоп", "отмена заказа 15", "Спасибо", "большое спасибо",
        "нужна отписка от рассылки",
        "Это не отписка", "стоп-кран", "останови", "СТОПУДОВО", "Пожалуйста", "стопка", "остановка",
    ],
)  # fmt: skip
def test_no_stop(text: str) -> None:
    assert wish(text) is not Wish.STOP
    assert wish(text) is None


def test_a_start_is_taken_at_its_word() -> None:
    assert [wish(text) for text in ("yes", "Yes!", "UN-STOP", "старт.")] == [Wish.START] * 4
    assert [wish(text) for text in ("Yes please", "start, thank you", "yes yes please", "oh yes")] == [None] * 4


def test_help_may_be_asked_for_politely() -> None:
    assert wish("Help please!") is Wish.HELP
    assert wish("Can you help me?") is None


def test_an_accounts_own_words_and_phrases() -> None:
    words = Words(stop=("No more", "Basta"), start=("Encore",))
    assert wish("no more!", words) is Wish.STOP
    assert wish("BASTA, thank you", words) is Wish.STOP
    assert wish("encore", words) is Wish.START
    assert wish("stop", words) is Wish.STOP
    assert wish("no more") is None
    assert wish("no more bills", words) is None


def test_a_word_given_as_both_stops() -> None:
    assert wish("yes", Words(stop=("YES",))) is Wish.STOP
    assert wish("stop", Words(start=("STOP",))) is Wish.STOP


def test_the_language_is_that_of_the_word() -> None:
    assert WORDS.hear("Стоп. Thank you") == Heard(Wish.STOP, "стоп")
    assert [heard.russian for text in ("СТОП", "stop", "Спасибо, stop") if (heard := WORDS.hear(text))] == [
        True, False, False,
    ]  # fmt: skip


def test_a_long_text_is_not_looked_at() -> None:
    assert wish("stop" + "." * 1000) is None


@given(st.text(max_size=60))
def test_any_text_is_heard(text: str) -> None:
    WORDS.hear(text)


@given(st.lists(st.sampled_from(["stop", "please", "thank", "you", "bill", "yes", "help"]), max_size=5))
def test_with_a_word_that_is_neither_it_is_an_answer(words: list[str]) -> None:
    if "bill" in words:
        assert wish(" ".join(words)) is None
