"""Tracked links through the whole daemon: what arrives, what its tokens say, and that its signature holds."""

import base64
import email
import quopri
import re
from collections.abc import Iterator
from email.policy import SMTP

import pytest

from engine.message.dkim_keys import SigningKey
from engine.message.link_token import FIRST_LINK, HONEYPOT, OPEN, UNSUBSCRIBE, Kind, LinkTokens, of_local_part
from engine.storage.ledger.reader import LedgerReader
from engine.storage.ledger.sent import Sent
from tests.support.client import letter, submit
from tests.support.dkim import accepted_by_dkimpy, rsa_key, write_key
from tests.support.engine import Daemon, Sink, wait_until
from tests.support.relay import relayed

BASE, SHOP = "https://click.mx.test", "https://go.shop.test/x"
TOKENS = LinkTokens({7: b"s" * 32})
HTML = (
    '<html><body><p title="a=b">Привет, мир!</p>\r\n<a href="https://home.test/?a=1&amp;b=2">one</a>\r\n'
    "<a href='mailto:a@home.test'>write</a> <A HREF=http://home.test/two>two</A>\r\n"
    '<a href="https://home.test/leave">leave</a></body></html>\r\n'
)
TARGETS = ("https://home.test/?a=1&b=2", "http://home.test/two", "https://home.test/leave")


class Stage:
    def __init__(self, engine: Daemon, receiver: Sink) -> None:
        self.engine, self.receiver = engine, receiver
        self.ledger = LedgerReader(engine.path / "data")

    def sent(self, recipients: list[str], content: bytes) -> tuple[str, dict[str, bytes]]:
        """A message's id, and what arrived for each of its recipients."""
        message = submit(self.engine.port, "ada@home.test", recipients, content)
        self.engine.books()
        arrived = {
            recipient: bytes(text)
            for envelope, text in self.receiver.messages()
            if message.encode() in text
            for recipient in envelope["recipients"]
        }
        assert sorted(arrived) == sorted(recipients)
        return message, arrived

    def delivered_at(self, message: str, index: int) -> float | None:
        while self.ledger.refresh():
            pass
        return self.ledger.delivered_at(message, index)

    def note(self, message: str) -> Sent:
        while self.ledger.refresh():
            pass
        sent = self.ledger.find(message)
        assert sent is not None
        return sent


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    path = tmp_path_factory.mktemp("tracked")
    key = write_key(path, "s1.pem", rsa_key())
    more = f"""
        [tracking]
        base_url = "{BASE}"
        level = "full"
        keys = ["7:{(b"s" * 32).hex()}"]
        opens = true
        honeypot = true
        unsubscribe_mailto = "leave.mx.test"
        [[click_domain]]
        tenant = "shop"
        base_url = "{SHOP}"
        [[dkim]]
        domain = "home.test"
        selector = "s1"
        key = "{key}"
        """
    with relayed(path, more=more) as (engine, receiver):
        yield Stage(engine, receiver)


