"""Delivery status notifications as a stranger's parser sees them (RFC 3464, 6522, 6533)."""

import re
from email import message_from_bytes
from email.message import EmailMessage, Message
from email.policy import SMTP, compat32
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.protocol.dsn import Action, Dsn, DsnMessage, DsnRecipient, build_dsn

CONTENT = (
    b"From: Eve <eve@example.com>\r\n"
    b"To: ada@example.org\r\n"
    b"Message-ID: <original@example.com>\r\n"
    b"Subject: hello\r\n"
    b"\r\n"
    b"First line\r\n.dot\r\n"
)
ADA = DsnRecipient(
    address="ada@example.org",
    original="rfc822;Ada@alias.example",
    status="5.1.1",
    remote="mx1.example.org[192.0.2.7]:25",
    diagnostic="550 5.1.1 <ada@example.org>: no such user, and a text so long that the field does not fit on one line",
    explanation="mx1.example.org answered: 550 no such user",
    last_attempt_at=1_700_000_060.9,
    will_retry_until=1_700_259_200.0,
)


def notify(
    *recipients: DsnRecipient,
    content: bytes = CONTENT,
    action: Action = "failed",
    to: str = "eve@example.com",
    envelope_id: str = "",
    return_content: bool = True,
    sender: tuple[str, str] = ("Mail Delivery System", "MAILER-DAEMON@mx.example.com"),
) -> DsnMessage:
    return build_dsn(
        Dsn(
            action=action,
            message_id="<0Hs7kQpf3Za2Wq@mx.example.com>",
            date=1_700_000_100.0,
            sender=sender,
            to=to,
            reporting_mta="mx.example.com",
            arrived_at=1_700_000_000.0,
            recipients=recipients or (ADA,),
            envelope_id=envelope_id,
            return_content=return_content,
        ),
        content,
    )


def parsed(built: DsnMessage) -> EmailMessage:
    message = message_from_bytes(built.content, policy=SMTP)
    assert isinstance(message, EmailMessage)
    for part in message.walk():
        assert part.defects == []
    return message


def parts(built: DsnMessage) -> tuple[EmailMessage, EmailMessage, EmailMessage]:
    text, status, returned = parsed(built).iter_parts()
    assert isinstance(text, EmailMessage)
    assert isinstance(status, EmailMessage)
    assert isinstance(returned, EmailMessage)
    return text, status, returned


def groups(built: DsnMessage) -> list[Message]:
    """The fields per message, then those of each recipient. Of a global status part as well, which the standard
    library does not know."""
    _, status, _ = parts(built)
    if status.get_content_type() == "message/delivery-status":
        return list(status.get_payload())
    body = built.content.split(b"global-delivery-status\r\n", 1)[1].split(b"\r\n\r\n", 1)[1].split(b"\r\n--=_")[0]
    return [message_from_bytes(group, policy=SMTP) for group in body.split(b"\r\n\r\n")]


def assert_sound(content: bytes) -> None:
    """CRLF everywhere, no line that SMTP cannot carry."""
    assert content.endswith(b"\r\n")
    lines = content.split(b"\r\n")
    assert not any(b"\r" in line or b"\n" in line or b"\0" in line for line in lines)
    assert max(map(len, lines)) <= 998


def test_the_header_of_a_notification() -> None:
    built = notify()
    message = parsed(built)
    assert_sound(built.content)
    assert dict(message.items()) | {"Content-Type": ""} == {
        "From": "Mail Delivery System <MAILER-DAEMON@mx.example.com>",
        "To": "eve@example.com",
        "Subject": "Undelivered mail returned to sender",
        "Date": "Tue, 14 Nov 2023 22:15:00 +0000",
        "Message-ID": "<0Hs7kQpf3Za2Wq@mx.example.com>",
        "In-Reply-To": "<original@example.com>",
        "Auto-Submitted": "auto-replied",
        "MIME-Version": "1.0",
        "Content-Type": "",
    }
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert (built.body, built.smtputf8) == ("7BIT", False)


