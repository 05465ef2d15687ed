"""What becomes of a message on its way to a recipient: admission and tracking by the settings, without a daemon.

The client is taken for one that may say what it likes in X-Postrider fields.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from engine.base.settings import Settings
from engine.delivery.tracker import MOST_TRACKED_BYTES
from engine.message.dkim import split_content
from engine.message.envelope import MessageClass, Track
from engine.message.headers import Asked, admit_header, reframe
from engine.message.link_compile import Compiled, Marks, compile_body
from engine.message.list_unsubscribe import Declared, declared

#: Where settings say nothing of tracking.
_SAMPLE_URL = "https://click.example.org"


class Wishes(NamedTuple):
    """Instead of what the settings say. base_url: at level full."""

    base_url: str = ""
    text_links: bool = False
    opens: bool = False
    honeypot: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """header: with CRLF, without the empty line, and without what is for us. facts: what it says of unsubscribing.

    compiled: None: nobody would look at its links. left: why they stay as they are; "": they do not. unsubscribe: the
    message gets List-Unsubscribe fields.
    """

    header: bytes
    body: bytes
    facts: Declared
    base_url: str
    compiled: Compiled | None
    left: str
    unsubscribe: bool


def previewed(
    content: bytes, settings: Settings, wishes: Wishes, default_class: str = "",
    level_of: Callable[[str], Track] = lambda batch: Track.FULL,
) -> Preview:  # fmt: skip
    """default_class: where the message does not say; "": that of the listeners. level_of: the most for a batch.

    Raises HeaderError: it is refused.
    """
    content = reframe(content)
    intake, tracking = settings.intake, settings.tracking
    admitted = admit_header(content, b"", b"", b"", intake.max_header_bytes, intake.max_received)
    asked = admitted.asked
    header, body = split_content(admitted.content)
    facts = declared(header)
    domains = {row.tenant: row.base_url for row in settings.click_domain}
    planned = not tracking.base_url and not domains
    url = wishes.base_url or domains.get(asked.tenant) or tracking.base_url or _SAMPLE_URL * planned
    level = _level(settings, asked, freely=planned or bool(wishes.base_url))
    if asked.batch:
        level = min(level, level_of(asked.batch))
    large = len(content) > settings.spool.large_bytes or len(body) > MOST_TRACKED_BYTES
    compiled, left = None, "signed by DKIM" if facts.signed else "large" if large else ""
    if not large:
        marks = Marks(
            url, tracking.text_links or wishes.text_links, tracking.opens or wishes.opens,
            tracking.honeypot or wishes.honeypot, skip=facts.urls,
        )  # fmt: skip
        compiled = compile_body(header, body, marks)
        left = left or compiled.sealed
    if level is Track.NONE or not url:
        left = "level none" if url else "no base_url"
    bulk = _class_of(settings, asked, default_class) is MessageClass.BULK
    unsubscribe = tracking.unsubscribe and bulk and bool(url) and not facts.signed and not facts.unsubscribe
    return Preview(
        header=header, body=body, facts=facts, base_url=url, compiled=compiled, left=left, unsubscribe=unsubscribe
    )


def _level(settings: Settings, asked: Asked, freely: bool) -> Track:
    """The strictest of settings and message, as at admission. freely: whatever the settings say."""
    tracking = settings.tracking
    most = (
        Track.FULL
        if freely
        else Track[tracking.level.upper()]
        if tracking.base_url or settings.click_domain
        else Track.NONE
    )
    return most if asked.track is None else min(most, asked.track)


def _class_of(settings: Settings, asked: Asked, default: str) -> MessageClass:
    if asked.message_class is not None:
        return asked.message_class
    classes = {row.message_class for row in settings.listener if row.kind == "smtp"}
    return MessageClass[(default or (classes.pop() if len(classes) == 1 else "bulk")).upper()]
