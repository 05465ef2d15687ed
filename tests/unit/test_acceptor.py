"""Accepting from a socket that several workers have: a client each turn, and none is lost."""

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext

import pytest

from engine.daemon import sockets as shared
from engine.intake import acceptor
from engine.intake.acceptor import Acceptor

CLIENTS = 100


class Greeter(asyncio.Protocol):
    """Says who it is, and closes."""

    def __init__(self, name: str) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._name.encode())
        transport.close()


def make(name: str, sock: socket.socket) -> Acceptor:
    return Acceptor(greeter(name), sock, lambda _: nullcontext())


def greeter(name: str) -> Callable[[], Greeter]:
    return lambda: Greeter(name)


async def visit(port: int) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return (await reader.read()).decode()
    finally:
        writer.close()


def test_clients_that_come_at_once_are_divided() -> None:
    async def story() -> None:
        (sock,) = shared.bind("127.0.0.1:0")
        port = sock.getsockname()[1]
        both = [make(name, twin) for name, twin in (("a", sock.dup()), ("b", sock))]
        served = Counter(await asyncio.gather(*(visit(port) for _ in range(CLIENTS))))
        assert sum(served.values()) == CLIENTS
        assert min(served["a"], served["b"]) >= CLIENTS // 4
        both[0].close()
        both[0].close()
        assert set(await asyncio.gather(*(visit(port) for _ in range(10)))) == {"b"}, "the other's now"
        both[1].close()
        with pytest.raises(ConnectionRefusedError):
            await visit(port)

    asyncio.run(story())


class Poor(socket.socket):
    """Accepts nobody for a while."""

    short_of = 3
    asked: asyncio.Event

    def accept(self) -> tuple[socket.socket, object]:
        if self.short_of:
            self.asked.set()
            self.short_of -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


def poor_socket() -> Poor:
    (sock,) = shared.bind("127.0.0.1:0")
    poor = Poor(fileno=sock.detach())
    poor.asked = asyncio.Event()
    return poor


def test_without_descriptors_it_waits_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(acceptor, "_PAUSE_S", 0.01)

    async def story() -> None:
        poor = poor_socket()
        serving = make("a", poor)
        assert await visit(poor.getsockname()[1]) == "a"
        serving.close()

    asyncio.run(story())
    assert caplog.messages == ["no client can be accepted: Too many open files"] * Poor.short_of


def test_it_may_be_closed_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Poor, "short_of", 1)

    async def story() -> None:
        poor = poor_socket()
        serving = make("a", poor)
        with socket.create_connection(poor.getsockname()):
            async with asyncio.timeout(60):
                await poor.asked.wait()
            serving.close()
            await asyncio.sleep(0)

    asyncio.run(story())