def test_the_fields_for_programs() -> None:
    whole, ada = groups(notify(envelope_id="QQ 314159"))
    assert dict(whole.items()) == {
        "Reporting-MTA": "dns; mx.example.com",
        "Original-Envelope-Id": "QQ 314159",
        "Arrival-Date": "Tue, 14 Nov 2023 22:13:20 +0000",
    }
    unfolded = {name: re.sub(r"\r\n(?=[ \t])", "", value) for name, value in ada.items()}
    assert unfolded == {
        "Original-Recipient": "rfc822; Ada@alias.example",
        "Final-Recipient": "rfc822; ada@example.org",
        "Action": "failed",
        "Status": "5.1.1",
        "Remote-MTA": "dns; mx1.example.org",
        "Diagnostic-Code": f"smtp; {ADA.diagnostic}",
        "Last-Attempt-Date": "Tue, 14 Nov 2023 22:14:20 +0000",
    }


def test_the_text_for_people_names_the_recipient_and_the_reason() -> None:
    text = parts(notify())[0].get_content()
    assert "<ada@example.org>" in text
    assert "mx1.example.org answered: 550 no such user" in text
    assert "It will not be tried again" in re.sub(r"\s+", " ", text)
    assert max(map(len, text.splitlines())) <= 76


def test_several_recipients_share_one_notification() -> None:
    bob = DsnRecipient(address="bob@example.org", status="5.2.2", diagnostic="552 full", remote="[192.0.2.9]:25")
    whole, first, second = groups(notify(ADA, bob))
    assert "Reporting-MTA" in whole
    assert first["Final-Recipient"] == "rfc822; ada@example.org"
    assert dict(second.items()) == {
        "Final-Recipient": "rfc822; bob@example.org",
        "Action": "failed",
        "Status": "5.2.2",
        "Remote-MTA": "dns; [192.0.2.9]",
        "Diagnostic-Code": "smtp; 552 full",
    }


@pytest.mark.parametrize("action", ["failed", "delayed", "delivered", "relayed", "expanded"])
def test_every_action_has_its_subject_and_says_so(action: Action) -> None:
    built = notify(action=action)
    assert groups(built)[1]["Action"] == action
    assert parsed(built)["Subject"]
    assert ("Will-Retry-Until" in groups(built)[1]) == (action == "delayed")


def test_a_delay_says_until_when() -> None:
    until = groups(notify(action="delayed"))[1]["Will-Retry-Until"]
    assert parsedate_to_datetime(until).timestamp() == ADA.will_retry_until


@pytest.mark.parametrize(
    ("status", "found"),
    [("5.1.10", "5.1.10"), ("4.4.7", "4.4.7"), ("", "5.0.0"), ("5.1.1\r\nX: y", "5.0.0"), ("3.1.1", "5.0.0")],
)
def test_the_status_is_one_or_is_replaced(status: str, found: str) -> None:
    assert groups(notify(DsnRecipient(address="a@b", status=status)))[1]["Status"] == found


@pytest.mark.parametrize(
    ("remote", "diagnostic", "found"),
    [
        ("mx[192.0.2.1]:25", "550 no", "smtp; 550 no"),
        ("mx[192.0.2.1]:25", "550-no 550 really", "smtp; 550-no 550 really"),
        ("mx[192.0.2.1]:25", "connection lost", "x-postrider; connection lost"),
        ("none", "550 no", "x-postrider; 550 no"),
        ("none", "domain does not exist", "x-postrider; domain does not exist"),
    ],
)
def test_only_what_a_server_said_is_an_smtp_diagnostic(remote: str, diagnostic: str, found: str) -> None:
    recipient = DsnRecipient(address="a@b", status="5.0.0", remote=remote, diagnostic=diagnostic)
    group = groups(notify(recipient))[1]
    assert group["Diagnostic-Code"] == found
    assert ("Remote-MTA" in group) == (remote != "none")


