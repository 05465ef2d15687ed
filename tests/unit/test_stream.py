"""The stream on a loop and a transport that are not there: deadlines, back-pressure, the end."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from engine.base.errors import NetworkError, ProtocolError
from engine.net.outbox import Outbox
from engine.net.stream import TcpStream, TimedOut


class Timer:
    def __init__(self, when: float, call: Callable[[], None]) -> None:
        self.when, self.call, self.cancelled = when, call, False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """Only what the stream asks of a loop; its time is moved by hand."""

    def __init__(self) -> None:
        self.now, self.timers = 0.0, list[Timer]()
        self._real = asyncio.new_event_loop()

    def time(self) -> float:
        return self.now

    def create_future(self) -> "asyncio.Future[None]":
        return asyncio.Future(loop=self._real)

    def call_at(self, when: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(when, call))
        return self.timers[-1]

    def call_soon(self, call: Callable[[], None]) -> None:
        call()

    def advance(self, to: float) -> None:
        """Fire what is due on the way."""
        self.now = to
        for timer in list(self.timers):
            if not timer.cancelled and timer.when <= to:
                timer.cancelled = True
                timer.call()


class Transport:
    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        self.aborted = True


class Machine:
    """Sends its pieces; is done when "." arrives; "!" is a fault."""

    patience_s = 10.0
    mid_reply = False

    def __init__(self, *pieces: bytes) -> None:
        self.pieces, self.done = list(pieces), False

    def next_piece(self) -> bytes | None:
        return self.pieces.pop(0) if self.pieces else None

    def receive(self, data: bytes) -> bool:
        if data == b"!":
            raise ProtocolError("confused")
        self.done = data == b"."
        return self.done


@pytest.fixture
def loop() -> Any:
    made = Loop()
    yield made
    made._real.close()


def opened(loop: Loop, *pieces: bytes) -> tuple[TcpStream, Transport, Machine]:
    machine, transport = Machine(*pieces), Transport()
    stream = TcpStream(machine, loop, Outbox(loop))  # type: ignore[arg-type]
    stream.connection_made(transport)  # type: ignore[arg-type]
    return stream, transport, machine


def test_an_exchange_writes_waits_and_ends(loop: Loop) -> None:
    stream, transport, _ = opened(loop, b"a", b"b")
    waiter = stream.exchange()
    assert transport.written == [b"a", b"b"]
    assert not waiter.done()
    stream.data_received(b"x")
    assert not waiter.done()
    stream.data_received(b".")
    assert waiter.result() is None
    assert stream.open


def test_a_hundred_exchanges_arm_one_timer(loop: Loop) -> None:
    stream, _, machine = opened(loop)
    for _ in range(100):
        machine.pieces, machine.done = [b"a"], False
        stream.exchange()
        loop.now += 0.01
        stream.data_received(b"x")
        stream.data_received(b".")
    assert len(loop.timers) == 1


def test_a_timer_that_wakes_early_sleeps_on_and_then_ends_the_connection(loop: Loop) -> None:
    stream, transport, _ = opened(loop, b"a")
    waiter = stream.exchange()
    loop.advance(8)
    stream.data_received(b"x")  # progress: ten more seconds
    loop.advance(17)
    assert not waiter.done()
    loop.advance(18)
    assert isinstance(waiter.exception(), TimedOut)
    assert transport.aborted
    assert not stream.open


def test_an_idle_connection_is_not_timed_out(loop: Loop) -> None:
    stream, _, _ = opened(loop, b"a")
    stream.exchange()
    stream.data_received(b".")
    loop.advance(1000)
    assert stream.open


def idle(loop: Loop) -> TcpStream:
    """A stream after its first exchange."""
    stream, _, _ = opened(loop, b"a")
    stream.exchange()
    stream.data_received(b".")
    return stream


def test_whoever_watches_an_idle_connection_is_told_when_its_time_is_over(loop: Loop) -> None:
    stream, told = idle(loop), list[float]()
    stream.watch(lambda: told.append(loop.now), 3.0)
    loop.advance(2.9)
    assert told == []
    loop.advance(3.0)
    loop.advance(100.0)
    assert told == [3.0]
    assert stream.open


def test_whoever_watches_no_longer_is_not_told(loop: Loop) -> None:
    stream, told = idle(loop), list[float]()
    stream.watch(lambda: told.append(loop.now), 3.0)
    stream.watch(None)
    loop.advance(100.0)
    stream.connection_lost(None)
    assert told == []


def test_watching_again_and_again_moves_no_timer(loop: Loop) -> None:
    """One wait after each message must not cost a timer each."""
    stream, told = idle(loop), list[float]()
    made = len(loop.timers)
    for second in range(1, 6):
        stream.watch(lambda: told.append(loop.now), 3.0)
        assert len(loop.timers) <= made + 2
        loop.advance(second / 2)
        stream.watch(None)
    stream.watch(lambda: told.append(loop.now), 3.0)
    loop.advance(5.4)
    assert told == []
    loop.advance(5.5)
    assert told == [5.5]


def test_a_peer_that_speaks_unasked_is_told_of_at_once(loop: Loop) -> None:
    """A 421 to an idle connection: nobody waits for the server to close it, too."""
    stream, told = idle(loop), list[float]()
    stream.watch(lambda: told.append(loop.now), 3.0)
    stream.data_received(b".")
    assert told == [0.0]


def test_part_of_a_reply_gains_no_time(loop: Loop) -> None:
    stream, _, machine = opened(loop, b"a")
    waiter = stream.exchange()
    machine.mid_reply = True
    loop.advance(8)
    stream.data_received(b"x")
    loop.advance(11)
    assert isinstance(waiter.exception(), TimedOut)


def test_progress_gains_no_more_than_the_total(loop: Loop) -> None:
    stream, _, _ = opened(loop, b"a")
    waiter = stream.exchange(15.0)
    loop.advance(9)
    stream.data_received(b"x")
    loop.advance(15)
    assert isinstance(waiter.exception(), TimedOut)


def test_writing_stops_while_the_transport_is_full(loop: Loop) -> None:
    stream, transport, machine = opened(loop, b"a", b"b", b"c")
    write = transport.write
    transport.write = lambda data: (write(data), stream.pause_writing())[0]  # type: ignore[method-assign]
    stream.exchange()
    assert transport.written == [b"a"]
    stream.resume_writing()
    assert transport.written == [b"a", b"b"]
    stream.data_received(b".")
    stream.resume_writing()
    assert machine.pieces in ([b"c"], [])


def test_a_fault_of_the_machine_ends_the_connection_and_stays(loop: Loop) -> None:
    stream, transport, _ = opened(loop, b"a")
    waiter = stream.exchange()
    stream.data_received(b"!")
    assert isinstance(waiter.exception(), ProtocolError)
    assert transport.aborted
    stream.connection_lost(None)
    assert isinstance(stream.exchange().exception(), ProtocolError)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (lambda stream: stream.connection_lost(None), "the peer closed"),
        (lambda stream: stream.connection_lost(ConnectionResetError(104, "Connection reset by peer")), "reset by peer"),
        (lambda stream: stream.eof_received(), "the peer closed"),
        (lambda stream: stream.abort("shutting down"), "shutting down"),
    ],
)
def test_the_end_is_a_network_error_and_told_once(loop: Loop, end: Callable[[TcpStream], None], words: str) -> None:
    stream, _, _ = opened(loop, b"a")
    told: list[bool] = []
    stream.watch(lambda: told.append(True))
    waiter = stream.exchange()
    end(stream)
    fault = waiter.exception()
    assert isinstance(fault, NetworkError)
    assert words in str(fault)
    stream.connection_lost(None)
    assert told == [True]
    assert all(timer.cancelled for timer in loop.timers)
