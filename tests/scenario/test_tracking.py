"""Links that lead by way of us: who clicked, who left, with a daemon and without one, and what an operator can do.

`postrider redirect` and the daemon as processes; what was sent stands in the ledger as a worker notes it.
"""

import asyncio
import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.base.metrics import Metrics
from engine.base.settings import Listener, Settings
from engine.base.settings_file import shipped
from engine.base.settings_tracking import Tracking
from engine.storage.events.journal import REDIRECT, EventJournal, events_directory
from engine.storage.ledger.sent import Sent
from engine.storage.tables.suppression import MAIL, Cause
from engine.storage.tables.suppression_table import SuppressionTable
from engine.tools.certificate import self_signed
from engine.tracking.app import _way
from engine.tracking.journal import JournalRecorder
from engine.tracking.node import TrackingNode
from tests.support.client import Client, letter, submit
from tests.support.clock import FakeClock
from tests.support.engine import PATIENCE_S, POSTRIDER, daemon, wait_until
from tests.support.feed import Receiver, webhook
from tests.support.ports import free_port
from tests.support.relay import relayed
from tests.support.tracking import (
    BROWSER,
    KEY,
    LINKS,
    Mailing,
    Redirect,
    events_in,
    fetch,
    noted,
    paths,
    post,
    redirect,
    settings,
    verdicts,
)

ADA, BOB = "ada@one.test", "bob@two.test"


def note(data: Path, *recipients: str, **fields: object) -> Sent:
    return asyncio.run(noted(data, *recipients, **fields))


def command(running: Redirect, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*POSTRIDER, *arguments, "-c", str(running.config)], capture_output=True, text=True, check=check, timeout=60
    )


def test_a_scanner_is_no_reader_and_a_person_half_a_minute_later_is(tmp_path: Path) -> None:
    """The real listener, ledger and journal, by a clock that jumps."""
    data = tmp_path / "data"
    clock = FakeClock(time.time())
    sent = note(data, ADA, tenant="acme", stream="news", sent_at=clock.time() - 60, delivered_at=clock.time() - 55)
    told: list[dict[str, Any]] = []

    async def story() -> None:
        journal = EventJournal(events_directory(data, REDIRECT), 64 << 20, 7 * 86400.0)
        recorder = JournalRecorder(journal)
        rows = msgspec.structs.replace(Settings().node, data_dir=str(data))
        tracking = Tracking(keys=(f"1:{KEY.hex()}",), scanners_file=str(shipped("scanners.toml")))
        own = Settings(node=rows, tracking=tracking)
        node = TrackingNode(own, recorder, Metrics(), clock)
        node.start()
        listener = node.make_listener(Listener(kind="tracking", address="127.0.0.1:0"), own)
        await listener.start()
        port = listener.address[1]
        links = [*range(3), *range(3, 3 + len(LINKS))]
        for path in paths(sent, *links):
            answer = await asyncio.to_thread(fetch, port, path, host="127.0.0.5")
            assert answer.status in (200, 302)
            clock.advance(0.2)
        await asyncio.to_thread(fetch, port, paths(sent, 0)[0], "HEAD", host="127.0.0.5")
        clock.advance(30)
        answer = await asyncio.to_thread(fetch, port, paths(sent, 4)[0], host="127.0.0.6")
        assert answer.headers["location"] == LINKS[1]
        clock.advance(10)
        while len(verdicts(told)) < 7 or "unsure" in verdicts(told).values():
            await asyncio.sleep(0.01)
            told[:] = events_in(data)
        await listener.close()
        await listener.drain(asyncio.get_running_loop().time() + 5)
        await node.stop()
        recorder.close()

    asyncio.run(asyncio.wait_for(story(), PATIENCE_S))
    told = events_in(data)
    last = verdicts(told)
    of_people = [
        event for event in told if event["type"] == "clicked" and last[event["id"].rpartition(":")[2]] == "human"
    ]
    assert [(event["url"], event["client"]) for event in of_people] == [(LINKS[1], "127.0.0.6")]
    assert Counter(last.values()) == {"machine": 7, "human": 1}
    assert Counter(event["type"] for event in told if event["type"] != "verdict") == {"clicked": 7, "opened": 1}
    assert held(data, ADA) == []