def test_the_message_comes_back_byte_for_byte() -> None:
    built = notify()
    _, _, returned = parts(built)
    assert returned.get_content_type() == "message/rfc822"
    assert built.content.count(CONTENT) == 1
    assert returned.get_content()["Subject"] == "hello"


@pytest.mark.parametrize(
    "content", [CONTENT, CONTENT[: CONTENT.index(b"\r\n\r\n") + 2], CONTENT.replace(b"\r\n", b"", 1)]
)
def test_or_only_its_header(content: bytes) -> None:
    built = notify(content=content, return_content=False)
    text, _, returned = parts(built)
    assert returned.get_content_type() == "text/rfc822-headers"
    assert b"First line" not in built.content
    assert b"Subject: hello\r\n" in built.content
    assert "the header of your message" in text.get_content()


def test_of_a_content_that_is_lost_nothing_is_returned_nor_said_to_be() -> None:
    built = notify(content=b"")
    assert [part.get_content_type() for part in parsed(built).iter_parts()] == ["text/plain", "message/delivery-status"]
    assert b"Details for mail administrators are attached." in built.content
    assert_sound(built.content)


def test_a_header_of_a_megabyte_is_cut_at_a_line() -> None:
    content = b"X-Filler: 0123456789\r\n" * 50_000
    built = notify(content=content, return_content=False)
    assert_sound(built.content)
    assert len(built.content) < 70_000
    assert built.content.count(b"X-Filler") == built.content.count(b"X-Filler: 0123456789\r\n")


def test_a_message_without_a_header_comes_back_too() -> None:
    assert_sound(notify(content=b"\r\nonly a body").content)
    assert_sound(notify(content=b"\r\nonly a body\r\n\r\nmore\r\n", return_content=False).content)
    assert b"only" not in notify(content=b"\r\nonly a body\r\n\r\nmore\r\n", return_content=False).content


def test_eight_bit_content_is_declared_all_the_way_up() -> None:
    built = notify(content=CONTENT + b"Gr\xfc\xdfe\r\n")
    message = parsed(built)
    _, status, returned = parts(built)
    assert (built.body, built.smtputf8) == ("8BITMIME", False)
    assert message["Content-Transfer-Encoding"] == "8bit"
    assert returned["Content-Transfer-Encoding"] == "8bit"
    assert returned.get_content_type() == "message/rfc822"
    assert status["Content-Transfer-Encoding"] == "7bit"


@pytest.mark.parametrize(("whole", "kind"), [(True, "message/global"), (False, "message/global-headers")])
def test_a_header_in_utf8_comes_back_as_global(whole: bool, kind: str) -> None:
    """RFC 6533 5 and 6."""
    built = notify(content="Subject: Grüße\r\n\r\nx\r\n".encode(), return_content=whole)
    assert built.body == "8BITMIME"
    assert f"Content-Type: {kind}\r\nContent-Transfer-Encoding: 8bit\r\n".encode() in built.content


def test_an_address_beyond_ascii_is_reported_as_utf8() -> None:
    built = notify(DsnRecipient(address="björn@exämple.org", original="utf-8;bjørn@example.org", status="5.1.1"))
    assert b"\r\nContent-Type: message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit\r\n" in built.content
    assert (
        "\r\nOriginal-Recipient: utf-8; bjørn@example.org\r\nFinal-Recipient: utf-8; björn@exämple.org\r\n".encode()
        in built.content
    )
    assert b"Content-Type: text/plain; charset=utf-8" in built.content
    assert (built.body, built.smtputf8) == ("8BITMIME", False)


def test_a_sender_beyond_ascii_needs_smtputf8() -> None:
    built = notify(to="björn@example.com")
    assert (built.body, built.smtputf8) == ("8BITMIME", True)
    assert "To: <björn@example.com>".encode() in built.content


