"""Links of SMS through the whole daemon: short ones of each recipient, which lead where the long ones did."""

import asyncio
import contextlib
import re
from pathlib import Path
from typing import Any

from engine.protocol.smpp_multi import SmeAddress
from engine.protocol.smpp_pdu import SubmitMulti
from tests.support.engine import Daemon, daemon, wait_until
from tests.support.ports import free_port
from tests.support.smpp_intake import bound, until
from tests.support.smsc import Smsc
from tests.support.tracking import fetch

SUMMER, TERMS = "https://shop.test/summer/sale-of-the-year?utm_source=sms&a=1", "http://shop.test/terms"
TEXT = f"Sale until Friday: {SUMMER} ({TERMS}). {'Ask us! ' * 9}"
CODE = re.compile(rb"https://s\.test/([0-9A-Za-z]{9})(?![0-9A-Za-z])")


def settings(port: int, links: int, smsc: Smsc) -> str:
    return f"""
[tracking]
level = "full"
sms_url = "https://s.test"

[[listener]]
kind = "tracking"
address = "127.0.0.1:{links}"

[[listener]]
kind = "smpp"
address = "127.0.0.1:{port}"

[[account]]
system_id = "app"
password = "secret"

[[account]]
system_id = "quiet"
password = "secret"
track = "none"

[[account]]
system_id = "counted"
password = "secret"
track = "anonymous"

[[carrier]]
name = "one"
host = "127.0.0.1"
port = {smsc.port}
system_id = "us"
password = "secret"
receipts = false
"""


def clicked(engine: Daemon, port: int, code: bytes) -> dict[str, Any]:
    """The event of a click on this code, which leads to the link it is of; soon after the message was accepted."""
    before = len([event for event in engine.events() if event["type"] == "clicked"])
    answer = wait_until(lambda: found if (found := fetch(port, f"/{code.decode()}")).status == 302 else None, "a link")
    [event] = wait_until(lambda: [e for e in engine.events() if e["type"] == "clicked"][before:], "a click")
    assert event["url"] == answer.headers["location"]
    return dict(event)


async def story(path: Path, stack: contextlib.ExitStack) -> None:
    port, links, smsc = free_port(), free_port(), await Smsc().open()
    engine = await asyncio.to_thread(stack.enter_context, daemon(path, settings(port, links, smsc)))
    client = await bound(port, system_id="app")
    assert len(TEXT) > 160

    message = (await client.submit(TEXT.encode(), data_coding=1)).message_id.decode()
    await until(lambda: smsc.submits)
    summer, terms = CODE.findall(smsc.submits[0].short_message)
    sent = TEXT.encode().replace(SUMMER.encode(), b"https://s.test/" + summer)
    assert smsc.submits[0].short_message == sent.replace(TERMS.encode(), b"https://s.test/" + terms)
    event = await asyncio.to_thread(clicked, engine, links, summer)
    assert (event["message"], event["recipient"], event["url"]) == (message, "+447700900123", SUMMER)
    assert (event["tenant"], event["link"]) == ("app", 3)
    assert (await asyncio.to_thread(clicked, engine, links, terms))["url"] == TERMS
    wrong = (b"0" if summer[:1] != b"0" else b"1") + summer[1:]
    for path_of_none in (f"/{wrong.decode()}", f"/{summer.decode()}x", "/"):
        assert (await asyncio.to_thread(fetch, links, path_of_none)).status == 404

    # Each recipient has his own, in one message.
    to = tuple(SmeAddress(1, 1, number) for number in (b"447700900124", b"447700900125"))
    await client.ask(SubmitMulti(dest_addresses=to, source_addr=b"Acme", short_message=TERMS.encode()))
    await until(lambda: len(smsc.submits) == 3)
    codes = {pdu.destination_addr: CODE.findall(pdu.short_message)[0] for pdu in smsc.submits[1:]}
    assert len(set(codes.values())) == 2
    for number, code in codes.items():
        assert (await asyncio.to_thread(clicked, engine, links, code))["recipient"] == f"+{number.decode()}"

    # Whose account is not to be tracked sends what it wrote; where only numbers count, all have the same.
    quiet, counted = await bound(port, system_id="quiet"), await bound(port, system_id="counted")
    await quiet.submit(TERMS.encode())
    await until(lambda: len(smsc.submits) == 4)
    assert smsc.submits[3].short_message == TERMS.encode()
    for number in (b"447700900126", b"447700900127"):
        await counted.submit(TERMS.encode(), to=number)
    await until(lambda: len(smsc.submits) == 6)
    first, second = (pdu.short_message for pdu in smsc.submits[4:])
    assert first == second and CODE.fullmatch(first)
    event = await asyncio.to_thread(clicked, engine, links, first[-9:])
    assert event["url"] == TERMS and not event.get("recipient") and not event.get("client")

    # After a kill they are what they were, and new ones are new.
    await asyncio.to_thread(engine.empty)  # or what is not settled yet is sent twice
    await asyncio.to_thread(engine.kill)
    await asyncio.to_thread(engine.start)
    assert (await asyncio.to_thread(clicked, engine, links, summer))["message"] == message
    late = await bound(port, system_id="app")
    await late.submit(TERMS.encode())
    await until(lambda: len(smsc.submits) == 7)
    assert smsc.submits[6].short_message[-9:] not in {summer, terms, first[-9:], *codes.values()}
    for each in (client, quiet, counted, late):
        each.wire.abort()
    await smsc.close()
    await asyncio.sleep(0.1)


def test_links_of_sms_are_short_each_recipients_own_and_lead_where_they_did(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        asyncio.run(story(tmp_path, stack))