def test_a_scanner_that_reads_the_html_alone_is_one_though_the_text_has_each_link_too(tmp_path: Path) -> None:
    sent = note(tmp_path / "data", ADA, links=(*LINKS, *LINKS))
    with redirect(tmp_path) as running:
        for path in paths(sent, *range(3 + len(LINKS), 3 + 2 * len(LINKS))):
            assert fetch(running.port, path).status == 302
        wait_until(lambda: list(verdicts(running.events()).values()) == ["machine"] * len(LINKS), "corrections")


def test_a_link_works_as_soon_as_its_message_is_on_its_way(tmp_path: Path) -> None:
    """Scanners fetch while a receiver answers DATA: that is noted, not told that it has expired."""
    data = tmp_path / "data"

    async def story(port: int) -> None:
        mailing = Mailing(data, worker=7)
        for number in range(20):
            sent = mailing.note(ADA, delivered_at=None)
            await mailing.keep()
            assert (await asyncio.to_thread(fetch, port, paths(sent, 3)[0])).status == 302, number
        await mailing.close()

    with redirect(tmp_path) as running:
        asyncio.run(story(running.port))
        wait_until(lambda: len(running.events("clicked")) == 20, "all hits on disk")


def test_an_unsubscribe_stops_every_copy_that_is_not_sent_within_a_second(tmp_path: Path) -> None:
    """A batch is under way, slowly; somebody leaves by the link in his copy of an earlier one."""
    port = free_port()
    more = f'[[listener]]\nkind = "tracking"\naddress = "127.0.0.1:{port}"\n{settings()}[suppression]\nnotify = false\n'
    with relayed(tmp_path, more=more, rate="10/s", connections=1) as (node, sink):
        sent = note_beside(node.data, BOB, tenant="acme", stream="news")
        with Client(node.port) as client:
            for number in range(60):
                stream = "news" if number % 2 else "bills"
                fields = (f"X-Postrider-Stream: {stream}", "X-Postrider-Tenant: acme", "X-Postrider-Batch: b1")
                client.submit("a@shop.test", BOB, letter("hello", "a@shop.test", *fields))
        node.until(delivered=3)
        assert post(port, paths(sent, 0)[0]).status == 200
        time.sleep(1.0)
        before = Counter(event["stream"] for event in node.events("delivered"))
        node.books()  # nothing is queued, and every event is told
        after = Counter(event["stream"] for event in node.events("delivered"))
        assert after["news"] <= before["news"] + 1 < 30, "what was on its way at that moment"
        assert after["bills"] == 30
        assert node.tally()["suppressed"] == 30 - after["news"]
        assert len(sink.messages()) == after.total()
        [event] = node.events("unsubscribed")
        assert (event["recipient"], event["kind"], event["stream"]) == (BOB, "one-click", "news")
        assert node.metrics()["unsubscribes"] == 1


def test_a_flood_of_connections_to_links_keeps_no_mail_out(tmp_path: Path) -> None:
    port = free_port()
    more = (
        f'[[listener]]\nkind = "tracking"\naddress = "127.0.0.1:{port}"\n{settings("max_connections = 30")}'
        "[intake]\nmax_connections = 20\nmax_connections_per_address = 100\n"
    )
    with relayed(tmp_path, more=more) as (node, sink), contextlib.ExitStack() as flood:
        opened = [flood.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE_S)) for _ in range(40)]
        refused = [each for each in opened if _is_refused(each)]
        assert len(refused) == 10
        submit(node.port, "a@shop.test", BOB, letter())
        node.empty()
        assert len(sink.messages()) == 1


def _is_refused(connection: socket.socket) -> bool:
    """Whether it is closed without a word; what is not answers a request."""
    with contextlib.suppress(OSError):
        connection.sendall(b"GET /robots.txt HTTP/1.1\r\nHost: x\r\n\r\n")
        return not connection.recv(1)
    return True


def note_beside(data: Path, *recipients: str, **fields: object) -> Sent:
    """In the ledger of a worker that is no more, beside that of one that runs."""

    async def noting() -> Sent:
        mailing = Mailing(data, worker=7)
        sent = mailing.note(*recipients, **fields)  # type: ignore[arg-type]
        await mailing.close()
        return sent

    return asyncio.run(noting())


