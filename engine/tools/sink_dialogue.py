"""What a test MX says: bytes in, replies out. No I/O.

Framing is strict: only CRLF.CRLF ends a message. Whatever a client sends gives replies or the end of the connection
(P1), however it is cut (P2). Content is held only until its end has come, unless a shelf wants it.
"""

import base64
import re
import time
from collections.abc import Callable

from engine.tools.sink_options import SinkOptions
from engine.tools.sink_rules import DROP
from engine.tools.sink_tally import Shelf, Tally, message_id_of

_PATH = re.compile(
    rb'(?:MAIL FROM|RCPT TO):\s*<((?:"(?:[^"\\]|\\.)*"|[^">])*)>(?: (.*))?\s*', re.IGNORECASE | re.DOTALL
)
_MAX_LINE = 16384  #: longer than any command with extensions
_MAX_HELD = 1 << 20  #: pipelined input kept while a delayed reply is due


class Dialogue:
    """The server's side of one connection. States: commands, content (DATA), chunk (BDAT), waiting (see `wait_s`).

    After every call look at: `out`, replies to send, in order; `wait_s`, above 0: call `resume` after so long, until
    then input is only held; `wants_tls`: start TLS, then call `secured`; `closing`: close once `out` is sent.
    """

    def __init__(self, options: SinkOptions, tally: Tally, shelf: Shelf | None, peer: str) -> None:
        self.out: list[bytes] = []
        self.wait_s = 0.0
        self.wants_tls = self.closing = False
        self._options = options
        self._script = options.script
        self._tally = tally
        self._shelf = shelf
        self._peer = peer
        self._tls = options.implicit
        self._held: bytes | bytearray = b""
        self._searched = 0
        self._waiting = (b"", False)
        self._ehlo = ""
        self._awaiting_auth = False
        self._chunk_left = 0
        self._chunk_last = False
        self._mode: Callable[[bytes | bytearray, int], int] = self._commands
        self._reset()
        self._verbs: dict[bytes, Callable[[bytes], None]] = {
            b"MAIL": self._mail,
            b"RCPT": self._rcpt,
            b"DATA": self._data,
            b"BDAT": self._bdat,
            b"RSET": self._rset,
            b"NOOP": lambda line: self._say(b"250 2.0.0 ok\r\n"),
            b"VRFY": lambda line: self._say(b"252 2.5.0 send some mail\r\n"),
            b"QUIT": self._quit,
            b"EHLO": self._hello,
            b"HELO": self._hello,
            b"STAR": self._starttls,
            b"AUTH": self._auth,
        }

    def _reset(self) -> None:
        self._sender: str | None = None
        self._mail_parameters = ""
        self._recipients: list[str] = []
        self._rcpt_parameters: list[str] = []
        self._chunks: bytearray | None = None
        self._oversize = False

    # -- what the connection calls -------------------------------------------------------------------------------

    def greet(self) -> None:
        """The connection is open."""
        tally = self._tally
        if tally.open > self._options.max_connections:
            tally.refused_connections += 1
            self._close_with(b"421 4.7.0 too many connections\r\n")
        elif (reply := self._script.answer("connect", (self._peer,))) is not None:
            tally.refused_connections += 1
            self._close_with(reply, "connect")
        else:
            self._say(b"220 %b ESMTP test sink\r\n" % self._options.name.encode(), "connect")

    def receive(self, data: bytes) -> None:
        """Bytes from the client."""
        work: bytes | bytearray = data
        if self._held:
            if isinstance(self._held, bytes):
                self._held = bytearray(self._held)
            self._held += data
            work = self._held
        if not self.wait_s and not self.wants_tls:
            self._work(work)
        elif not self.closing:
            self._held = work
            if len(work) > _MAX_HELD:
                self.wait_s = 0.0
                self._close_with(b"421 4.7.0 too much pipelined input\r\n")

    def resume(self) -> None:
        """The wait is over."""
        self.wait_s = 0.0
        reply, close = self._waiting
        self._say(reply, close=close)
        if self._held and not self.closing and not self.wants_tls:
            self._work(self._held)

    def secured(self) -> None:
        """TLS is up: the session starts anew (RFC 3207 4.2). The client's first words may have come before."""
        self.wants_tls = False
        self._tls = True
        self._tally.tls += 1
        self._ehlo = ""
        self._reset()
        if self._held:
            self._work(self._held)

    # -- the loop over what came ---------------------------------------------------------------------------------

    def _work(self, work: bytes | bytearray) -> None:
        """Take as much as is complete and allowed now; hold the rest."""
        position, end = 0, len(work)
        while position < end and not (self.wait_s or self.wants_tls or self.closing):
            taken = self._mode(work, position)
            if taken == position:
                break
            position = taken
        if self.closing or position == end or self.wants_tls:
            self._held = b""  # after STARTTLS too: what came with it in the clear must not survive (RFC 3207 4.2)
        elif position:
            self._held = bytearray(work[position:])
        else:
            self._held = work

    def _commands(self, work: bytes | bytearray, position: int) -> int:
        stop = work.find(b"\n", position)
        if stop < 0:
            if len(work) - position > _MAX_LINE:
                self._close_with(b"500 5.5.2 line too long\r\n")
            return position
        line = bytes(work[position : stop - 1 if work[stop - 1] == 13 else stop])
        if self._awaiting_auth:
            self._credentials(line)
            return stop + 1
        handler = self._verbs.get(line[:4].upper())
        if handler is None:
            self._wrong(b"500 5.5.2 unknown command\r\n")
        else:
            handler(line)
        return stop + 1

    def _content(self, work: bytes | bytearray, position: int) -> int:
        """Look for the end of data; without it hold what came, or its end if it grew too large."""
        if work[position : position + 3] == b".\r\n" and self._searched < 3:
            self._end_of_data(b"", stuffed=False)
            return position + 3
        stop = work.find(b"\r\n.\r\n", max(position, position + self._searched - 4))
        if stop >= 0:
            self._searched = 0
            self._end_of_data(work[position : stop + 2], stuffed=True)
            return stop + 5
        if len(work) - position > self._options.max_size:
            self._oversize = True
            self._searched = 4
            return len(work) - 4
        self._searched = len(work) - position
        return position

    def _chunk(self, work: bytes | bytearray, position: int) -> int:
        part = work[position : position + self._chunk_left]
        self._chunk_left -= len(part)
        if self._chunks is not None:
            self._chunks += part
            if len(self._chunks) > self._options.max_size:
                self._oversize = True
                self._chunks.clear()
        if not self._chunk_left:
            self._chunk_done()
        return position + len(part)

    # -- commands ------------------------------------------------------------------------------------------------

    def _hello(self, line: bytes) -> None:
        self._reset()
        self._ehlo = line[5:].strip().decode("utf-8", "replace")
        if not self._ehlo:
            return self._wrong(b"501 5.5.4 your name is missing\r\n")
        reply = self._script.answer("ehlo", (self._ehlo,))
        if reply is not None:
            return self._refuse("ehlo", reply)
        lines = [self._options.name]
        if line[:4].upper() == b"EHLO":
            lines += self._extensions()
        text = "".join(f"250-{entry}\r\n" for entry in lines[:-1]) + f"250 {lines[-1]}\r\n"
        self._say(text.encode(), "ehlo")

    def _extensions(self) -> list[str]:
        options = self._options
        offered = (
            (options.pipelining, "PIPELINING"),
            (True, f"SIZE {options.max_size}"),
            (options.eightbit, "8BITMIME"),
            (options.smtputf8, "SMTPUTF8"),
            (options.dsn, "DSN"),
            (options.chunking, "CHUNKING"),
            (options.tls is not None and not self._tls, "STARTTLS"),
            (bool(options.login), "AUTH PLAIN"),
            (True, "ENHANCEDSTATUSCODES"),
        )
        return [name for on, name in offered if on]

    def _mail(self, line: bytes) -> None:
        if self._sender is not None:
            return self._wrong(b"503 5.5.1 sender already given\r\n")
        match = _PATH.fullmatch(line)
        if match is None or not self._ehlo:
            return self._wrong(b"503 5.5.1 EHLO first\r\n" if match else b"501 5.5.4 MAIL FROM:<address>\r\n")
        pace = self._options.pace
        if pace is not None and not pace.take(time.monotonic()):
            return self._refuse("rate", self._options.pace_reply)
        sender = match[1].decode("utf-8", "surrogateescape")
        reply = self._script.answer("mail", (sender,))
        if reply is not None:
            return self._refuse("mail", reply)
        self._sender = sender
        self._mail_parameters = (match[2] or b"").decode("utf-8", "surrogateescape")
        self._say(b"250 2.1.0 ok\r\n", "mail")

    def _rcpt(self, line: bytes) -> None:
        match = _PATH.fullmatch(line)
        if match is None or self._sender is None:
            return self._wrong(b"503 5.5.1 MAIL first\r\n" if match else b"501 5.5.4 RCPT TO:<address>\r\n")
        recipient = match[1].decode("utf-8", "surrogateescape")
        reply = self._script.answer("rcpt", (recipient,))
        if reply is not None and not reply.startswith(b"2"):
            return self._refuse("rcpt", reply)
        self._recipients.append(recipient)
        self._rcpt_parameters.append((match[2] or b"").decode("utf-8", "surrogateescape"))
        self._say(reply or b"250 2.1.5 ok\r\n", "rcpt")

    def _data(self, line: bytes) -> None:
        if not self._recipients or self._chunks is not None:
            return self._wrong(b"503 5.5.1 no valid recipients\r\n")
        reply = self._script.answer("data", self._recipients)
        if reply is not None:
            return self._refuse("data", reply)
        self._mode = self._content
        self._searched = 0
        self._say(b"354 go on, end with <CRLF>.<CRLF>\r\n", "data")

    def _end_of_data(self, content: bytes | bytearray, stuffed: bool) -> None:
        self._mode = self._commands
        self._settle(content, stuffed)

    def _bdat(self, line: bytes) -> None:
        words = line.split()
        if not self._options.chunking:
            return self._wrong(b"502 5.5.1 no BDAT here\r\n")
        if len(words) not in (2, 3) or not words[1].isdigit() or len(words[1]) > 12:
            return self._close_with(b"501 5.5.4 BDAT length [LAST]\r\n")
        self._chunk_left = int(words[1])
        self._chunk_last = len(words) == 3 and words[2].upper() == b"LAST"
        # Without recipients the chunk is still taken away, and refused afterwards (RFC 3030 2).
        if self._recipients and self._chunks is None:
            self._chunks = bytearray()
        if self._chunk_left:
            self._mode = self._chunk
        else:
            self._chunk_done()

    def _chunk_done(self) -> None:
        self._mode = self._commands
        if self._chunks is None:
            self._wrong(b"503 5.5.1 no valid recipients\r\n")
        elif self._chunk_last:
            self._settle(self._chunks, stuffed=False)
        else:
            self._say(b"250 2.0.0 chunk taken\r\n", "data")

    def _settle(self, content: bytes | bytearray, stuffed: bool) -> None:
        """End of data: count, keep, answer."""
        recipients = self._recipients
        reply = self._script.answer("end-of-data", recipients)
        if reply is not None and not reply.startswith(b"2"):
            self._refuse("end-of-data", reply)
        elif self._oversize or len(content) > self._options.max_size:
            self._refuse("end-of-data", b"552 5.3.4 message too large\r\n")
        else:
            message_id = message_id_of(content)
            self._tally.received(message_id, recipients, len(content))
            if self._shelf is not None:
                whole = b"\r\n" + content if stuffed else bytes(content)
                self._put(bytes(whole.replace(b"\r\n.", b"\r\n")[2:] if stuffed else whole))
            lost = self._script.answer("taken", recipients)
            if lost is not None:
                self._refuse("taken", lost)
            else:
                self._say(reply or b"250 2.0.0 ok, taken as %d\r\n" % self._tally.messages, "end-of-data")
        self._reset()

    def _put(self, content: bytes) -> None:
        assert self._shelf is not None
        envelope: dict[str, object] = {
            "received_at": time.time(),
            "client": self._peer,
            "ehlo": self._ehlo,
            "tls": self._tls,
            "sender": self._sender,
            "sender_parameters": self._mail_parameters,
            "recipients": self._recipients,
            "recipient_parameters": self._rcpt_parameters,
        }
        self._shelf.put(envelope, content)

    def _rset(self, line: bytes) -> None:
        self._reset()
        self._say(b"250 2.0.0 ok\r\n")

    def _quit(self, line: bytes) -> None:
        self._close_with(b"221 2.0.0 bye\r\n")

    # -- TLS and AUTH --------------------------------------------------------------------------------------------

    def _starttls(self, line: bytes) -> None:
        if self._options.tls is None or self._tls or line.upper() != b"STARTTLS":
            return self._wrong(b"503 5.5.1 no TLS now\r\n")
        reply = self._script.answer("starttls", (self._ehlo,))
        if reply is not None:
            return self._refuse("starttls", reply)
        self.wants_tls = True
        self._say(b"220 2.0.0 go on\r\n", "starttls")

    def _auth(self, line: bytes) -> None:
        words = line.split()
        if not self._options.login or len(words) < 2 or words[1].upper() != b"PLAIN":
            return self._wrong(b"504 5.5.4 only AUTH PLAIN, if any\r\n")
        if len(words) == 3:
            return self._credentials(words[2])
        self._awaiting_auth = True
        self._say(b"334 \r\n")

    def _credentials(self, encoded: bytes) -> None:
        self._awaiting_auth = False
        try:
            given = base64.b64decode(encoded, validate=True).split(b"\0")[1:]
        except ValueError:
            given = []
        if b":".join(given) == self._options.login.encode():
            self._say(b"235 2.7.0 welcome\r\n")
        else:
            self._refuse("auth", b"535 5.7.8 wrong credentials\r\n")

    # -- replies -------------------------------------------------------------------------------------------------

    def _wrong(self, reply: bytes) -> None:
        self._tally.protocol_errors += 1
        self._say(reply)

    def _refuse(self, stage: str, reply: bytes) -> None:
        """A rule's reply: counted; 421 and DROP end the connection."""
        if reply == DROP or reply.startswith(b"421"):
            self._close_with(reply, stage)
        else:
            self._tally.refused[stage] += 1
            self._say(reply, stage)

    def _close_with(self, reply: bytes, stage: str = "") -> None:
        if reply == DROP:
            self._tally.dropped += 1
        elif stage:
            self._tally.refused[stage] += 1
        self._say(reply, stage, close=True)

    def _say(self, reply: bytes, stage: str = "", close: bool = False) -> None:
        delay = self._script.delays.get(stage) if stage else None
        if delay:
            self.wait_s = delay
            self._waiting = (reply, close)
            return
        self.out.append(reply)
        self.closing = self.closing or close
