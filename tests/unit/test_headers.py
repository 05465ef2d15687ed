"""Header work at admission: what is added, where; what From says; framing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.message.envelope import MessageClass, Track
from engine.message.header_from import domain_of_from
from engine.message.headers import Admitted, Asked, HeaderError, admit_header, is_framed, reframe

RECEIVED, DATE, MESSAGE_ID = b"Received: here\r\n", b"Date: now\r\n", b"Message-ID: <made@here>\r\n"


def admit(content: bytes) -> Admitted:
    return admit_header(content, RECEIVED, DATE, MESSAGE_ID, 1 << 20, 50)


def test_complete_header_gets_received_and_nothing_else() -> None:
    content = b"From: Ada <ada@example.org>\r\nDate: then\r\nMessage-ID: <x@y>\r\n\r\nbody\r\n"
    assert admit(content) == Admitted(RECEIVED + content, "example.org", False, True, Asked())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"From: a@b\r\n\r\nbody\r\n", b"From: a@b\r\n" + DATE + MESSAGE_ID + b"\r\nbody\r\n"),
        (b"date: x\r\n\r\nbody\r\n", b"date: x\r\n" + MESSAGE_ID + b"\r\nbody\r\n"),
        (b"Message-Id: x\r\n\r\n", b"Message-Id: x\r\n" + DATE + b"\r\n"),
        (b"Subject: no body\r\n", b"Subject: no body\r\n" + DATE + MESSAGE_ID),
        (b"\r\nno header\r\n", DATE + MESSAGE_ID + b"\r\nno header\r\n"),
        (b"neither\r\n", DATE + MESSAGE_ID + b"\r\nneither\r\n"),
        (b"", DATE + MESSAGE_ID),
        (
            b"Subject: x\r\nrubbish\r\nTo: y\r\n\r\nz\r\n",
            b"Subject: x\r\n" + DATE + MESSAGE_ID + b"\r\nrubbish\r\nTo: y\r\n\r\nz\r\n",
        ),
        (b" folded: first\r\nTo: y\r\n", DATE + MESSAGE_ID + b"\r\n folded: first\r\nTo: y\r\n"),
        (b"X-Date: x\r\nDate-X: y\r\n\r\n", b"X-Date: x\r\nDate-X: y\r\n" + DATE + MESSAGE_ID + b"\r\n"),
    ],
)
def test_missing_fields_go_to_the_end_of_the_header(content: bytes, expected: bytes) -> None:
    assert admit(content).content == RECEIVED + expected


def test_class_is_taken_and_its_field_removed() -> None:
    for word, chosen in ((b"transactional", MessageClass.TRANSACTIONAL), (b" BULK ", MessageClass.BULK)):
        admitted = admit(b"X-Postrider-Class:%b\r\nDate: x\r\nMessage-ID: y\r\n\r\n" % word)
        assert admitted.asked.message_class == chosen
        assert admitted.content == RECEIVED + b"Date: x\r\nMessage-ID: y\r\n\r\n"
    with pytest.raises(HeaderError, match="transactional or bulk"):
        admit(b"X-Postrider-Class: urgent\r\n\r\n")


names_of_ours = pytest.mark.parametrize("name", ["Batch", "Tenant", "Stream"])


@names_of_ours
@pytest.mark.parametrize("word", ["spring-sale", "a", "x" * 64, "2026/11:#7", "tenant:batch"])
def test_a_name_is_taken_and_its_field_removed(name: str, word: str) -> None:
    for field in ("X-Postrider-{}: {}\r\n", "x-postrider-{}:{} \t\r\n", "X-Postrider-{}:\r\n {}\r\n"):
        admitted = admit(field.format(name, word).encode() + b"Date: x\r\nMessage-ID: y\r\n\r\n")
        assert admitted.asked == Asked(**{name.lower(): word})
        assert admitted.content == RECEIVED + b"Date: x\r\nMessage-ID: y\r\n\r\n"
    assert admit(b"Subject: x\r\n\r\nX-Postrider-%b: body\r\n" % name.encode()).asked == Asked()


def test_of_several_words_about_tracking_the_strictest_holds() -> None:
    for words, track in (
        (["full"], Track.FULL),
        ([" None "], Track.NONE),
        (["anonymous", "full"], Track.ANONYMOUS),
        (["full", "none", "anonymous"], Track.NONE),
    ):
        fields = "".join(f"X-Postrider-Track: {word}\r\n" for word in words).encode()
        admitted = admit(fields + b"Date: x\r\nMessage-ID: y\r\n\r\n")
        assert admitted.asked == Asked(track=track)
        assert admitted.content == RECEIVED + b"Date: x\r\nMessage-ID: y\r\n\r\n"
    for word in (b"", b"yes", b"full anonymous"):
        with pytest.raises(HeaderError, match="none, anonymous or full") as refused:
            admit(b"X-Postrider-Track: %b\r\n\r\n" % word)
        assert refused.value.reply.startswith("550 ")


def test_what_a_stranger_says_to_us_is_removed_unread() -> None:
    fields = [b"Batch: b", b"Tenant: two words", b"Stream:", b"Track: full", b"Class: urgent"]
    content = b"".join(b"X-Postrider-%b\r\n" % field for field in fields) + b"Subject: x\r\n\r\nbody\r\n"
    admitted = admit_header(content, RECEIVED, DATE, MESSAGE_ID, 1 << 20, 50, trusted=False)
    assert admitted.asked == Asked()
    assert admitted.content == RECEIVED + b"Subject: x\r\n" + DATE + MESSAGE_ID + b"\r\nbody\r\n"


@names_of_ours
@pytest.mark.parametrize("value", [b"", b" ", b"two words", b"a\r\n b", b"x" * 65, b"caf\xc3\xa9", b"bell\x07"])
def test_what_is_no_name_is_refused(name: str, value: bytes) -> None:
    with pytest.raises(HeaderError, match="printable ASCII") as refused:
        admit(b"X-Postrider-%b: %b\r\n\r\n" % (name.encode(), value))
    assert refused.value.reply.startswith(f"550 5.6.0 X-Postrider-{name} ")
    assert refused.value.reason == name.lower()


def test_8_bit_bytes_are_found_in_header_and_body() -> None:
    assert admit(b"Subject: x\r\n\r\n\xff\r\n")[2:4] == (False, False)
    assert admit(b"Subject: \xc3\xa4\r\n\r\nx\r\n")[2:4] == (True, False)


@pytest.mark.parametrize(
    ("value", "domain"),
    [
        (b" ada@example.org", "example.org"),
        (b" Ada Lovelace <ada@Example.ORG>", "example.org"),
        (b' "Lovelace, Ada" <ada@example.org>', "example.org"),
        (b' "quoted \\" <fake@x.example>" <ada@example.org>', "example.org"),
        (b" ada@example.org (Ada (the (first)))", "example.org"),
        (b" (comment) ada (comment) @ (comment) example.org", "example.org"),
        (b" A group: ada@example.org, bob@example.net;", "example.org"),
        (b" Nobody:;", ""),
        (b" =?utf-8?b?w4RkYQ==?= <ada@example.org>", "example.org"),
        (b" =?utf-8?q?a,b?= <ada@example.org>", "example.org"),
        (b" Ada\r\n\t<ada@example.org>", "example.org"),
        (b' "a@b"@example.org', "example.org"),
        (b" <ada@b\xc3\xbccher.example>", "xn--bcher-kva.example"),
        (b" <ada@example.org.>", "example.org"),
        (b" ada@example.org, bob@example.net", "example.org"),
        (b" <>, <bob@example.net>", "example.net"),
        (b" ada@[192.0.2.1]", "[192.0.2.1]"),
        (b" ada", ""),
        (b"", ""),
        (b" \xff\xfe <ada@example.org>", "example.org"),
        (b" <ada@exa mple.org", "example.org"),
        (b" ada@-bad-", ""),
    ],
)
def test_from_domain(value: bytes, domain: str) -> None:
    assert domain_of_from(value) == domain


@pytest.mark.parametrize("value", [b'"' * 100_000, b"(" * 100_000, b"<a@" * 50_000, b"\\" * 100_000, b"@," * 50_000])
def test_from_domain_takes_one_pass(value: bytes) -> None:
    domain_of_from(value)


pieces = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b".", b"\0", b" "]), max_size=20).map(b"".join)


@given(pieces)
def test_reframed_content_has_crlf_only(content: bytes) -> None:
    framed = reframe(content)
    assert is_framed(framed)
    assert framed.replace(b"\r\n", b"").count(b"\r") == framed.replace(b"\r\n", b"").count(b"\n") == 0
    assert reframe(framed) == framed
    assert framed.replace(b"\r\n", b"") == content.replace(b"\r", b"").replace(b"\n", b"")
    if is_framed(content):
        assert framed == content


names = st.sampled_from(
    [b"From", b"date", b"MESSAGE-ID", b"Bcc", b"X", b"Received", b"bcc ", b"", b"a b", b"Resent-Bcc"]
)
lines = st.one_of(
    st.tuples(names, st.just(b": v@w.example")).map(b"".join), st.sampled_from([b" folded", b"\tx", b"junk"])
)


@given(st.lists(lines, max_size=8), st.sampled_from([b"", b"\r\n", b"\r\nbody\r\n", b"\r\n\r\nBcc: x\r\n"]))
def test_any_header_comes_out_whole_and_with_its_fields_once(header: list[bytes], rest: bytes) -> None:
    """Against a slow reading of the rules, field by field."""
    content = b"".join(line + b"\r\n" for line in header) + rest
    fields: list[bytes] = []
    left = list(header)
    while left and (left[0][:1] not in (b" ", b"\t") or fields):
        line = left[0]
        if line[:1] in (b" ", b"\t"):
            fields[-1] += line + b"\r\n"
        elif b":" in line and b" " not in line.split(b":")[0].rstrip() and line.split(b":")[0]:
            fields.append(line + b"\r\n")
        else:
            break
        left.pop(0)

    def name(field: bytes) -> bytes:
        return field.partition(b":")[0].strip().lower()

    if [name(field) for field in fields].count(b"from") > 1:
        with pytest.raises(HeaderError):
            admit(content)
        return
    expected, seen = [], set()
    for field in fields:
        if name(field) in (b"bcc", b"resent-bcc") or (name(field) in (b"date", b"message-id") and name(field) in seen):
            continue
        seen.add(name(field))
        expected.append(field)
    expected += [field for field in (DATE, MESSAGE_ID) if name(field) not in seen]
    body = b"".join(line + b"\r\n" for line in left) + rest
    assert admit(content).content == RECEIVED + b"".join(expected) + (b"\r\n" if left else b"") + body