def held(data: Path, address: str) -> list[tuple[str, str, bool]]:
    """(tenant, stream, for good) of what holds of an address."""
    table = SuppressionTable(data)
    try:
        rows = table.held(table.hasher.person(MAIL, address), time.time())
    finally:
        table.close()
    assert {row.cause for row in rows} <= {Cause.UNSUBSCRIBE}
    return [(row.tenant, row.stream, not row.until) for row in rows]


@pytest.mark.parametrize(
    ("form", "rows", "kind"),
    [
        ("List-Unsubscribe=One-Click", [("acme", "news", True)], "one-click"),
        ("do=stream", [("acme", "news", True)], "stream"),
        ("do=all", [("acme", "", True)], "all"),
        ("do=pause", [("acme", "news", False)], "pause"),
        ("do=not-me", [("acme", "", True)], "not-me"),
    ],
)
def test_every_button_does_what_it_says_without_a_daemon(
    tmp_path: Path, form: str, rows: list[tuple[str, str, bool]], kind: str
) -> None:
    sent = note(tmp_path / "data", ADA, tenant="acme", stream="news")
    with redirect(tmp_path) as running:
        path = paths(sent, 0)[0]
        answer = post(running.port, path, form)
        assert answer.status == 200
        assert "location" not in answer.headers
        assert "set-cookie" not in answer.headers
        assert held(running.data, ADA) == rows
        [event] = running.events("unsubscribed")
        assert (event["recipient"], event["kind"], event["message"]) == (ADA, kind, sent.id)
        assert post(running.port, path, form).status == 200, "again, as mail programs do"
        assert held(running.data, ADA) == rows
        assert len(running.events("unsubscribed")) == 1


def test_a_pause_does_not_shorten_what_holds_for_good(tmp_path: Path) -> None:
    sent = note(tmp_path / "data", ADA, tenant="acme", stream="news")
    with redirect(tmp_path) as running:
        path = paths(sent, 0)[0]
        post(running.port, path, "do=pause")
        post(running.port, path)
        post(running.port, path, "do=pause")
        assert held(running.data, ADA) == [("acme", "news", True)]
        assert [event["kind"] for event in running.events("unsubscribed")] == ["pause", "one-click"]


@pytest.mark.parametrize("scope", [(), ("--tenant", "acme"), ("--tenant", "acme", "--stream", "news")])
def test_who_leaves_has_left_though_he_was_suppressed_for_another_cause(tmp_path: Path, scope: tuple[str, ...]) -> None:
    """That may be lifted by whoever finds it wrong; that he left is in its own row, or in the history of his scope."""
    sent = note(tmp_path / "data", ADA, tenant="acme", stream="news")
    with redirect(tmp_path) as running:
        command(running, "suppress", "add", ADA, "--cause", "complaint", *scope)
        assert post(running.port, paths(sent, 0)[0]).status == 200
        [event] = running.events("unsubscribed")
        assert (event["recipient"], event["kind"]) == (ADA, "one-click")
        table = SuppressionTable(running.data)
        try:
            rows = table.held(person := table.hasher.person(MAIL, ADA), time.time())
            assert (rows[-1].tenant, rows[-1].stream, rows[-1].cause) == ("acme", "news", Cause.UNSUBSCRIBE)
            assert [row.cause for row, _ in table.history(person)] == [Cause.COMPLAINT, Cause.UNSUBSCRIBE]
            if len(scope) < 4:
                table.lift(rows[:1])
                assert held(running.data, ADA) == [("acme", "news", True)]
        finally:
            table.close()


def test_the_other_form_of_rfc_8058_is_understood(tmp_path: Path) -> None:
    sent = note(tmp_path / "data", ADA, tenant="acme")
    with redirect(tmp_path) as running:
        body = '--x\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--x--\r\n'
        kind = "multipart/form-data; boundary=x"
        assert post(running.port, paths(sent, 0)[0], body, Content_Type=kind).status == 200
        assert held(running.data, ADA) == [("acme", "", True)]


@pytest.mark.parametrize(
    "body",
    [
        "List%2DUnsubscribe=One%2DClick", "List-Unsubscribe=One%2dClick", "list-unsubscribe=one-click\r\n",
        "x=1&List-Unsubscribe=One-Click",
    ],
)  # fmt: skip
def test_a_form_is_read_as_a_form(body: str) -> None:
    assert _way(body.encode()) == "one-click"


