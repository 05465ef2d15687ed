"""A client's TCP or TLS stream: moves bytes between a socket and a sans-IO machine.

The machine decides, the stream moves: what arrives goes into `machine.receive`, what `machine.next_piece` gives is
written while the transport takes it. A whole exchange (an envelope, the go-ahead, the content, the reply) runs inside
the loop's callbacks; the caller awaits one future. One lazy timer watches over the connection: a step only sets a
number, and the timer, when it wakes too early, goes back to sleep until then.

OSError and ssl errors become NetworkError here and nowhere else. `Connect` is one of the four seams that tests fake.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Final, Literal, Protocol, cast

from mypy_extensions import mypyc_attr

from engine.base.errors import EngineError, NetworkError, ProtocolError
from engine.net.outbox import Outbox

_FAR: Final = float("inf")


class Machine(Protocol):
    """What the stream moves bytes for; see protocol.smtp_client.SmtpClient."""

    @property
    def mid_reply(self) -> bool: ...

    @property
    def patience_s(self) -> float: ...

    @property
    def done(self) -> bool: ...

    def receive(self, data: bytes) -> bool: ...

    def next_piece(self) -> bytes | memoryview | None: ...


@mypyc_attr(native_class=False)
class TimedOut(NetworkError):
    """The peer took too long."""


@mypyc_attr(native_class=False)
class TlsFailed(NetworkError):
    """The handshake failed: no common ground, or a certificate that does not verify."""


class Stream(Protocol):
    """An open connection."""

    @property
    def open(self) -> bool: ...

    def exchange(self, total_s: float = _FAR) -> "asyncio.Future[None]": ...

    async def start_tls(self, context: ssl.SSLContext, server_name: str, timeout_s: float) -> None: ...

    def watch(self, callback: Callable[[], None] | None, idle_s: float = _FAR) -> None: ...

    def wake(self) -> None: ...

    def abort(self, why: str = "aborted") -> None: ...


class Connect(Protocol):
    """Opens a stream. Raises NetworkError, TimedOut, TlsFailed (with `tls`)."""

    async def __call__(
        self,
        address: str,
        port: int,
        machine: Machine,
        *,
        source: str = "",
        timeout_s: float,
        tls: tuple[ssl.SSLContext, str] | None = None,
    ) -> Stream: ...


class TlsContexts:
    """The two client contexts; made once, for loading the trust store takes tens of milliseconds.

    any: encrypts, believes every certificate. verified: wants a valid chain and the host's name.
    """

    def __init__(self, cafile: str | None = None) -> None:
        self.verified = ssl.create_default_context(cafile=cafile)
        self.any = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.any.check_hostname = False
        self.any.verify_mode = ssl.CERT_NONE
        for context in (self.verified, self.any):
            context.minimum_version = ssl.TLSVersion.TLSv1_2

    def for_level(self, level: Literal["opportunistic", "encrypt", "verify"]) -> ssl.SSLContext:
        return self.verified if level == "verify" else self.any


class TcpStream:
    """The real one. Made by `connect`; belongs to one event loop."""

    def __init__(self, machine: Machine, loop: asyncio.AbstractEventLoop, outbox: Outbox) -> None:
        self._machine = machine
        self._loop = loop
        self._outbox = outbox
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._fault: EngineError | None = None
        self._paused = False
        self._deadline = self._total = _FAR
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = _FAR
        self._watcher: Callable[[], None] | None = None

    @property
    def open(self) -> bool:
        """No end and no fault seen yet."""
        return self._fault is None

    def watch(self, callback: Callable[[], None] | None, idle_s: float = _FAR) -> None:
        """Between exchanges: call this, once, when the peer ends it or speaks unasked, or after so many seconds.

        Not for what was before: look at `open` first. None: no longer.
        """
        self._watcher = callback
        self._deadline = _FAR
        if callback is not None:
            self._expect(self._loop.time() + idle_s)

    def exchange(self, total_s: float = _FAR) -> "asyncio.Future[None]":
        """Run the exchange the machine was just given; await the result.

        total_s: what all of it may take; each step has the machine's patience. Raises NetworkError (lost, TimedOut)
        or ProtocolError; in both cases the connection is gone. Cancelling ends the wait, not the exchange: abort.
        A machine that has read all it waits for, as a greeting that came before anybody asked, has its result
        whatever became of the connection since: see `open`.
        """
        assert self._waiter is None or self._waiter.done(), "an exchange at a time"
        self._waiter = waiter = self._loop.create_future()
        if self._fault is not None:
            self._conclude(waiter, self._fault)
            return waiter
        self._total = self._loop.time() + total_s
        self._outbox.add(self)
        return waiter

    def wake(self) -> None:
        """The machine, which had nothing to send, has something now."""
        self._outbox.add(self)

    def send(self) -> None:
        """The outbox's turn: write what the exchange has to say now, and wait for what comes next."""
        if self._fault is not None:
            return
        self._pump()
        if self._machine.done:
            self._finish()
        else:
            self._extend()

    def _finish(self) -> bool:
        """The exchange is over; False if there was none."""
        self._deadline = _FAR
        waiter = self._waiter
        if waiter is None or waiter.done():
            return False
        waiter.set_result(None)
        return True

    def _pump(self) -> None:
        """Write what the machine has, as long as the transport takes it."""
        transport = self._transport
        while transport is not None and not self._paused and (piece := self._machine.next_piece()) is not None:
            transport.write(piece)

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._fault is not None:
            return
        machine = self._machine
        try:
            over = machine.receive(data)
        except ProtocolError as fault:
            self._fail(fault)
            return
        if over:
            if not self._finish():
                self._tell_watcher()
            return
        if not machine.mid_reply:
            self._outbox.add(self)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._fault is None:
            self._pump()
            self._extend()

    def eof_received(self) -> None:
        self._fail(NetworkError("the peer closed the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, ssl.SSLError):
            text = f"TLS failed: {exc.reason or exc}"
        elif isinstance(exc, OSError):
            text = f"lost the connection: {exc.strerror or exc}"
        else:
            text = "the peer closed the connection"
        fault = NetworkError(text)
        fault.__cause__ = exc
        self._fail(fault)

    # ---- the end

    def _fail(self, fault: EngineError) -> None:
        """The first fault wins: it is the cause, what follows are its effects."""
        if self._fault is not None:
            return
        self._fault = fault
        self._deadline = _FAR
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            self._conclude(waiter, fault)
        self._tell_watcher()

    def _conclude(self, waiter: asyncio.Future[None], fault: EngineError) -> None:
        """The connection is gone. Servers that refuse in their greeting hang up with it: what was read counts first."""
        if self._machine.done and not isinstance(fault, ProtocolError):
            waiter.set_result(None)
        else:
            waiter.set_exception(fault)

    def _tell_watcher(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher()

    def abort(self, why: str = "aborted") -> None:
        """Drop the connection now; an exchange under way ends with NetworkError(why).

        Also the way to close one after QUIT: nothing is unsent then, and a TLS connection is not kept half a minute
        for the peer's close_notify, which protects nothing that SMTP has not ended itself.
        """
        self._fail(NetworkError(why))

    # ---- deadlines

    def _extend(self) -> None:
        """A step has begun: give it the machine's patience, within the total."""
        self._expect(min(self._loop.time() + self._machine.patience_s, self._total))

    def _expect(self, deadline: float) -> None:
        """Something must happen by then. The timer is moved only to wake earlier."""
        self._deadline = deadline
        if deadline < self._timer_at:
            self._arm(deadline)

    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._timer_at = _FAR
        deadline = self._deadline
        if deadline == _FAR:
            return
        if self._loop.time() < deadline:
            self._arm(deadline)
        elif self._machine.done:
            self._tell_watcher()
        else:
            self._fail(TimedOut("timed out"))

    # ---- TLS

    async def start_tls(self, context: ssl.SSLContext, server_name: str, timeout_s: float) -> None:
        """The client's handshake on the open connection. Raises TlsFailed or NetworkError; the connection is gone."""
        assert self._transport is not None
        if self._fault is not None:
            raise self._fault
        try:
            transport = await self._loop.start_tls(
                self._transport, cast(Any, self), context, server_hostname=server_name, ssl_handshake_timeout=timeout_s
            )
        except (OSError, ValueError) as exc:
            fault = _tls_fault(exc)
            self._fail(fault)
            raise fault from exc
        if transport is None:
            self._fail(NetworkError("the peer closed the connection in the TLS handshake"))
        if self._fault is not None:
            raise self._fault
        self._transport = transport


def _tls_fault(exc: Exception) -> NetworkError:
    """The handshake's fault in words for an operator. ssl.SSLError and its kin are OSErrors or ValueErrors."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return TlsFailed(f"certificate not trusted: {exc.verify_message}")
    if isinstance(exc, ssl.SSLError):
        return TlsFailed(f"TLS handshake failed: {exc.reason or exc}")
    if isinstance(exc, ConnectionAbortedError):
        return TlsFailed("TLS handshake timed out")
    return TlsFailed(f"TLS handshake failed: {exc or type(exc).__name__}")


async def connect(
    address: str,
    port: int,
    machine: Machine,
    *,
    outbox: Outbox | None = None,
    source: str = "",
    timeout_s: float,
    tls: tuple[ssl.SSLContext, str] | None = None,
) -> TcpStream:
    """A stream to an IP address. source: local address to bind, "" leaves it to the kernel. outbox: shared with others.

    tls: context and server name for TLS from the first byte. Raises NetworkError, TimedOut or TlsFailed.
    """
    loop = asyncio.get_running_loop()
    context, server_name = tls if tls is not None else (None, None)
    try:
        async with asyncio.timeout(timeout_s):
            stream = TcpStream(machine, loop, outbox or Outbox(loop))
            await loop.create_connection(
                lambda: cast(Any, stream),
                address,
                port,
                local_addr=(source, 0) if source else None,
                ssl=context,
                server_hostname=server_name,
                ssl_handshake_timeout=timeout_s if context else None,
            )
    except TimeoutError as exc:
        raise TimedOut(f"no connection within {timeout_s:g} s") from exc
    except ssl.SSLError as exc:
        raise _tls_fault(exc) from exc
    except OSError as exc:
        raise NetworkError(exc.strerror or str(exc)) from exc
    except ValueError as exc:
        raise NetworkError(f"cannot connect: {exc}") from exc
    return stream
