"""A reader in the demo: he gets a newsletter, clicks a link of it, leaves its list, and gets no more of it.

He acts by what arrived at the test MX, over HTTP, as browsers and mail programs do (RFC 8058).
"""

import email
import http.client
import re
import time
from collections.abc import Callable, Iterator
from email.policy import SMTP
from urllib.parse import urlsplit

from engine.tools.demo_stage import DemoFailed, Stage

READER = "dora@good.example"
TARGET = "https://shop.sender.example/november?from=news"
#: Events of the two newsletters, the one that arrives and the one that does not.
EXPECTED = {"clicked": 1, "verdict": 1, "unsubscribed": 1, "suppressed": 1}
_SENDER = "news@sender.example"
_NEWSLETTER = f"""\
From: News <{_SENDER}>
To: {READER}
Subject: {{subject}}
X-Postrider-Stream: news
MIME-Version: 1.0
Content-Type: text/html; charset=utf-8

<html><body><p>Hello Dora.</p>
<a href="{TARGET.replace("&", "&amp;")}">All of November</a> <a href="https://shop.sender.example/">The shop</a>
</body></html>
"""
_LINK = re.compile(r'href="(http://127\.0\.0\.1:\d+/c/[\w-]+)"')
#: Whoever asks within a second after the 250 is no person; and within a second an unsubscribe is known everywhere.
_A_SECOND = 1.1
#: What a person's browser sends with a click.
_BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.5",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-User": "?1",
}
_MAIL_PROGRAM = {"User-Agent": "MailProgram/1.0", "Content-Type": "application/x-www-form-urlencoded"}

Say = Callable[[str], None]


def send_newsletter(stage: Stage, subject: str, say: Say) -> str:
    """Its queue id. Raises DemoFailed."""
    message = stage.submit(_SENDER, (READER,), _NEWSLETTER.format(subject=subject).encode())
    say(f"submitted {message}: {subject}, to {READER}")
    return message


def reader(stage: Stage, message: str, say: Say) -> Iterator[None]:
    """What he does with this message, step by step; yields where he has to wait. Raises DemoFailed."""
    while (delivered := _delivered_at(stage, message)) is None:
        yield
    while time.time() < delivered + _A_SECOND:
        yield
    link, leave = _links(stage)
    status, where = _ask("GET", link, _BROWSER)
    if (status, where) != (302, TARGET):
        raise DemoFailed(f"the link {link} answers {status} {where}")
    say(f"{READER} clicked {link}: 302, to {where}")
    status, _ = _ask("POST", leave, _MAIL_PROGRAM, b"List-Unsubscribe=One-Click")
    if status != 200:
        raise DemoFailed(f"unsubscribing at {leave} answers {status}")
    left_at = time.time()
    say(f"{READER} unsubscribed: POST {leave}: 200")
    while time.time() < left_at + _A_SECOND:
        yield
    send_newsletter(stage, "the newsletter of December", say)


def _delivered_at(stage: Stage, message: str) -> float | None:
    return next((e["at"] for e in stage.events() if e["type"] == "delivered" and e["message"] == message), None)


def _links(stage: Stage) -> tuple[str, str]:
    """Of his newsletter as it arrived: the first tracked link, and that of List-Unsubscribe."""
    contents = [content for envelope, content in stage.received("good") if envelope["recipients"] == [READER]]
    if len(contents) != 1:
        raise DemoFailed(f"{len(contents)} newsletters for {READER} at the test MX, 1 expected")
    link = _LINK.search(contents[0].decode())
    header = email.message_from_bytes(contents[0], policy=SMTP)
    leave = re.search(r"<(http[^>]+)>", header.get("List-Unsubscribe", ""))
    if link is None or leave is None or header.get("List-Unsubscribe-Post") != "List-Unsubscribe=One-Click":
        raise DemoFailed("the newsletter has no tracked link, or no List-Unsubscribe for one click")
    return link[1], leave[1]


def _ask(method: str, url: str, headers: dict[str, str], body: bytes | None = None) -> tuple[int, str]:
    """Status and Location; a redirect is not followed, for there is no shop."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    try:
        connection.request(method, parts.path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Location", "")
    except (OSError, http.client.HTTPException) as exc:
        raise DemoFailed(f"{method} {url}: {exc}") from exc
    finally:
        connection.close()