def test_each_recipient_of_a_message_has_his_own_link(tmp_path: Path) -> None:
    sent = note(tmp_path / "data", ADA, BOB, tenant="acme", stream="news")
    with redirect(tmp_path) as running:
        page = fetch(running.port, paths(sent, 0, index=1)[0], Accept_Language="ru-RU,ru;q=0.9")
        assert "b•••@t•••.test" in page.text
        assert "Отписаться от «news»" in page.text
        post(running.port, paths(sent, 0, index=1)[0])
        assert (held(running.data, ADA), held(running.data, BOB)) == ([], [("acme", "news", True)])


def test_an_operator_withdraws_links_and_restores_them(tmp_path: Path) -> None:
    sent = note(tmp_path / "data", ADA, tenant="acme", batch="b1")
    other = note(tmp_path / "data", BOB, tenant="acme", batch="b2", links=(*LINKS, "https://shop.example/more"))
    with redirect(tmp_path) as running:
        first, second = paths(sent, 3, 4)
        others = paths(other, 3)[0]

        def statuses() -> list[int]:
            return [fetch(running.port, path).status for path in (first, second, others)]

        for kind, what, expected in (
            ("link", f"https://click.test{first}", [410, 302, 302]),
            ("url", LINKS[0], [410, 302, 410]),
            ("content", first.rpartition("/")[2], [410, 410, 302]),
            ("batch", "b2", [302, 302, 410]),
            ("tenant", "acme", [410, 410, 410]),
        ):
            assert statuses() == [302] * 3
            command(running, "track", "withdraw", kind, what, "--reason", "hacked")
            wait_until(lambda e=expected: statuses() == e, (kind, expected))  # type: ignore[misc]
            [row] = map(json.loads, command(running, "track", "list", "--json").stdout.splitlines())
            assert (row["kind"], row["reason"]) == (kind, "hacked")
            assert "withdrawn already" in command(running, "track", "withdraw", kind, what).stdout
            command(running, "track", "restore", kind, what)
            wait_until(lambda: statuses() == [302] * 3, kind)
        assert post(running.port, paths(sent, 0)[0]).status == 200, "to leave is always possible"
        bad = command(running, "track", "withdraw", "link", "https://click.test/c/AAAA", check=False)
        assert (bad.returncode, "no tracked link of ours" in bad.stderr) == (2, True)
        assert command(running, "track", "restore", "batch", "none", check=False).returncode == 1


def test_hits_of_links_that_lead_nowhere_are_recorded(tmp_path: Path) -> None:
    sent = note(tmp_path / "data", ADA, batch="b1")
    old = note(tmp_path / "data", BOB, sent_at=time.time() - 3 * 86400)
    with redirect(tmp_path, 'expire_after = "2d"') as running:
        command(running, "track", "withdraw", "batch", "b1")
        wait_until(lambda: fetch(running.port, paths(sent, 4)[0]).status == 410, "what is withdrawn")
        assert [fetch(running.port, path).status for path in (*paths(sent, 1), *paths(old, 3))] == [410] * 2
        running.stop()
        told = [(e["type"], e["message"], e.get("url"), e["verdict"]) for e in running.events("clicked", "opened")
                if "withdrawn" in e.get("reasons", ()) or "expired" in e.get("reasons", ())]  # fmt: skip
        assert told == [
            ("clicked", sent.id, LINKS[1], "unsure"),
            ("opened", sent.id, None, "unsure"),
            ("clicked", old.id, LINKS[0], "unsure"),
        ]
        [expired] = [e for e in running.events("clicked") if e["message"] == old.id]
        assert (expired["recipient"], expired["reasons"]) == (BOB, ["expired"])


def test_what_is_a_machine_is_a_setting_that_is_read_again(tmp_path: Path) -> None:
    sent = [note(tmp_path / "data", f"user{number}@one.test") for number in range(2)]
    with redirect(tmp_path, 'many_recipients = 2\nverdict_after = "1s"') as running:

        def last_verdicts(client: str) -> list[str]:
            """Once all that this client asks for are settled."""
            for each in sent:
                assert fetch(running.port, paths(each, 3)[0], host=client).status == 302

            def settled() -> list[str]:
                events = running.events()
                own = {event["id"].rpartition(":")[2] for event in events if event.get("client") == client}
                found = [verdict for hit, verdict in verdicts(events).items() if hit in own]
                return found if len(found) == len(sent) and "unsure" not in found else []

            return list(wait_until(settled, "verdicts"))

        assert last_verdicts("127.0.0.5") == ["machine"] * 2
        running.config.write_text(running.config.read_text().replace("recipients = 2", "recipients = 3"))
        running.hang_up()
        assert last_verdicts("127.0.0.6") == ["human"] * 2


