"""A worker process, as its supervisor has it: started, asked, stopped, and seen to end.

The process inherits three descriptors: its end of the channel, its end of the pair that sockets come over, and the lock
of the data directory, which is thus held until the last worker is gone. Its standard input is a pipe that ends with
the supervisor, and the process with it: however a supervisor dies, no worker outlives it.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import engine
from engine.base.errors import NetworkError
from engine.base.settings import Settings
from engine.daemon import sockets as shared
from engine.daemon.channel import Channel, pack_settings

_MODULE = "engine.daemon.worker_process"


class Child:
    """One worker. number: of its spool, journal and door. drains: it takes nothing new. answer, note: see `Channel`."""

    def __init__(
        self,
        number: int,
        drains: bool,
        lock: int,
        answer: Callable[[int, str, Any], Awaitable[Any]],
        note: Callable[[int, str, Any], None],
    ) -> None:
        self.number = number
        self.drains = drains
        self.serves = False
        self.heard_at = 0.0  #: loop time of its last sign of life
        self._lock = lock
        self._answer = answer
        self._note = note
        self._process: asyncio.subprocess.Process | None = None
        self._channel: Channel | None = None
        self._pair: socket.socket | None = None
        self._lifeline = -1

    async def start(
        self, settings: Settings, sockets: shared.Sockets, watched: Callable[[], Sequence[str]]
    ) -> dict[str, Any]:
        """Start the process; it serves when this returns. Raises EngineError, OSError: it cannot; see to its end.

        watched: keys of clients that are, once it can be told of others. Returns the books that it begins with.
        """
        await self._spawn()
        books: dict[str, Any] = await self._ask(
            "start", {"number": self.number, "watched": watched(), **self._new(settings, sockets)}
        )
        self.serves = True
        self.hear()
        return books

    async def reload(self, settings: Settings, sockets: shared.Sockets) -> None:
        """Take new settings, with sockets for addresses that are new. Raises EngineError: it keeps the old ones."""
        await self._ask("reload", self._new(settings, sockets))

    @property
    def hears(self) -> bool:
        """It can be told things, whether it serves yet or not."""
        return self._channel is not None

    async def watch(self, what: str, key: str) -> int:
        """Tell it to "watch" or "unwatch" a key of clients; how many it has."""
        count: int = await self._ask(what, key)
        return count

    async def samples(self) -> Any:
        return await self._ask("samples")

    async def beat(self) -> dict[str, Any]:
        """Its books, when it has answered."""
        books: dict[str, Any] = await self._ask("beat")
        self.hear()
        return books

    async def stop(self) -> None:
        """Have it stop in order; returns when it says that it has."""
        await self._ask("stop")

    async def ended(self) -> int:
        """Wait for the end of the process; its exit status, negative for a signal."""
        assert self._process is not None
        status = await self._process.wait()
        self.serves = False
        self._let_go()
        return status

    def tell(self, kind: str, what: Any) -> None:
        if self._channel is not None:
            self._channel.tell(kind, what)

    def kill(self) -> None:
        """At once, without goodbye; what it accepted is on disk."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)

    def hear(self) -> None:
        """It has given a sign of life."""
        self.heard_at = asyncio.get_running_loop().time()

    # Inside.

    async def _spawn(self) -> None:
        """Raises OSError, and nothing is left open but what `ended` closes."""
        ours, theirs = socket.socketpair()
        self._pair, their_pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        end, self._lifeline = os.pipe()
        inherited = (theirs.fileno(), their_pair.fileno())
        try:
            self._process = await asyncio.create_subprocess_exec(
                *_interpreter(), "-m", _MODULE, *map(str, inherited),
                stdin=end, pass_fds=(*inherited, self._lock), env=_environment(),
            )  # fmt: skip
        except BaseException:
            ours.close()
            self._let_go()
            raise
        finally:
            os.close(end)
            theirs.close()
            their_pair.close()
        channel = Channel(
            lambda kind, what: self._answer(self.number, kind, what),
            lambda kind, what: self._note(self.number, kind, what),
        )
        await channel.open(ours)
        self._channel = channel

    def _new(self, settings: Settings, sockets: shared.Sockets) -> dict[str, Any]:
        assert self._pair is not None
        try:
            return {"settings": pack_settings(settings), "sockets": shared.send(self._pair, sockets)}
        except OSError as exc:
            raise NetworkError("it has gone away") from exc

    async def _ask(self, kind: str, what: Any = None) -> Any:
        if self._channel is None:
            raise NetworkError("it has gone away")
        return await self._channel.ask(kind, what)

    def _let_go(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._pair is not None:
            self._pair.close()
            self._pair = None
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1


def _interpreter() -> tuple[str, str]:
    """Ours, and as deaf to the environment; never with the folder it happens to be started in on its path."""
    return sys.executable, "-I" if sys.flags.isolated else "-P"


def _environment() -> dict[str, str]:
    """This process's, with the place this program was imported from, which need not be installed."""
    place = str(Path(engine.__file__).parent.parent)
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{place}{os.pathsep}{path}" if path else place}
