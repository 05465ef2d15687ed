"""Posts answers to URLs: a task for each URL that something waits for, a few requests at a time.

2xx is success. Anything else is tried again with growing pauses, so often, and then given up with an event. A URL that
does not answer, or says 5xx or 429, rests as a whole; one that refuses a single answer is sent the others meanwhile.
The answer's id goes along as Idempotency-Key, since after a crash, or a lost reply, it is posted again. What a URL may
be and may say: net/http_post.py.
"""

import asyncio
import contextlib
import logging
from urllib.parse import urlsplit

from engine.base.clock import Clock
from engine.base.errors import StorageError
from engine.base.settings import Settings
from engine.feedback.ports import Noted, Notes
from engine.net.http_post import HttpPoster, PostFailed
from engine.net.resolver import Lookup
from engine.storage.tables.posts import Post, Posts

log = logging.getLogger(__name__)

#: Requests to a URL at a time.
AT_ONCE = 8
FIRST_PAUSE_S, LONGEST_PAUSE_S = 10.0, 3600.0
#: After the table could not be read or written.
_STORAGE_PAUSE_S = 10.0


def pause_s(attempts: int) -> float:
    """After so many failed attempts."""
    return float(min(FIRST_PAUSE_S * 2 ** min(attempts - 1, 20), LONGEST_PAUSE_S))


def of_site(exc: PostFailed) -> bool:
    """The URL would not have taken another either."""
    return not exc.status or exc.status >= 500 or exc.status == 429


def url_key(url: str) -> str:
    """A URL in events and logs: its host. The rest of it may be a secret."""
    return f"url:{urlsplit(url).hostname}"


class Poster:
    """Make it inside the loop; `start` it, then `wake` it for each URL that got something."""

    def __init__(self, settings: Settings, posts: Posts, notes: Notes, dns: Lookup, clock: Clock) -> None:
        self._posts = posts
        self._notes = notes
        self._clock = clock
        self._posters = {private: HttpPoster(dns, private) for private in (False, True)}
        self._lanes: dict[str, asyncio.Task[None]] = {}
        self._wakeups: dict[str, asyncio.Event] = {}
        self._rests: dict[str, tuple[int, float]] = {}  #: url: failures in a row, until when it rests
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        self._timeout_s = float(settings.sms.post_timeout)
        self._attempts = settings.sms.post_attempts
        self._private = {row.url for row in settings.keyword if row.allow_private}

    def start(self) -> None:
        """Go on with what waits. Raises StorageError."""
        for url in self._posts.urls():
            self.wake(url)

    def wake(self, url: str) -> None:
        """Something for this URL is in the table."""
        if url in self._lanes:
            self._wakeups[url].set()
            return
        self._wakeups[url] = asyncio.Event()
        self._lanes[url] = asyncio.get_running_loop().create_task(self._run(url), name="post answers")

    async def close(self) -> None:
        """What is on its way is posted again after the next start."""
        lanes = list(self._lanes.values())
        for lane in lanes:
            lane.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
        for poster in self._posters.values():
            await poster.close()

    async def _run(self, url: str) -> None:
        """Until nothing waits for the URL."""
        wakeup = self._wakeups[url]
        while True:
            wakeup.clear()
            try:
                pause = await self._turn(url)
            except StorageError as exc:
                log.error("answers to a URL wait: %s", exc)
                pause = _STORAGE_PAUSE_S
            except Exception:  # top of a task
                log.exception("posting answers")
                pause = _STORAGE_PAUSE_S
            if pause is None and not wakeup.is_set():
                del self._lanes[url], self._wakeups[url]  # nothing is awaited since `wakeup` was looked at
                return
            if pause:
                await self._pause(wakeup, url, pause)

    async def _pause(self, wakeup: asyncio.Event, url: str, seconds: float) -> None:
        """So long, or until there is something new for a URL that does not rest."""
        if self._rests.get(url, (0, 0.0))[1] > self._clock.time():
            await asyncio.sleep(seconds)
        else:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wakeup.wait(), seconds)

    async def _turn(self, url: str) -> float | None:
        """Some requests. Gives how long to wait before the next turn; None: nothing waits for the URL."""
        now = self._clock.time()
        posts = await self._posts.due(url, now, AT_ONCE)
        if not posts:
            at = await self._posts.next_at(url)
            return None if at is None else max(0.0, at - self._clock.time())
        failures = await asyncio.gather(*(self._post(post) for post in posts))
        if not any(failure is not None and of_site(failure) for failure in failures):
            self._rests.pop(url, None)
            return 0.0
        failed = self._rests.get(url, (0, 0.0))[0] + 1
        self._rests[url] = failed, self._clock.time() + pause_s(failed)
        return pause_s(failed)

    async def _post(self, post: Post) -> PostFailed | None:
        """One answer, posted or put off or given up. Raises StorageError."""
        try:
            status = await self._request(post)
        except PostFailed as exc:
            attempts = post.attempts + 1
            if attempts < self._attempts:
                await self._posts.put_off(post, self._clock.time() + pause_s(attempts))
                log.warning("%s: from=<%s>, attempt=%d, status=deferred (%s)", post.id, post.recipient, attempts, exc)
                return exc
            await self._notes.note(
                Noted(
                    type="answer-failed",
                    at=self._clock.time(),
                    message=post.id,
                    answer=post.id,
                    sender=post.sender,
                    recipient=post.recipient,
                    destination=url_key(post.url),
                    attempt=attempts,
                    reply=str(exc),
                )
            )
            log.error("%s: from=<%s>, attempt=%d, status=failed (%s)", post.id, post.recipient, attempts, exc)
            await self._posts.remove(post)
            return exc
        log.info("%s: from=<%s>, attempt=%d, status=posted (%d)", post.id, post.recipient, post.attempts + 1, status)
        await self._posts.remove(post)
        return None

    async def _request(self, post: Post) -> int:
        """The status, 2xx. Raises PostFailed."""
        poster = self._posters[post.url in self._private]
        return await poster.post(post.url, post.body, {"Idempotency-Key": post.id}, self._timeout_s)