def test_what_an_operator_does_to_links_is_an_event_whether_the_daemon_runs_or_not(tmp_path: Path) -> None:
    with daemon(tmp_path, settings()) as node:
        node.run("track", "withdraw", "batch", "b1", "--reason", "wrong prices")
        node.run("track", "withdraw", "batch", "b1", "--reason", "once more")
        node.until(admin=1)
        node.kill()
        sent = note_beside(node.data, ADA, batch="b2")
        link = f"https://click.test{paths(sent, 4)[0]}"
        node.run("track", "withdraw", "link", link)
        node.run("track", "restore", "batch", "b1", "--reason", "they were right")
        assert node.run("track", "restore", "batch", "b1", check=False).returncode == 1
        node.start()
        node.until(admin=3)
        texts = [re.sub(r"by [^:]+", "by ME", event["text"]) for event in node.events("admin")]
        assert texts == [
            "links withdrawn (batch b1), by ME: wrong prices",
            f"links withdrawn (link {LINKS[1]} (batch b2)), by ME",
            "links restored (batch b1), by ME: they were right",
        ]


def test_hits_of_a_separate_redirector_are_posted_by_the_daemon(tmp_path: Path) -> None:
    """Its journal is there though no redirector has run before."""
    with Receiver() as receiver:
        more = settings("separate = true") + webhook(receiver.url, types=["clicked", "unsubscribed"])
        with daemon(tmp_path, more) as node:
            sent = note_beside(node.data, ADA)
            with Redirect(tmp_path, config=node.config) as running:
                running.data = node.data
                assert fetch(running.port, paths(sent, 3)[0]).status == 302
                assert post(running.port, paths(sent, 0)[0]).status == 200
                wait_until(lambda: len(receiver.events) == 2, "the webhook")
            assert [event["type"] for event in receiver.events] == ["clicked", "unsubscribed"]


def test_it_answers_while_the_daemon_does_not_and_keeps_what_a_kill_left(tmp_path: Path) -> None:
    sent = note(tmp_path / "data", ADA)
    with redirect(tmp_path) as running:
        for number in range(3):
            assert fetch(running.port, paths(sent, 3 + number)[0]).status == 302
        wait_until(lambda: len(running.events("clicked")) == 3, "three hits")
        running.process.kill()
        running.process.wait()
        running.start()
        assert fetch(running.port, paths(sent, 3)[0]).status == 302
        running.stop()
        ids = [event["id"] for event in running.events()]
        assert len(running.events("clicked")) == 4
        assert len(set(ids)) == len(ids)


def test_a_second_redirector_of_a_data_directory_refuses(tmp_path: Path) -> None:
    with redirect(tmp_path) as running:
        second = command(running, "redirect", check=False)
        assert (second.returncode, "is in use by another daemon" in second.stderr) == (1, True)


def test_listeners_of_the_daemon_are_not_taken_by_a_redirector(tmp_path: Path) -> None:
    with redirect(tmp_path) as running:
        running.config.write_text(running.config.read_text().replace("separate = true", ""))
        second = command(running, "redirect", check=False)
        assert (second.returncode, "the daemon has these listeners" in second.stderr) == (2, True)


def test_certificates_are_read_again_at_hangup_and_connections_stay(tmp_path: Path) -> None:
    sent = note(tmp_path / "data", ADA)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def renew() -> None:
        for path, pem in zip((cert, key), self_signed("click.test"), strict=True):
            path.write_bytes(pem)
            path.chmod(0o600)

    renew()
    with redirect(tmp_path, tls=f'tls = {{ cert = "{cert}", key = "{key}" }}') as running:

        def served() -> bytes:
            return ssl.get_server_certificate(("127.0.0.1", running.port)).encode()

        first = served()
        renew()
        running.hang_up()
        assert served() != first
        context = ssl.create_default_context(cafile=str(cert))
        connection = http.client.HTTPSConnection("127.0.0.1", running.port, context=context, timeout=60)
        connection.request("GET", paths(sent, 3)[0], headers={"User-Agent": BROWSER})
        assert connection.getresponse().getheader("location") == LINKS[0]
        connection.close()
        running.stop()


