"""Addresses: one spelling of a destination, both ways of IDN, and P1: any text gives an address or an AddressError."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.message.address import (
    AddressError,
    comparable,
    destination_of,
    domain_to_ascii,
    domain_to_unicode,
    parse_mailbox,
    parse_path,
)


@pytest.mark.parametrize(
    ("address", "destination"),
    [
        ("ada@Example.ORG", "example.org"),
        ("ada@example.org.", "example.org"),
        ('"a@b"@example.org', "example.org"),
        ("ada@bücher.example", "xn--bcher-kva.example"),
        ("ada@BÜCHER.EXAMPLE", "xn--bcher-kva.example"),
        ("ada@XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("ada@[192.0.2.1]", "[192.0.2.1]"),
        ("ada@[IPv6:2001:DB8:0:0::1]", "[IPv6:2001:db8::1]"),
        ("ada@localhost", "localhost"),
    ],
)
def test_destination_is_the_domain_in_one_spelling(address: str, destination: str) -> None:
    assert destination_of(address) == destination


@pytest.mark.parametrize("address", ["", "@", "a@", "@b", "a", "a@b c", "a@b\n", "a@b/../c", "a@..", "a@b@c", "a@[b]"])
def test_destination_of_no_address_is_an_error(address: str) -> None:
    with pytest.raises(AddressError):
        destination_of(address)


def test_path_gives_what_follows_it() -> None:
    assert parse_path("<a@b.example> SIZE=1") == ("a@b.example", "b.example", " SIZE=1")
    assert parse_path("<> BODY=7BIT") == ("", "", " BODY=7BIT")
    assert parse_path('<"a> b"@c.example>x') == ('"a> b"@c.example', "c.example", "x")
    assert parse_path("<POSTMASTER>") == ("postmaster", "", "")


def test_domain_is_made_ascii_when_the_local_part_is() -> None:
    assert parse_mailbox("a@bücher.example")[0] == "a@xn--bcher-kva.example"
    assert parse_mailbox("ä@bücher.example")[0] == "ä@bücher.example"


def test_idn_goes_both_ways() -> None:
    for name in ("bücher.example", "münchen.de", "例え.jp", "ελληνικά.example", "plain.example"):
        assert domain_to_unicode(domain_to_ascii(name)) == name
    assert domain_to_unicode("xn--999999999.example") == "xn--999999999.example"


@given(st.text(max_size=400))
@example("a" * 64 + "@" + "b." * 120 + "example")
@example("a@" + "ü" * 300)
@example("a@\ud800.example")
@example('"' + "\\" * 300)
def test_any_text_gives_an_address_or_an_error(text: str) -> None:
    for path in (f"<{text}>", text, f"<a@{text}>", f"<{text}@b.example>"):
        try:
            address, destination, _ = parse_path(path, smtputf8=True)
        except AddressError:
            continue
        assert all(char not in address for char in "\r\n\0")
        if destination:
            assert destination.isascii()
            assert destination == destination_of(address)
            # Said again, it is the same address.
            assert parse_path(f"<{address}>", smtputf8=True)[:2] == (address, destination)


@given(
    st.from_regex(r"[a-z0-9]+(\.[a-z0-9]+)*", fullmatch=True), st.from_regex(r"[a-z0-9]+(\.[a-z]+)+", fullmatch=True)
)
def test_ordinary_addresses_pass_unchanged(local: str, domain: str) -> None:
    if len(local) <= 64 and all(len(label) <= 63 for label in domain.split(".")) and len(domain) <= 253:
        assert parse_path(f"<{local}@{domain}> X=Y") == (f"{local}@{domain}", domain, " X=Y")


@pytest.mark.parametrize(
    ("address", "same"),
    [
        ('"bob"@Example.net', "bob@example.net"), ('"b\\ob"@example.net', "bob@example.net"),
        ('"Bob.Smith"@example.net', "bob.smith@example.net"), ('"b b"@example.net', '"b b"@example.net'),
        ('"b\\ b"@example.net', '"b b"@example.net'), ('"b\\"\\\\b"@example.net', '"b\\"\\\\b"@example.net'),
        ('"a@b"@example.net', '"a@b"@example.net'), ('"bob."@example.net', '"bob."@example.net'),
        ('""@example.net', '""@example.net'), ('"bob', '"bob'), ('"bäb"@example.net', "bäb@example.net"),
        ("!bob@example.net", "!bob@example.net"),
    ],
)  # fmt: skip
def test_quotes_that_are_not_needed_are_no_part_of_a_mailbox(address: str, same: str) -> None:
    """RFC 5321 4.1.2."""
    assert comparable(address) == same == comparable(same)