@pytest.mark.parametrize("original", ["", "ada@example.org", "rfc822;ada@example.org", "weird type;x"])
def test_orcpt_without_a_type_gets_one(original: str) -> None:
    group = groups(notify(DsnRecipient(address="a@b", status="5.0.0", original=original)))[1]
    if original:
        assert re.match(r"rfc822; \S", group["Original-Recipient"])
    else:
        assert "Original-Recipient" not in group


def test_the_boundary_does_not_occur_in_the_content() -> None:
    """Whoever sends a notification's text back to us, boundary and all, cannot end a part."""
    first = notify().content
    boundary = message_from_bytes(first, policy=SMTP).get_boundary()
    assert boundary is not None
    again = notify(content=CONTENT + f"--{boundary}--\r\n--{boundary}_\r\n".encode())
    assert parsed(again).get_boundary() != boundary
    assert len(list(parsed(again).iter_parts())) == 3


@pytest.mark.parametrize("name", ['Mail "Demon", Ltd. \\', "Zustellfehler Grüße", "x\r\nBcc: a@b"])
def test_any_display_name(name: str) -> None:
    message = parsed(notify(sender=(name, "postmaster@example.com")))
    (address,) = message["From"].addresses
    assert address.addr_spec == "postmaster@example.com"
    assert "Bcc" not in message


@pytest.mark.parametrize(
    "field",
    [b"Message-ID: <a@b> (x)", b"Message-ID: a@b", b"Message-ID: <a\xc3\xbc@b>", b"X: <a@b>", b"Message-ID: <a b>"],
)
def test_only_a_clean_message_id_is_referred_to(field: bytes) -> None:
    assert "In-Reply-To" not in parsed(notify(content=field + b"\r\n\r\n"))


def test_a_folded_message_id_is_referred_to() -> None:
    assert parsed(notify(content=b"mEssage-id:\r\n <a@b>\r\n\r\n"))["In-Reply-To"] == "<a@b>"


anything = st.text(max_size=2000) | st.sampled_from(
    [
        "550 no\r\nFinal-Recipient: rfc822; x@y",
        "a\n\n--=_0Hs7kQpf3Za2Wqmxexamplecom_0--",
        "x" * 5000,
        "\u2028",
        "\udce9",
    ]
)


@given(anything, anything, anything, anything, anything, st.binary(max_size=300), st.booleans())
def test_no_text_from_outside_adds_a_field_or_a_part(
    address: str, original: str, diagnostic: str, remote: str, envelope_id: str, body: bytes, whole: bool
) -> None:
    recipient = DsnRecipient(
        address=address,
        original=original,
        status=diagnostic,
        remote=remote,
        diagnostic=diagnostic,
        explanation=diagnostic,
    )
    body = body.replace(b"\r", b"").replace(b"\n", b"\r\n").replace(b"\0", b"")
    built = notify(recipient, content=CONTENT + body, to=address, envelope_id=envelope_id, return_content=whole)
    assert_sound(built.content)
    message = message_from_bytes(built.content, policy=compat32)
    names = {"From", "To", "Subject", "Date", "Message-ID", "In-Reply-To", "Auto-Submitted", "MIME-Version"}
    assert set(message.keys()) - {"Content-Type", "Content-Transfer-Encoding"} == names
    assert len(message.get_payload()) == 3
    status_part = built.content.split(b"delivery-status\r\n", 1)[1].split(b"\r\n\r\n", 1)[1].split(b"\r\n--=_")[0]
    whole_group, recipient_group = status_part.split(b"\r\n\r\n")
    allowed = b"Reporting-MTA|Original-Envelope-Id|Arrival-Date"
    per_recipient = b"Original-Recipient|Final-Recipient|Action|Status|Remote-MTA|Diagnostic-Code"
    for group, fields in ((whole_group, allowed), (recipient_group, per_recipient)):
        found = [line.partition(b":")[0] for line in group.strip().split(b"\r\n") if line[:1] != b" "]
        assert len(found) == len(set(found))
        assert all(re.fullmatch(fields, name) for name in found)