def html_letter(encoding: str, *fields: str) -> bytes:
    text = HTML.encode()
    if encoding == "base64":
        text = base64.encodebytes(text).replace(b"\n", b"\r\n")
    elif encoding == "quoted-printable":
        text = quopri.encodestring(text.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
    types = ("MIME-Version: 1.0", "Content-Type: text/html; charset=utf-8", f"Content-Transfer-Encoding: {encoding}")
    return letter("news", "ada@home.test", *types, *fields, body=text)


def text_of(content: bytes) -> str:
    """The only part, decoded by the standard library."""
    data = email.message_from_bytes(content, policy=SMTP).get_payload(decode=True)
    assert isinstance(data, bytes)
    return data.decode()


def links_of(content: bytes, base: str = BASE) -> list[str]:
    """The tokens of clicks, in order."""
    return re.findall(rf"{re.escape(base)}/c/([\w-]+)", text_of(content))


def without_tracking(text: str, base: str = BASE) -> str:
    """A text with its links put back by the table, and what was added taken out."""
    text = re.sub(r"\r\n<a href=[^>]*display:none[^>]*></a>\r\n<img [^>]*/o/[^>]*>\r\n", "", text)
    targets = iter(TARGETS)
    return re.sub(rf"{re.escape(base)}/c/[\w-]+", lambda _: next(targets).replace("&", "&amp;"), text)


def is_signed(content: bytes) -> bool:
    return accepted_by_dkimpy(content, [SigningKey("home.test", "s1", rsa_key())]) == [True]


@pytest.mark.parametrize("encoding", ["8bit", "quoted-printable", "base64"])
def test_each_recipient_has_links_that_name_him_in_a_message_that_is_signed(stage: Stage, encoding: str) -> None:
    recipients = ["bob@far.test", "carl@far.test", "dora@other.test"]
    message, arrived = stage.sent(
        recipients, html_letter(encoding, "X-Postrider-Batch: may", "X-Postrider-Stream: news")
    )
    sent = stage.note(message)
    assert (sent.level, sent.recipients, sent.batch, sent.stream) == ("full", tuple(recipients), "may", "news")
    assert stage.ledger.links(sent) == TARGETS
    for index, recipient in enumerate(recipients):
        content = arrived[recipient]
        assert is_signed(content)
        tokens = [TOKENS.read(Kind.CLICK, token) for token in links_of(content)]
        assert [token and (token.message, token.link, token.recipient) for token in tokens] == [
            (message, number, index) for number in (*range(FIRST_LINK, FIRST_LINK + 3), HONEYPOT)
        ]
        opened = re.findall(rf"{BASE}/o/([\w-]+)\.gif", text_of(content))
        assert [TOKENS.read(Kind.OPEN, token) for token in opened] == [(message, OPEN, index)]
        assert without_tracking(text_of(content)) == HTML
        assert b"X-Postrider" not in content
        assert wait_until(lambda at=index: stage.delivered_at(message, at), f"{message} delivered") >= sent.at


def test_bulk_mail_says_how_to_leave_and_that_is_signed_too(stage: Stage) -> None:
    message, arrived = stage.sent(["bob@far.test"], html_letter("8bit"))
    content = arrived["bob@far.test"]
    header = email.message_from_bytes(content, policy=SMTP)
    match = re.fullmatch(rf"<{BASE}/u/([\w-]+)>,\s*<mailto:(\w+)@leave\.mx\.test\?subject=unsubscribe>",
                         header["List-Unsubscribe"])  # fmt: skip
    assert match is not None
    assert TOKENS.read(Kind.UNSUBSCRIBE, match[1]) == (message, UNSUBSCRIBE, 0)
    assert of_local_part(match[2]) == match[1]
    assert header["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    signed = header["DKIM-Signature"].lower().replace(" ", "")
    assert "list-unsubscribe:" in signed and "list-unsubscribe-post:" in signed and is_signed(content)
    assert not is_signed(content.replace(match[1].encode(), b"A" * 28, 1))


def test_what_the_client_says_of_leaving_stays_and_so_does_the_link_to_it(stage: Stage) -> None:
    own = "List-Unsubscribe: <mailto:l@home.test>,\r\n <https://home.test/leave>"
    _, arrived = stage.sent(["bob@far.test"], html_letter("8bit", own))
    content = arrived["bob@far.test"]
    assert own.encode() in content and content.count(b"List-Unsubscribe") == 1
    assert len(links_of(content)) == 3 and '<a href="https://home.test/leave">' in text_of(content)


def test_transactional_mail_is_tracked_without_a_word_of_leaving(stage: Stage) -> None:
    _, arrived = stage.sent(["bob@far.test"], html_letter("8bit", "X-Postrider-Class: transactional"))
    assert b"List-Unsubscribe" not in arrived["bob@far.test"] and len(links_of(arrived["bob@far.test"])) == 4


def test_anonymous_links_are_the_same_for_all_of_a_batch_and_lead_to_nobody(stage: Stage) -> None:
    fields = ("X-Postrider-Track: anonymous", "X-Postrider-Batch: june")
    first, one = stage.sent(["bob@far.test", "carl@far.test"], html_letter("8bit", *fields))
    _, two = stage.sent(["dora@far.test"], html_letter("8bit", *fields))
    links = [links_of(content) for content in (*one.values(), *two.values())]
    assert links[0] == links[1] == links[2] and len(links[0]) == 4
    token = TOKENS.read(Kind.CLICK, links[0][0])
    assert token is not None and token.message != first
    sent = stage.note(token.message)
    assert (sent.level, sent.recipients, sent.sender, sent.batch) == ("anonymous", (), "", "june")
    assert stage.ledger.links(sent) == TARGETS
    # To leave, who he is must be known, and is: without a table of links.
    leaves = [re.search(rb"/u/([\w-]+)>", one[to]) for to in ("bob@far.test", "carl@far.test")]
    assert [each and TOKENS.read(Kind.UNSUBSCRIBE, each[1].decode()) for each in leaves] == [
        (first, 0, 0),
        (first, 0, 1),
    ]
    assert (stage.note(first).level, stage.note(first).table) == ("none", b"")


def test_a_message_that_asks_for_none_has_none(stage: Stage) -> None:
    content = html_letter("8bit", "X-Postrider-Track: none", "X-Postrider-Class: transactional")
    _, arrived = stage.sent(["bob@far.test"], content)
    assert arrived["bob@far.test"].endswith(content.partition(b"\r\n\r\n")[2])
    assert BASE.encode() not in arrived["bob@far.test"]


def test_a_tenant_has_his_own_click_domain(stage: Stage) -> None:
    message, arrived = stage.sent(["bob@far.test"], html_letter("base64", "X-Postrider-Tenant: shop"))
    content = arrived["bob@far.test"]
    assert len(links_of(content, SHOP)) == 4 and BASE not in text_of(content)
    assert f"<{SHOP}/u/".encode() in content and without_tracking(text_of(content), SHOP) == HTML
    assert stage.note(message).tenant == "shop" and is_signed(content)


@pytest.mark.parametrize("sender", ["", "ada@home.test"])
def test_what_is_signed_or_has_no_sender_is_left_alone(stage: Stage, sender: str) -> None:
    content = html_letter(
        "8bit", *["DKIM-Signature: v=1; a=rsa-sha256; d=other.test; s=x; h=from; bh=AA; b=AA"] * bool(sender)
    )
    message = submit(stage.engine.port, sender, ["bob@far.test"], content)
    stage.engine.books()
    (arrived,) = [text for _, text in stage.receiver.messages() if message.encode() in text]
    assert BASE.encode() not in arrived and HTML.encode() in arrived


def test_a_batch_whose_links_shall_tell_nothing_keeps_them_from_a_second_on(stage: Stage) -> None:
    fields = ("X-Postrider-Batch: b9", "X-Postrider-Track: full")

    def arrived(*fields: str) -> tuple[str, bool]:
        """The level of a message, and whether its links are as they were."""
        message, copies = stage.sent(["ada@two.test"], html_letter("8bit", *fields))
        return stage.note(message).level, HTML in text_of(copies["ada@two.test"])

    assert arrived(*fields) == ("full", False)
    stage.engine.run("track", "level", "batch", "b9", "none", "--reason", "asked to")
    wait_until(lambda: arrived(*fields) == ("none", True), "a batch that is not tracked")
    assert arrived("X-Postrider-Batch: b8") == ("full", False)
    wait_until(lambda: any("batch b9 tell none" in str(event) for event in stage.engine.events("admin")), "the event")
