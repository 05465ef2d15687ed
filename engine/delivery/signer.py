"""DKIM signatures for the messages that leave: keys by From domain, RSA in threads of its own.

The loop canonicalises and hashes (20 us for 4 KiB); a thread does the private-key operation (0.25 ms, without the
GIL); what is done comes back in bursts, one wake-up of the loop for all that piled up. An executor would cost two
locks, a Future of its own and a wake-up for each signature. Large contents are prepared in the thread as well.

With a worker for each core the threads bring nothing that the workers do not, and the hand-over costs a tenth: with
`threads = 0` the loop signs by itself, all but large contents.

A message whose domain has a key leaves signed or not at all: whatever goes wrong is an EngineError, and the
delivery is deferred.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from time import perf_counter

from engine.base.clock import Clock, SystemClock
from engine.base.errors import EngineError
from engine.base.metrics import Metrics
from engine.base.settings import Settings
from engine.delivery.keyring import load_keys
from engine.message.content import Content
from engine.message.dkim import SIGNED, Request, prepare
from engine.message.dkim_keys import SigningKey
from engine.message.envelope import Envelope

#: Preparing 128 KiB takes the loop about 0.3 ms; above, it is a thread's work.
_LARGE = 128 << 10

_FROM = SIGNED.index("from")

_Work = Callable[[], bytes]
_Job = tuple[asyncio.Future[bytes], _Work]


class Signer:
    """Signs contents. One per worker, used from its event loop; `close` from the same thread."""

    def __init__(self, settings: Settings, metrics: Metrics, clock: Clock | None = None) -> None:
        """Raises ConfigError: keys that cannot be used. `warnings`: what is weak about the others."""
        self._ring, self.warnings = load_keys(settings)
        self._settings = settings.signing
        self._clock = clock or SystemClock()
        self._observe = metrics.sign.observe
        self._threads = _Threads()

    async def sign(self, envelope: Envelope, content: Content) -> bytes:
        """The DKIM-Signature fields to put before the content, each with CRLF; b"" without a key, or without From.

        Raises EngineError: the message has a key and could not be signed; StorageError: because it cannot be read.
        """
        keys = self._ring.find(envelope.header_from)
        if not keys:
            return b""
        started = perf_counter()
        threads, settings = self._threads, self._settings
        while threads.pending >= settings.queue:
            await threads.room()
        now = int(self._clock.time())
        expire = now + int(settings.expire_after) if settings.expire_after else None
        if len(content) > _LARGE or not isinstance(content, bytes):
            count = max(settings.threads, 1)
            fields = await threads.run(lambda: _sign(keys, _requests(keys, content, now, expire)), count)
        else:
            requests = _requests(keys, content, now, expire)
            if settings.threads and any(key.slow for key in keys):
                fields = await threads.run(lambda: _sign(keys, requests), settings.threads)
            else:
                fields = _sign(keys, requests)
        self._observe(perf_counter() - started)
        return fields

    def reload(self, settings: Settings) -> None:
        """Take the keys of new settings at once. Raises ConfigError, and then goes on with the old ones."""
        self._ring, self.warnings = load_keys(settings)
        self._settings = settings.signing

    def close(self) -> None:
        """End the threads; what was asked for is signed first (at most `queue` times 0.25 ms a thread)."""
        self._threads.close()


def _requests(keys: Sequence[SigningKey], content: Content, now: int, expire: int | None) -> list[Request]:
    prepared = prepare(content)
    if not prepared.counts[_FROM]:
        return []  # RFC 6376 5.4: a signature covers From, and verifiers refuse one that covers none
    return [key.request(prepared, now, expire) for key in keys]


def _sign(keys: Sequence[SigningKey], requests: Sequence[Request]) -> bytes:
    return b"".join([key.complete(request) for key, request in zip(keys, requests, strict=bool(requests))])


class _Threads:
    """A few threads fed by a queue, whose results come back to one event loop in bursts."""

    def __init__(self) -> None:
        self.pending = 0  #: jobs given and not yet returned; touched by the loop's thread only
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._done: deque[tuple[asyncio.Future[bytes], bytes | EngineError]] = deque()
        self._wakened = False
        self._waiting: list[asyncio.Future[None]] = []
        self._threads: list[threading.Thread] = []
        self._count = 0  #: threads that were not told to end
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def run(self, work: _Work, count: int) -> asyncio.Future[bytes]:
        """What `work` returns, done in one of `count` threads. Raises EngineError through the future."""
        if self._closed:
            raise EngineError("the signer is closed")
        if self._count != count:
            self._resize(count)
        loop = asyncio.get_running_loop()
        self._loop = loop
        future: asyncio.Future[bytes] = loop.create_future()
        self.pending += 1
        self._jobs.put((future, work))
        return future

    async def room(self) -> None:
        """Wait until jobs came back; whoever waits asks again, as the room may be gone."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        await future

    def close(self) -> None:
        self._closed = True
        self._resize(0)
        for thread in self._threads:
            thread.join()
        self._deliver()

    def _resize(self, count: int) -> None:
        """More threads or fewer. Those that end do so after the jobs given so far; whichever takes the end mark."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        for _ in range(self._count, count):
            thread = threading.Thread(target=self._work, name="signer", daemon=True)
            thread.start()
            self._threads.append(thread)
        for _ in range(count, self._count):
            self._jobs.put(None)
        self._count = count

    def _work(self) -> None:
        """One thread: until the end mark."""
        while (job := self._jobs.get()) is not None:
            future, work = job
            try:
                result: bytes | EngineError = work()
            except EngineError as error:
                result = error
            except Exception as error:  # the top of this thread: a fault must not end it, nor lose the message
                result = EngineError(f"signing failed: {error!r}")
                result.__cause__ = error
            self._done.append((future, result))
            # Both threads may see False and wake the loop twice: harmless. None can be missed: _deliver clears
            # the mark before it looks at what is done.
            if not self._wakened and not self._closed:
                self._wakened = True
                assert self._loop is not None
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        """On the loop: hand out all that is done."""
        self._wakened = False
        done = self._done
        while done:
            future, result = done.popleft()
            self.pending -= 1
            if future.done():
                continue  # cancelled while it waited
            if isinstance(result, bytes):
                future.set_result(result)
            else:
                future.set_exception(result)
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_result(None)