def test_keys_of_the_settings_rotate(tmp_path: Path) -> None:
    sent = note(tmp_path / "data", ADA)
    with redirect(tmp_path) as running:
        old = running.config.read_text()
        new = f'keys = ["2:{os.urandom(32).hex()}", '
        running.config.write_text(old.replace("keys = [", new))
        running.hang_up()
        assert fetch(running.port, paths(sent, 3)[0]).status == 302, "the old one is believed"
        running.config.write_text(old.replace("keys = [", new).replace(', "1:', "] #"))
        running.hang_up()
        assert fetch(running.port, paths(sent, 3)[0]).status == 404, "and gone"


def test_several_workers_have_one_redirector(tmp_path: Path) -> None:
    """One process judges all hits of a node: who fetches all links cannot hide between two."""
    port = free_port()
    more = f'[[listener]]\nkind = "tracking"\naddress = "127.0.0.1:{port}"\n{settings()}'
    with daemon(tmp_path, more, workers=2) as node:
        sent = note_beside(node.data, ADA)
        for path in paths(sent, 3, 4, 5, 6, 7):
            assert fetch(port, path).status == 302
        wait_until(lambda: list(verdicts(node.events()).values()) == ["machine"] * 5, "verdicts")
        assert node.metrics()["tracking_hits"] == 5
        assert len(events_in(node.data, "clicked")) == 5


def test_a_reload_opens_and_closes_the_redirector(tmp_path: Path) -> None:
    port = free_port()
    with daemon(tmp_path) as node:
        sent = note_beside(node.data, ADA)
        node.write_config(f'[[listener]]\nkind = "tracking"\naddress = "127.0.0.1:{port}"\n{settings()}')
        node.reload()
        assert fetch(port, paths(sent, 3)[0]).status == 302
        node.write_config("")
        node.reload()
        with pytest.raises(OSError, match="refused"):
            fetch(port, paths(sent, 3)[0])
        assert "Traceback" not in node.log_text()


def test_from_the_clients_letter_to_the_readers_click_and_goodbye(tmp_path: Path) -> None:
    """What is rendered is what is answered: links as the sink has them, keys that the node has made."""
    port = free_port()
    base = f"http://127.0.0.1:{port}/t"
    more = f'''
[[listener]]
kind = "tracking"
address = "127.0.0.1:{port}"

[tracking]
base_url = "{base}"
level = "full"
opens = true
honeypot = true
'''
    links = '<a href="https://shop.example/a?x=1&amp;y=2">A</a> <a href="https://shop.example/b">B</a>'
    body = f"<html><body>{links}</body></html>".encode()
    with relayed(tmp_path, more=more) as (node, sink):
        fields = ("MIME-Version: 1.0", "Content-Type: text/html; charset=utf-8", "X-Postrider-Stream: news")
        with Client(node.port) as client:
            message = client.submit("a@shop.test", BOB, letter("hello", "a@shop.test", *fields, body=body + b"\r\n"))
        node.until(delivered=1)
        [(_, content)] = sink.messages()
        urls = re.findall(rf"{base}/[cou]/[\w.-]+", content.decode())
        found = [url.removeprefix(f"http://127.0.0.1:{port}") for url in urls]
        [delivered] = node.events("delivered")
        wait_until(lambda: time.time() > delivered["at"] + 1.5, "a second after the 250")
        answers = {path: fetch(port, path) for path in found if "/u/" not in path}
        assert sorted(answer.headers.get("location", "") for answer in answers.values()) == [
            "", "", "https://shop.example/a?x=1&y=2", "https://shop.example/b"
        ]  # fmt: skip
        assert {answer.headers["content-type"] for answer in answers.values() if answer.status == 200} == {
            "image/gif", "text/html; charset=utf-8"
        }  # fmt: skip
        [leave] = [path for path in found if "/u/" in path]
        assert "b•••@t•••.test" in fetch(port, leave).text
        assert post(port, leave).status == 200
        assert held(node.data, BOB) == [("", "news", True)]
        wait_until(lambda: len(node.events("clicked", "opened")) == 4, "four hits")
        clicked = node.events("clicked", "opened", "unsubscribed")
        assert {(event["message"], event["recipient"], event["stream"]) for event in clicked} == {
            (message, BOB, "news")
        }
        assert node.metrics()["tracking_hits"] == 4
