"""Texts as numbers, and as names of folders that can never lead out of theirs."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from engine.storage.spool.backlog import SMALL
from engine.storage.spool.names import Names, folder_name

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=300)


@given(texts)
def test_no_text_escapes_its_folder(text: str) -> None:
    name = folder_name(text)
    path = Path("/spool/mail") / name
    if text:
        assert path.parent == Path("/spool/mail")
        assert Path(name).name == name and name not in (".", "..")
    assert not name.startswith((".", "="))
    assert len(name.encode()) <= 255 and name.isascii() and name.isprintable()
    assert not set(name) & set('/\\\0:*?"<>| ')


@given(texts, texts)
def test_two_texts_have_two_names_whatever_the_file_system_makes_of_case(one: str, other: str) -> None:
    assert (folder_name(one).lower() == folder_name(other).lower()) == (one == other)


def test_a_domain_is_its_own_name() -> None:
    assert folder_name("mail.example-1.org") == "mail.example-1.org"
    assert folder_name("..") == "%2e."
    assert folder_name("[192.0.2.1]") == "%5b192.0.2.1%5d"
    assert folder_name("Example.org") == "%45xample.org"
    assert folder_name(SMALL) != SMALL, "no destination has the folder of the small ones"
    assert folder_name("a" * 250) != folder_name("a" * 251)


@given(st.lists(st.one_of(texts.map(lambda text: ("number", text)), st.lists(texts).map(lambda kept: ("keep", kept)))))
def test_every_text_has_one_number_as_long_as_it_is_kept(story: list[tuple[str, object]]) -> None:
    names, model = Names(), {"": 0}
    for what, argument in story:
        if what == "number":
            assert isinstance(argument, str)
            number = names.number(argument)
            assert model.setdefault(argument, number) == number
        else:
            assert isinstance(argument, list)
            names.keep([model[text] for text in argument if text in model])
            model = {text: number for text, number in model.items() if not text or text in argument}
        assert len(set(model.values())) == len(model) == len(names)
        assert all(names.text(number) == text and names.find(text) == number for text, number in model.items())
    assert names.find("never \ud7ff said") is None
