"""The agent that hands on what people wrote to an [[inbound]] domain: into a folder, or to a URL.

What could not be forwarded by mail comes here, too, and lies in the folder of those that name none.

The folder has the form of a Maildir. A file is written in tmp, synced, and moved to new under the message's id: after
a crash it is there once, unless somebody has moved it on. A URL gets the whole message posted, as message/rfc822, with
its id as Idempotency-Key; whatever is not 2xx is tried again by the schedule of mail.
"""

import asyncio
import os
from functools import partial
from pathlib import Path

from engine.base.errors import StorageError
from engine.delivery.agent import Kit
from engine.delivery.settlement import Timing
from engine.message.channels import channel_of, is_forward
from engine.message.content import Content, LargeContent, whole
from engine.message.envelope import Envelope
from engine.message.outcome import Outcome, Scope, Status
from engine.net.http_post import PostFailed
from engine.queue.ready import ReadyQueue
from engine.storage.spool.entry import Delivery

#: In data_dir, where a row of [[inbound]] names no folder.
DEFAULT_FOLDER = "inbound"
#: After a folder could not be written, or a URL did not answer.
_PAUSE_S = 60.0
_TIMEOUT_S = 30.0


class BoxAgent:
    """Ends when its queue is empty."""

    connecting = False

    def __init__(self, kit: Kit, queue: ReadyQueue) -> None:
        self._kit = kit
        self._queue = queue
        self._stopping = False
        domain = channel_of(queue.plan.site)[1]
        settings = kit.settings
        row = next((row for row in settings.inbound if row.domain == domain), None)
        self._to = row.replies if row is not None and not is_forward(row.replies) else ""
        self._folder = Path(self._to or Path(settings.node.data_dir, DEFAULT_FOLDER))
        self._poster = kit.posters[row is not None and row.allow_private]

    async def run(self) -> None:
        self._queue.arrived()
        while not self._stopping and (delivery := self._queue.take()) is not None:
            await self._deliver(delivery)

    def stop(self) -> None:
        """Finish what is in hand."""
        self._stopping = True

    def abort(self) -> None:
        """There is nothing to cut off."""

    async def _deliver(self, delivery: Delivery) -> None:
        kit, queue = self._kit, self._queue
        kit.working.add(delivery)
        timing = Timing(kit.clock.time())
        try:
            envelope, content = delivery.message.hot or await kit.spool.reader.load(delivery)
            hand_on = self._post if self._to.startswith(("http:", "https:")) else self._put
            failure, everybody = await hand_on(envelope, content)
            outcome = Outcome(
                index=delivery.indexes[0], status=Status.DEFERRED if failure else Status.DELIVERED,
                scope=Scope.SITE if everybody else Scope.MESSAGE, status_code="4.3.0" if failure else "2.0.0",
                reply=failure or "handed on", remote=queue.plan.site, phase="end-of-data",
            )  # fmt: skip
            kit.settlement.settle(delivery, envelope, content, (outcome,), queue.plan.provider, timing)
            if failure and everybody:
                queue.throttle.close(kit.clock.time() + _PAUSE_S, failure)
        except StorageError as exc:
            kit.settlement.put_off(delivery, str(exc))
        finally:
            kit.working.discard(delivery)

    async def _put(self, envelope: Envelope, content: Content) -> tuple[str, bool]:
        """Why it could not be, or "", and whether another message would fare no better. Raises StorageError."""
        return await asyncio.to_thread(_put, self._folder, envelope.id, content), True

    async def _post(self, envelope: Envelope, content: Content) -> tuple[str, bool]:
        """As `_put`."""
        body = await asyncio.to_thread(partial(whole, content))
        headers = {"Content-Type": "message/rfc822", "Idempotency-Key": envelope.id}
        try:
            await self._poster.post(self._to, body, headers, _TIMEOUT_S)
        except PostFailed as exc:
            return str(exc), not 400 <= exc.status < 500 or exc.status == 429
        return "", False


def _put(folder: Path, name: str, content: Content) -> str:
    """Write a message, durably; why it could not be, or "". Raises StorageError: it cannot be read."""
    temporary, final = folder / "tmp" / name, folder / "new" / name
    try:
        for each in (folder, folder / "tmp", folder / "new", folder / "cur"):
            each.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            if isinstance(content, LargeContent):
                file.write(content.head)
                file.writelines(content.rest())
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, final)
        opened = os.open(final.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
    except OSError as exc:
        return f"{folder}: {exc.strerror or exc}"
    return ""
