"""The client's side of one SMTP connection, sans-IO: replies in, commands and content out (RFC 5321, 2920, 3030).

The caller starts an exchange (`hello`, `starttls`, `authenticate`, `begin`, `quit`; the greeting is the first and
starts by itself), writes what `next_piece` gives until it gives None, and hands in what arrives to `receive`, which
says when the exchange is over. Whoever moves the bytes does not need to know what they mean.

Every command sent puts its step into `_pending`; a reply belongs to the first step there. `smtp_steps` says which
replies a step may get. D2: any other reply, a reply that nothing waits for, a fault of the parser, a 421 or a refusal
in the middle of the content leave the client `broken` or `closing`, and it must not be used again.

A transaction takes one of three ways, by what the server offers:
    PIPELINING and CHUNKING, small content:   MAIL RCPT.. BDAT LAST and the content in one write
    PIPELINING:                               MAIL RCPT.. DATA in one write; then the content, or BDAT chunks
    neither:                                  each command after the reply to the one before
"""

from collections import deque
from collections.abc import Sequence
from typing import Final

from engine.base.errors import ProtocolError
from engine.protocol import smtp_commands as commands
from engine.protocol.smtp_content import Content
from engine.protocol.smtp_extensions import Extensions
from engine.protocol.smtp_reply import Reply, ReplyParser
from engine.protocol.smtp_steps import VERDICTS, Patience, Step

# Looked up for every reply; a member of an enum class costs four times as much as a name of the module.
_RSET: Final = Step.RSET
_MAIL: Final = Step.MAIL
_RCPT: Final = Step.RCPT
_END: Final = Step.END


class Transaction:
    """One message for some recipients, and what was said to it.

    mail, data, end: the replies read, or None. rcpts: by position. closing: the 421 that ended it, if one did.
    data: only if DATA, or a BDAT before the last, was refused. go_ahead: the content began to be sent.
    end_sent: the end of data was handed out for sending, so that the server may have taken the message (D3).
    """

    __slots__ = ("accepted", "closing", "content", "data", "end", "end_sent", "go_ahead", "heard", "mail", "rcpts")

    def __init__(self, content: Content) -> None:
        self.content = content
        self.mail: Reply | None = None
        self.rcpts: list[Reply] = []
        self.data: Reply | None = None
        self.end: Reply | None = None
        self.closing: Reply | None = None
        self.accepted = 0
        self.end_sent = False
        self.go_ahead = False
        self.heard = False  #: some reply to it has been read


