"""Clients nobody here wrote submit to a running daemon, and have their receipts and answers from it.

One daemon for all, with an account for each, and node-smpp as its carrier.
"""

import asyncio
import contextlib
import gc
import logging
import os
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiosmpplib import ESME, AbstractHook, DeliverSm, SubmitSm, SubmitSmResp
from aiosmpplib.broker import SimpleBroker
from aiosmpplib.state import NPI, TON, PhoneNumber
from smpplib import consts
from smpplib.client import Client

from engine.tools.certificate import self_signed
from tests.support.engine import PATIENCE_S, Daemon, daemon, wait_until
from tests.support.ports import free_port
from tests.support.sms_peers import Line, Smsc, esme, kannel, node_smsc

CLIENTS = ("node", "perl", "smpplib", "aiosmpplib", "twisted", "kannel")
#: This number answers whoever sends to it, and this one cannot be reached.
ANSWERS, ABSENT = "447700900777", "447700900999"
ANSWER = "yes please"
LONG = "".join(f"line {n} of a long text; " for n in range(18))


@dataclass
class House:
    daemon: Daemon
    smsc: Smsc
    port: int
    tls_port: int

    def texts(self, sender: str) -> list[str]:
        """What came to the carrier from it, messages of several parts whole, in order."""
        whole: dict[str, str] = {}
        for submit in self.smsc.told("submit"):
            if submit["source"] == sender:
                whole[submit["destination"]] = whole.get(submit["destination"], "") + submit["text"]
        return list(whole.values())


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    path, port, tls_port = tmp_path_factory.mktemp("house"), free_port(), free_port()
    for name, pem in zip(("cert", "key"), self_signed("localhost"), strict=True):
        with open(os.open(path / name, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(pem)
    accounts = "".join(f'[[account]]\nsystem_id = "{name}"\npassword = "secret"\n' for name in CLIENTS)
    with node_smsc(path / "smsc", answers={ANSWERS: ANSWER}, states={ABSENT: "UNDELIV"}) as smsc:
        settings = f"""
[[listener]]
kind = "smpp"
address = "127.0.0.1:{port}"

[[listener]]
kind = "smpp"
address = "127.0.0.1:{tls_port}"
tls = {{ cert = "{path}/cert", key = "{path}/key" }}

{accounts}
[[carrier]]
name = "one"
host = "127.0.0.1"
port = {smsc.port}
system_id = "us"
password = "secret"
"""
        with daemon(path / "daemon", settings) as running:
            yield House(running, smsc, port, tls_port)
            assert "Traceback" not in running.log_text(), running.log_text()


def submit(sender: str, to: str, **more: Any) -> list[Any]:
    fields = {
        "source_addr": sender, "source_addr_ton": 5, "source_addr_npi": 0, "destination_addr": to,
        "dest_addr_ton": 1, "dest_addr_npi": 1, "registered_delivery": 1, **more,
    }  # fmt: skip
    return ["submit_sm", fields]


def told(lines: Sequence[Line], what: str) -> list[Any]:
    return [line[what] for line in lines if what in line]


def receipt_of(text: str) -> tuple[str, str]:
    """Its id and state."""
    found = re.search(r"id:(\S+) .*stat:(\w+)", text)
    assert found is not None, text
    return found[1], found[2]


@pytest.mark.parametrize(("script", "account"), [("smpp_esme.js", "node"), ("smpp_esme.pl", "perl")])
def test_receipts_and_answers_come_to_who_sent(house: House, script: str, account: str) -> None:
    requests = [
        submit(account, "447700900001", short_message="short"),
        submit(account, "447700900002", short_message="", message_payload=LONG),
        submit(account, ABSENT, short_message="nobody there"),
        submit(account, ANSWERS, short_message="Shall we?"),
        submit(account, "447700900003", short_message="no receipt", registered_delivery=0),
    ]
    lines = esme(script, port=house.port, system_id=account, password="secret", requests=requests, receive=5)
    assert told(lines, "bind") == [0]
    responses = told(lines, "response")
    assert [response["status"] for response in responses] == [0] * 5
    ids = [response["message_id"] for response in responses]
    assert len(set(ids)) == 5
    received = told(lines, "received")
    receipts = [each for each in received if each["esm_class"] & 0x3C]
    assert sorted(receipt_of(each["text"]) for each in receipts) == sorted(
        zip(ids[:4], ["DELIVRD", "DELIVRD", "UNDELIV", "DELIVRD"], strict=True)
    )
    assert {(each["source"], each["destination"]) for each in receipts} == {
        (to, account) for to in ("447700900001", "447700900002", ABSENT, ANSWERS)
    }
    # In TLVs, too: node-smpp leaves their NUL out, Net::SMPP in.
    assert {(each["id"].rstrip("\0"), each["state"]) for each in receipts} == set(
        zip(ids[:4], [2, 2, 5, 2], strict=True)
    )
    answers = [each for each in received if not each["esm_class"] & 0x3C]
    assert [(each["source"], each["destination"], each["text"]) for each in answers] == [(ANSWERS, account, ANSWER)]
    assert house.texts(account) == ["short", LONG, "nobody there", "Shall we?", "no receipt"]


@pytest.mark.parametrize(("script", "account"), [("smpp_esme.js", "node"), ("smpp_esme.pl", "perl")])
def test_an_application_that_comes_back_finds_its_receipts(house: House, script: str, account: str) -> None:
    """They waited on disk: the first bind is one that receives nothing."""
    login = {"port": house.port, "system_id": account, "password": "secret"}
    request = submit("later", "447700900011", short_message=f"from {account}")
    lines = esme(script, **login, bind="transmitter", requests=[request])
    (response,) = told(lines, "response")
    lines = esme(script, **login, bind="receiver", receive=1)
    (receipt,) = told(lines, "received")
    assert receipt_of(receipt["text"]) == (response["message_id"], "DELIVRD")


def test_orders_about_a_message(house: House) -> None:
    """query_sm, cancel_sm and replace_sm of a message that waits for its time, of one that is gone, of none."""
    later, about = "000000010000000R", {"source_addr": "node", "source_addr_ton": 5, "source_addr_npi": 0}
    requests = [
        submit("node", "447700900021", short_message="at noon", schedule_delivery_time=later, registered_delivery=0),
        ["query_sm", {**about, "message_id": "$0"}],
        ["replace_sm", {**about, "message_id": "$0", "short_message": "at one"}],
        ["cancel_sm", {**about, "message_id": "$0", "destination_addr": "447700900021"}],
        ["cancel_sm", {**about, "message_id": "$0", "destination_addr": "447700900021"}],
        ["query_sm", {**about, "message_id": "nothing"}],
    ]
    lines = esme("smpp_esme.js", port=house.port, system_id="node", password="secret", requests=requests)
    statuses = [(response["command"], response["status"] == 0) for response in told(lines, "response")]
    assert statuses == [
        ("submit_sm_resp", True), ("query_sm_resp", True), ("replace_sm_resp", True), ("cancel_sm_resp", True),
        ("cancel_sm_resp", False), ("query_sm_resp", False),
    ]  # fmt: skip


def test_over_tls_and_with_another_alphabet(house: House) -> None:
    requests = [
        submit("tls", "447700900031", short_message="Привет, мир"),
        submit("tls", "447700900032", short_message="grüße 😀", data_coding=8),
    ]
    login = {"port": house.tls_port, "tls": True, "system_id": "node", "password": "secret"}
    lines = esme("smpp_esme.js", **login, requests=requests, receive=2)
    assert [response["status"] for response in told(lines, "response")] == [0, 0]
    assert house.texts("tls") == ["Привет, мир", "grüße 😀"]


def test_refusals_are_understood(house: House) -> None:
    """A wrong password, an unknown account, a number that is none."""
    logins = ("smpp_esme.js", "node", "wrong", 0x0E), ("smpp_esme.pl", "nobody", "secret", 0x0F)
    for script, account, password, status in logins:
        lines = esme(script, port=house.port, system_id=account, password=password)
        assert told(lines, "bind") == [status], "ESME_RINVPASWD, ESME_RINVSYSID"
    for script, account in (("smpp_esme.js", "node"), ("smpp_esme.pl", "perl")):
        requests = [submit(account, "none", short_message="x"), submit(account, "447700900041", short_message="y")]
        lines = esme(script, port=house.port, system_id=account, password="secret", requests=requests, receive=1)
        assert [response["status"] for response in told(lines, "response")] == [0x0B, 0], "ESME_RINVDSTADR"


def test_smpplib(house: House) -> None:
    sent: list[Any] = []
    came: list[Any] = []
    client = Client("127.0.0.1", house.port, timeout=PATIENCE_S, allow_unknown_opt_params=True)
    client.set_message_sent_handler(lambda pdu: sent.append(pdu))
    client.set_message_received_handler(lambda pdu: came.append(pdu))
    client.connect()
    with contextlib.closing(_Unbound(client)):
        client.bind_transceiver(system_id="smpplib", password="secret")
        for to, text in (("447700900051", b"one"), ("447700900052", b"two"), (ANSWERS, b"three")):
            client.send_message(
                source_addr_ton=consts.SMPP_TON_ALNUM, source_addr="smpplib", dest_addr_ton=consts.SMPP_TON_INTL,
                dest_addr_npi=consts.SMPP_NPI_ISDN, destination_addr=to, short_message=text, registered_delivery=True,
            )  # fmt: skip
        while len(sent) < 3 or len(came) < 4:
            client.read_once()
    receipts = [receipt_of(pdu.short_message.decode()) for pdu in came if pdu.esm_class & 0x3C]
    assert sorted(receipts) == sorted((pdu.message_id.decode(), "DELIVRD") for pdu in sent)
    assert [pdu.short_message for pdu in came if not pdu.esm_class & 0x3C] == [ANSWER.encode()]
    assert house.texts("smpplib") == ["one", "two", "three"]


class _Unbound:
    def __init__(self, client: Any) -> None:
        self.client = client

    def close(self) -> None:
        self.client.unbind()
        self.client.disconnect()


class _Kept(AbstractHook):
    """Everything that aiosmpplib received."""

    def __init__(self) -> None:
        self.came: list[Any] = []
        self.errors: list[Exception] = []

    async def sending(self, smpp_message: Any, pdu: bytes, client_id: str) -> None:
        pass

    async def received(self, smpp_message: Any, pdu: bytes, client_id: str) -> None:
        self.came.append(smpp_message)

    async def send_error(self, smpp_message: Any, error: Exception, client_id: str) -> None:
        self.errors.append(error)

    def of(self, kind: type) -> list[Any]:
        return [each for each in self.came if isinstance(each, kind)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_aiosmpplib(house: House) -> None:
    hook, broker = _Kept(), SimpleBroker()

    async def story() -> None:
        client = ESME(
            "127.0.0.1", house.port, "aiosmpplib", "secret", hook=hook, broker=broker, log_level=logging.CRITICAL
        )
        running = asyncio.create_task(client.start())
        for to, text in (("447700900061", "one"), ("447700900062", LONG), (ANSWERS, "three")):
            await broker.enqueue(
                SubmitSm(
                    short_message=text, source=PhoneNumber("aio", TON.ALPHANUMERIC, NPI.UNKNOWN), log_id=to,
                    destination=PhoneNumber(to, TON.INTERNATIONAL, NPI.ISDN), auto_message_payload=True,
                )
            )  # fmt: skip
        async with asyncio.timeout(PATIENCE_S):
            while len(hook.of(DeliverSm)) < 4:  # noqa: ASYNC110  # its own task fills the list
                await asyncio.sleep(0.01)
        await client.stop()
        await asyncio.wait_for(running, PATIENCE_S)

    asyncio.run(story())
    gc.collect()  # it leaves its socket to the garbage collector, which complains
    assert hook.errors == []
    receipts = [each.parse_receipt() for each in hook.of(DeliverSm) if each.is_receipt()]
    assert sorted((receipt["id"], receipt["stat"]) for receipt in receipts) == sorted(
        (response.message_id, "DELIVRD") for response in hook.of(SubmitSmResp)
    )
    assert [each.short_message for each in hook.of(DeliverSm) if not each.is_receipt()] == [ANSWER]
    assert sorted(house.texts("aio")) == sorted(["one", LONG, "three"])


def test_smpp_twisted(house: House) -> None:
    """It takes no field, value or TLV that the specification does not have, and drops who sends one.

    Nor network_error_code, which it takes for one octet long: no message of these fails.
    """
    submits = [("447700900071", "one"), ("447700900072", "two"), (ANSWERS, "three")]
    lines = esme(
        "smpp_twisted.py", role="esme", port=house.port, system_id="twisted", password="secret", submits=submits,
        receive=4,
    )  # fmt: skip
    assert told(lines, "error") == []
    responses, received = told(lines, "response"), told(lines, "received")
    assert [response["status"] for response in responses] == ["ESME_ROK"] * 3
    receipts = [each for each in received if each["receipt"]]
    ids = [response["message_id"] for response in responses]
    assert sorted((each["id"], each["state"]) for each in receipts) == [(id, "DELIVERED") for id in sorted(ids)]
    assert [each["text"] for each in received if not each["receipt"]] == [ANSWER]


@contextlib.contextmanager
def web() -> Iterator[tuple[int, list[tuple[str, dict[str, str]]]]]:
    """A web server that keeps the path and the query of what it is asked for."""
    asked: list[tuple[str, dict[str, str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            asked.append((url.path, {name: values[0] for name, values in parse_qs(url.query).items()}))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1], asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_kannel(house: House, tmp_path: Path) -> None:
    """Its sendsms over HTTP, long and in another alphabet; its reports of delivery and an answer to its web server."""
    texts = {"447700900071": "one", "447700900072": LONG, "447700900073": "Привет", ANSWERS: "Shall we?"}
    with web() as (port, asked), kannel(tmp_path, house.port, back=port) as gateway:
        for to, text in {**texts, ABSENT: "nobody there"}.items():
            assert gateway.send(f"+{to}", text, sender="Kannel").startswith("0: Accepted")
        final = wait_until(
            lambda: len(found := [q for path, q in asked if path == "/receipt" and q["kind"] in "12"]) >= 5 and found,
            "reports of every message",
        )
        # 1 delivered, 2 not. Kannel cuts the long one itself, and asks about one of its parts.
        assert sorted((report["to"].strip("+ "), report["kind"]) for report in final) == sorted(
            [*((to, "1") for to in texts), (ABSENT, "2")]
        )
        (answer,) = wait_until(lambda: [query for path, query in asked if path == "/answer"], "the answer")
        assert answer["text"] == ANSWER
        assert answer["from"].strip("+ ") == ANSWERS
    assert house.texts("Kannel") == [*texts.values(), "nobody there"]
