"""Chromium reads a delivered newsletter, clicks a link of it, and unsubscribes: with a mouse, with scripts and without.

One daemon for all, a page that shows the message as a web mail does, and the shop that its links lead to.
"""

import contextlib
import email
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.policy import SMTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import CHROME, Browser, Invisible
from tests.support.client import letter, submit
from tests.support.engine import Daemon, Sink, wait_until
from tests.support.ports import free_port
from tests.support.relay import relayed
from tests.support.tracking import verdicts

SENDER, SHOP = "news@shop.test", "/all?month=november&from=news"
FIELDS = ("MIME-Version: 1.0", "Content-Type: text/html; charset=utf-8", "X-Postrider-Stream: news")


class Site:
    """A web server on a free port. pages: path -> HTML. asked: (path, User-Agent, Referer) of each request."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append((self.path, self.headers.get("User-Agent", ""), self.headers.get("Referer", "")))
                page = site.pages.get(self.path)
                self.send_response(404 if page is None else 200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(page or b"")))
                self.end_headers()
                self.wfile.write(page or b"")

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@dataclass
class House:
    engine: Daemon
    sink: Sink
    site: Site
    click: str  #: what links begin with

    def submit(self, recipient: str) -> str:
        links = f'<a id=shop href="{self.site.url}{SHOP.replace("&", "&amp;")}">Alles für den November</a>'
        body = f"<html><body><h1>News</h1><p>{links}</p></body></html>\r\n".encode()
        return submit(self.engine.port, SENDER, recipient, letter("news", SENDER, *FIELDS, body=body))

    def delivered(self, message: str) -> bytes:
        """A message as it arrived, more than a second ago."""
        (event,) = wait_until(lambda: self.events(message, "delivered"), f"{message} delivered")
        wait_until(lambda: time.time() > event["at"] + 1.1, "a second after the 250")
        (content,) = [text for _, text in self.sink.messages() if message.encode() in text]
        return content

    def shown(self, content: bytes) -> str:
        """The address of a page with the HTML of a message, at the web mail."""
        html = email.message_from_bytes(content, policy=SMTP).get_payload(decode=True)
        assert isinstance(html, bytes)
        self.site.pages[f"/mail/{len(self.site.pages)}"] = html
        return f"{self.site.url}/mail/{len(self.site.pages) - 1}"

    def events(self, message: str, *types: str) -> list[dict[str, Any]]:
        return [event for event in self.engine.events(*types) if event["message"] == message]

    def last_verdicts(self, message: str) -> dict[str, str]:
        """Of the hits of a message, by type, once each is settled."""

        def settled() -> dict[str, str]:
            events = self.events(message)
            found = verdicts(events)
            return {} if "unsure" in found.values() else {
                event["type"]: found[event["id"]] for event in events if event["id"] in found
            }  # fmt: skip

        return dict(wait_until(settled, f"verdicts of {message}"))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    path, port = tmp_path_factory.mktemp("house"), free_port()
    click = f"http://127.0.0.1:{port}"
    more = f"""
        [[listener]]
        kind = "tracking"
        address = "127.0.0.1:{port}"
        [tracking]
        base_url = "{click}"
        level = "full"
        opens = true
        honeypot = true
        [suppression]
        notify = false
        """
    site = Site()
    site.pages[SHOP] = b"<html><body><h1>The shop</h1></body></html>"
    site.pages["/scripts"] = b"<html><body><p id=p>off</p><script>p.textContent = 'on'</script></body></html>"
    with contextlib.closing(site), relayed(path, more=more) as (engine, sink):
        yield House(engine, sink, site, click)


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_a_person_clicks_a_link_and_leaves(house: House, tmp_path: Path, scripts: bool) -> None:
    recipient = f"ada{scripts:d}@one.test"
    message = house.submit(recipient)
    content = house.delivered(message)
    match = re.search(r"<(http[^>]+)>", email.message_from_bytes(content, policy=SMTP)["List-Unsubscribe"])
    assert match is not None
    leave = match[1]
    with Browser(tmp_path, scripts=scripts) as browser:
        browser.visit(f"{house.site.url}/scripts")
        assert f'<p id="p">{"on" if scripts else "off"}</p>' in browser.html
        browser.visit(house.shown(content))
        assert f'href="{house.click}/c/' in browser.html
        with pytest.raises(Invisible):
            browser.middle(f'a[href^="{house.click}"]:not([id])')  # the hidden link
        house.site.asked.clear()
        browser.click("#shop")
        assert browser.url == house.site.url + SHOP
        assert "<h1>The shop</h1>" in browser.html
        asked = [each for each in house.site.asked if each[0] != "/favicon.ico"]  # which may be the page before's
        assert asked[0] == (SHOP, CHROME, ""), "and nobody learns where he came from"

        browser.visit(leave)
        page = browser.html
        assert "a•••@o•••.test" in page and recipient not in page
        assert "Unsubscribe from “news”" in page
        assert browser.style("button.first", "background-color") == "rgb(26, 95, 180)", "its policy lets its style be"
        assert house.events(message, "unsubscribed") == [], "to look at the page changes nothing"
        browser.click("button[value=stream]")
        assert "is unsubscribed from “news”." in browser.html
        assert browser.url == leave

    (event,) = house.events(message, "unsubscribed")
    assert (event["recipient"], event["kind"], event["stream"], event["agent"]) == (recipient, "stream", "news", CHROME)
    wait_until(lambda: time.time() > event["at"] + 1.0, "every worker to know")
    after = house.submit(recipient)
    wait_until(lambda: house.events(after, "suppressed"), "a suppressed recipient")
    assert house.events(after, "delivered") == []
    assert house.last_verdicts(message) == {"opened": "human", "clicked": "human"}
    (clicked,) = house.events(message, "clicked")
    assert (clicked["recipient"], clicked["url"], clicked["agent"]) == (recipient, house.site.url + SHOP, CHROME)


def test_the_page_speaks_the_language_of_the_browser(house: House, tmp_path: Path) -> None:
    content = house.delivered(house.submit("bob@one.test"))
    (leave,) = re.findall(rf"<({house.click}/u/[\w-]+)>", content.decode())
    with Browser(tmp_path, language="ru-RU") as browser:
        browser.visit(leave)
        assert "Отписаться от «news»" in browser.html
        browser.click("button[value=pause]")
        assert "писем не будет 30 дней" in browser.html


def test_a_browser_that_says_it_is_nobodys_is_a_machine_at_once(house: House, tmp_path: Path) -> None:
    message = house.submit("carl@one.test")
    content = house.delivered(message)
    with Browser(tmp_path, agent="") as browser:
        browser.visit(house.shown(content))
        browser.click("#shop")
        assert browser.url == house.site.url + SHOP
    (clicked,) = wait_until(lambda: house.events(message, "clicked"), "the click")
    assert "HeadlessChrome" in clicked["agent"]
    assert (clicked["verdict"], clicked["reasons"]) == ("machine", ["known:program"])