class SmtpClient:
    """One connection. `reply`: the last one read. `transaction`: the last one begun. See the top of the file."""

    __slots__ = (
        "_dirty",
        "_name",
        "_out",
        "_parser",
        "_patience",
        "_patience_s",
        "_pending",
        "_secrets",
        "_sending",
        "_unsent",
        "broken",
        "closing",
        "extensions",
        "reply",
        "transaction",
    )

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._patience_s = patience.by_step()
        self._parser = ReplyParser()
        self._pending: deque[Step] = deque((Step.GREETING,))
        self._unsent: deque[tuple[Step, bytes]] = deque()  #: commands held back: no PIPELINING
        self._out = b""
        self._sending = False  #: the content of the transaction is going out
        self._dirty = False  #: the server is inside a transaction: RSET before the next
        self.transaction: Transaction | None = None
        self._secrets: list[bytes] = []
        self._name = ""
        self.extensions = Extensions.none()
        self.reply: Reply | None = None
        self.broken = False
        self.closing = False

    # ---- for whoever moves the bytes

    @property
    def done(self) -> bool:
        """The exchange is over: nothing to send, nothing to wait for."""
        return not (self._pending or self._out or self._sending or self._unsent)

    @property
    def usable(self) -> bool:
        """A next exchange may be started."""
        # `done`, without the call: this is asked several times for every message.
        busy = self._pending or self._out or self._sending or self._unsent or self.broken or self.closing
        return not busy and self._parser.idle

    @property
    def mid_reply(self) -> bool:
        """Part of a reply has come: whoever sends it byte by byte gains no time by it."""
        return not self._parser.idle

    @property
    def patience_s(self) -> float:
        """How long the peer may take for what comes next."""
        if self._sending:
            return self._patience.content
        return self._patience_s[self._pending[0]] if self._pending else self._patience.command

    def receive(self, data: bytes) -> bool:
        """Bytes from the server, in any pieces. True: the exchange is over. Raises ProtocolError (P1, D2)."""
        self._parser.feed(data)
        try:
            while (reply := self._parser.next_reply()) is not None:
                self._take(reply)
        except ProtocolError:
            self._break()
            raise
        return self.done

    def next_piece(self) -> bytes | memoryview | None:
        """What to send now.

        None: nothing until something is received, or a content that is being read has more, or the exchange is over.
        """
        if self._out:
            out, self._out = self._out, b""
            return out
        return self._next_slice() if self._sending else None

    def _break(self) -> None:
        self.broken = True
        self._stop()

    def _stop(self) -> None:
        self._pending.clear()
        self._unsent.clear()
        self._out = b""
        self._sending = False

    # ---- exchanges

    def _start(self, step: Step, line: bytes) -> None:
        assert self.usable, "an exchange at a time"
        self._pending.append(step)
        self._out = line

    def hello(self, name: str) -> None:
        """EHLO, and HELO if the server knows no EHLO. Sets `extensions`."""
        line = commands.hello("EHLO", name)
        self._name = name
        self.extensions = Extensions.none()
        self._start(Step.EHLO, line)

    def starttls(self) -> None:
        """Ask for TLS. After a 2xx the caller does the handshake, calls `secured`, and says `hello` again."""
        self._start(Step.STARTTLS, b"STARTTLS\r\n")

    def secured(self) -> None:
        """TLS has begun: forget what was said in the clear (RFC 3207 4.2)."""
        self.extensions = Extensions.none()
        self._parser = ReplyParser()

    def authenticate(self, username: str, password: str) -> None:
        """AUTH PLAIN, or LOGIN where only that is offered; the last reply says how it went."""
        if "PLAIN" in self.extensions.auth or "LOGIN" not in self.extensions.auth:
            self._start(Step.AUTH, commands.auth_plain(username, password))
            return
        self._secrets = [commands.auth_answer(password), commands.auth_answer(username)]
        self._start(Step.AUTH, b"AUTH LOGIN\r\n")

    def quit(self) -> None:
        """QUIT; whatever is replied, the connection is over."""
        self._start(Step.QUIT, b"QUIT\r\n")
        self.closing = True

    def begin(self, mail: bytes, rcpts: Sequence[bytes], content: Content, *, careful: bool = False) -> Transaction:
        """Start a transaction. mail, rcpts: lines from smtp_commands; one rcpt or more.

        careful: do not send the content before some reply was read, however small it is, because the server may have
        closed the connection meanwhile and the loss would leave the outcome unknown (D3).
        """
        assert not (self._pending or self.broken or self.closing), "an exchange at a time"
        offered = self.extensions
        whole = offered.pipelining and offered.chunking and content.small and not careful
        self.transaction = transaction = Transaction(content)
        steps, lines = ([_RSET, _MAIL], [b"RSET\r\n", mail]) if self._dirty else ([_MAIL], [mail])
        steps += [_RCPT] * len(rcpts)
        lines += rcpts
        self._dirty = True
        if whole:
            data = content.whole(stuffed=False)
            steps.append(_END)
            lines += (b"BDAT %d LAST\r\n" % len(data), data)
            transaction.end_sent = True
        elif not offered.chunking:
            steps.append(Step.DATA)
            lines.append(b"DATA\r\n")
        if offered.pipelining:
            self._pending.extend(steps)
            self._out = b"".join(lines)
        else:
            self._unsent.extend(zip(steps, lines, strict=True))
            self._send_next()
        return transaction

    def _send_next(self) -> None:
        step, line = self._unsent.popleft()
        self._pending.append(step)
        self._out += line

    # ---- content

    def _next_slice(self) -> bytes | memoryview | None:
        transaction = self.transaction
        assert transaction is not None
        chunking = self.extensions.chunking
        piece: bytes | memoryview
        if transaction.content.small:
            piece, last = transaction.content.whole(stuffed=not chunking), True
        else:
            taken = transaction.content.take(stuffed=not chunking)
            if taken is None:
                return None
            piece, last = taken
        if chunking:
            self._pending.append(Step.END if last else Step.CHUNK)
            piece = b"".join((b"BDAT %d%s\r\n" % (len(piece), b" LAST" if last else b""), piece))
        elif last:
            piece = b"".join((piece, b".\r\n"))
        if last:
            transaction.end_sent = True
            self._sending = False
        return piece

    # ---- replies

    def _take(self, reply: Reply) -> None:
        """One reply to the step that waits for it."""
        self.reply = reply
        code = reply.code
        if not self._pending:
            self._unexpected(reply)
            return
        step = self._pending.popleft()
        verdict = VERDICTS[step][code // 100]
        if verdict == "!" and code != 421:
            raise ProtocolError(f"{reply} in reply to {step.name}")
        if _RSET <= step <= _END:
            self._in_transaction(step, reply, verdict == "+")
        else:
            self._in_session(step, reply, verdict == "+")
        if code == 421:
            self.closing = True
            self._stop()
        elif self._unsent and not self._pending:
            if not self._parser.idle:
                raise ProtocolError("a reply before the command")
            self._send_next()

    def _unexpected(self, reply: Reply) -> None:
        """A reply that nothing waits for: the server's goodbye, or a confused server."""
        if self.closing:
            return
        if reply.code != 421:
            raise ProtocolError(f"{reply} in reply to nothing")
        self.closing = True

    def _in_session(self, step: Step, reply: Reply, accepted: bool) -> None:
        match step:
            case Step.EHLO if accepted:
                self.extensions = Extensions.of(reply)
            case Step.EHLO if reply.code >= 500:
                self._pending.append(Step.HELO)
                self._out = commands.hello("HELO", self._name)
            case Step.STARTTLS if accepted and not self._parser.idle:
                # RFC 3207 5: what came with it was not said by the peer that TLS will prove.
                raise ProtocolError("bytes after the reply to STARTTLS")
            case Step.AUTH if reply.code // 100 == 3:
                self._pending.append(Step.AUTH)
                self._out = self._secrets.pop() if self._secrets else b"*\r\n"
            case _:
                pass
        if self._out and not self._parser.idle:
            raise ProtocolError("a reply before the command")

    def _in_transaction(self, step: Step, reply: Reply, accepted: bool) -> None:
        transaction = self.transaction
        assert transaction is not None
        transaction.heard = True
        if reply.code == 421 and transaction.closing is None:
            transaction.closing = reply
        if step is _RCPT:
            transaction.rcpts.append(reply)
            if accepted and transaction.mail is not None and transaction.mail.code < 300:
                transaction.accepted += 1
            if not self._pending:
                self._after_recipients(transaction)
        elif step is _MAIL:
            transaction.mail = reply
            if not accepted:
                self._unsent.clear()
        elif step is _END:
            self._after_end(transaction, reply, accepted)
        elif step is Step.DATA:
            self._after_data(transaction, reply, accepted)
        elif step is Step.CHUNK and not accepted:
            transaction.data = transaction.data or reply
            self._sending = False

    def _after_recipients(self, transaction: Transaction) -> None:
        """All recipients are answered for, and DATA or BDAT LAST is not on its way."""
        if transaction.accepted == 0 and not any(step is Step.RCPT for step, _ in self._unsent):
            self._unsent.clear()
        elif not self._unsent and self.extensions.chunking:
            self._sending = transaction.go_ahead = True

    def _after_data(self, transaction: Transaction, reply: Reply, accepted: bool) -> None:
        if not self._parser.idle:
            raise ProtocolError("a reply before the content")
        if not accepted:
            transaction.data = reply
            return
        self._pending.append(Step.END)
        if transaction.accepted:
            self._sending = transaction.go_ahead = True
        else:
            # RFC 2920 3.1: a server that refused every recipient and says 354 all the same gets an empty message.
            self._out = b".\r\n"

    def _after_end(self, transaction: Transaction, reply: Reply, accepted: bool) -> None:
        if self._sending:
            # The rest of the content would be read as commands.
            if accepted:
                raise ProtocolError(f"{reply} before the end of data")
            self.broken = True
            self._sending = False
        transaction.end = reply
        # RFC 3030 4.1 after BDAT. After DATA the buffers should be clear (RFC 5321 3.3), but Postfix keeps them when
        # smtpd_end_of_data_restrictions refuse, and then answers the next MAIL with "nested MAIL command".
        self._dirty = not accepted
