"""The SMTP commands of intake (RFC 5321, 1870, 2920, 3030, 3461, 6531).

A client may submit because its network is listed or because it authenticated, and for no other reason. On a listener of
kind inbound anybody may bring mail, for the domains of [[inbound]].

Framing: DATA ends at CRLF.CRLF only, and content with a bare CR or LF is refused after that end (550 5.6.11), so no
reading of the same bytes finds another message in it. With BDAT the length says where the content ends, so a bare CR
or LF there is only untidy: admission turns it into CRLF.

A message over `[spool] large_bytes` goes to a file of its own while it arrives (large.py); every rule is the same.
"""

import logging
import re
from typing import Any, ClassVar

from engine.base.errors import StorageError
from engine.intake.admission import NOT_STORED, Origin, Refused, Submission
from engine.intake.client import protocol_name
from engine.intake.large import Incoming
from engine.intake.parameters import ParameterError, mail_parameters, rcpt_parameters
from engine.intake.reader import PIECE_BYTES, Express
from engine.intake.secure import SecureConnection
from engine.message.address import AddressError, parse_path
from engine.message.envelope import Recipient
from engine.message.headers import is_framed
from engine.protocol import smtp_content

_log = logging.getLogger(__name__)
#: Ten digits are a chunk of 9 GB, more than data_timeout lets anybody send; longer numbers are not meant.
_CHUNK = re.compile(r"([0-9]{1,10})(?: +(LAST))?", re.IGNORECASE)
# For every line: names of the module are quicker than members of a class.
_NO, _SERVED, _MESSAGE = Express.NO, Express.SERVED, Express.MESSAGE
#: Characters of a recipient that is none. RFC 5321 4.5.3.1.3 has 256 for a path.
_MAX_SHOWN = 500
_OK = b"250 2.0.0 Ok"
_SENDER_OK = b"250 2.1.0 Ok"
_RECIPIENT_OK = b"250 2.1.5 Ok"
_GO_AHEAD = b"354 End data with <CR><LF>.<CR><LF>"
_NO_HELO = b"503 5.5.1 Send EHLO first"
_BARE = b"550 5.6.11 The message contains a bare CR or LF"
_RELAY_DENIED = b"554 5.7.1 Relay access denied"
_ONE_AT_A_TIME = b"452 4.5.3 One recipient at a time"  # what comes back is about one of them
_NOT_HERE = b"550 5.7.1 This host takes no mail for that domain"


class SmtpServer(SecureConnection):
    """A session that takes messages. Its aiosmtpd envelope is a Submission."""

    _bdat: bytearray | None = None  # chunks so far; None: no BDAT in this transaction
    _bdat_bytes = 0  # of those chunks
    _bdat_fault: tuple[str, bytes] | None = None  # the reply to what is left of a message that failed, as to `reject`
    _incoming: Incoming | None = None  # the message, if it is a large one
    _bdat_deadline = 0.0
    _origin: Origin
    _origin_key: tuple[object, ...] | None = None

    def _create_envelope(self) -> Any:
        self._bdat = self._bdat_fault = None
        self._bdat_bytes = 0
        self._drop_incoming()
        return Submission()

    def _drop_incoming(self) -> None:
        """A large message goes no further; nothing happens to one that was stored."""
        if self._incoming is not None:
            self._incoming.abort()
            self._incoming = None

    def connection_lost(self, error: Exception | None) -> None:
        if not self.committing:
            self._drop_incoming()
        super().connection_lost(error)

    @property
    def _authenticated(self) -> bool:
        return bool(self.session.authenticated)

    def express(self, line: bytes, last: bool) -> Express:
        """MAIL, RCPT and DATA need no waiting; their lines do not go through aiosmtpd's loop (12 us each)."""
        # Whatever is unusual about a line is for the loop: it has all the rules.
        serve = self._express.get(line[:5])
        if serve is None or not line.isascii() or line.find(b"\r") != len(line) - 2:
            return _NO
        return serve(self, line, last)

    def _express_mail(self, line: bytes, last: bool) -> Express:
        self._progress = True
        self._mail(line[5:].strip().decode("ascii"))
        return _SERVED

    def _express_rcpt(self, line: bytes, last: bool) -> Express:
        self._progress = True
        self._rcpt(line[5:].strip().decode("ascii"))
        return _SERVED

    def _express_data(self, line: bytes, last: bool) -> Express:
        if not last or line != b"DATA\r\n" or not self._may_send_data():
            return _NO
        self._go_ahead()
        return _MESSAGE

    _express: ClassVar = {b"MAIL ": _express_mail, b"RCPT ": _express_rcpt, b"DATA\r": _express_data}

    async def smtp_MAIL(self, arg: str | None) -> None:
        self._mail(arg or "")

    async def smtp_RCPT(self, arg: str | None) -> None:
        self._rcpt(arg or "")

    def _mail(self, arg: str) -> None:
        submission: Submission = self.envelope
        if submission.sender is not None:
            return self.reject("sequence", b"503 5.5.1 Nested MAIL command")
        if not self.session.host_name:
            return self.reject("sequence", _NO_HELO)
        if self.policy.auth and not (self.trusted or self._authenticated):
            return self.reject("relay", b"530 5.7.0 Authentication required")
        refusal = self.gate.admission.refusal()
        if refusal is not None:
            return self.reject("storage", refusal.encode())
        if arg[:5].upper() != "FROM:":
            return self.reject("syntax", b"501 5.5.4 Syntax: MAIL FROM:<address>")
        try:
            # Whether 8-bit addresses may be is known only after the parameters.
            sender, _, rest = parse_path(arg[5:].lstrip(" "), smtputf8=True)
            if rest:
                mail_parameters(rest, submission, self.policy.intake.max_message_bytes)
            if not submission.smtputf8 and not arg.isascii():
                raise AddressError("5.6.7 A non-ASCII address needs SMTPUTF8")
        except AddressError as error:
            self.forget()
            return self.reject("address", f"553 {error.reply}".encode())
        except ParameterError as error:
            self.forget()
            return self.reject("parameter", error.reply.encode())
        submission.sender = self.policy.postmaster if sender == "postmaster" else sender
        self.say(_SENDER_OK)

    def _rcpt(self, arg: str) -> None:
        submission: Submission = self.envelope
        if submission.sender is None or self._bdat is not None:
            return self.reject("sequence", b"503 5.5.1 RCPT goes between MAIL and the message")
        if arg[:3].upper() != "TO:":
            return self.reject("syntax", b"501 5.5.4 Syntax: RCPT TO:<address>")
        domains = self.policy.domains
        if domains is None and not (self.trusted or self._authenticated):
            return self.reject("relay", _RELAY_DENIED)
        if len(submission.recipients) >= self.policy.intake.max_recipients:
            return self.reject("recipients", b"452 4.5.3 Too many recipients")
        notify, orcpt = 0, ""
        try:
            if not submission.smtputf8 and not arg.isascii():
                raise AddressError("5.6.7 A non-ASCII address needs SMTPUTF8")
            address, destination, rest = parse_path(arg[3:].lstrip(" "), submission.smtputf8)
            if not destination:
                if not address:
                    raise AddressError("5.1.3 The null address takes no mail")
                address = self.policy.postmaster
                destination = self.policy.postmaster_destination
            if rest:
                notify, orcpt = rcpt_parameters(rest, submission.smtputf8)
        except AddressError as error:
            return self._refuse_recipient("address", f"553 {error.reply}", arg)
        except ParameterError as error:
            return self._refuse_recipient("parameter", error.reply, arg)
        if domains is not None and destination not in domains:
            return self.reject("relay", _NOT_HERE)
        if domains is not None and submission.recipients:
            return self.reject("recipients", _ONE_AT_A_TIME)
        submission.recipients.append(Recipient(address, notify, orcpt))
        submission.destinations.append(destination)
        self.say(_RECIPIENT_OK)

    def _refuse_recipient(self, reason: str, reply: str, arg: str) -> None:
        """Of a client that may submit it is written down; of strangers there would be no end."""
        if self.policy.domains is None:
            origin = self._origin_of(self.envelope)
            self.gate.admission.refused(self.envelope, reason, reply, origin, arg[3:].strip(" <>")[:_MAX_SHOWN])
        self.reject(reason, reply.encode())

    def _may_send_data(self) -> bool:
        return bool(self.envelope.recipients) and self._bdat is None

    def _go_ahead(self) -> None:
        self.say(_GO_AHEAD)
        self._progress = False
        self._reset_timeout(self.policy.intake.data_timeout)

    async def smtp_DATA(self, arg: str | None) -> None:
        if not self._may_send_data():
            if self.envelope.sender is None or self._bdat is not None:
                return self.reject("sequence", b"503 5.5.1 DATA goes after RCPT, and not with BDAT")
            return self.reject("sequence", b"554 5.5.1 No valid recipients")
        if arg:
            return self.reject("syntax", b"501 5.5.4 DATA takes no argument")
        if self._reader.pending:
            # RFC 2920 3.1: DATA ends a group. What comes before the 354 may well be somebody else's.
            self.metrics.rejected.labels("framing").inc()
            return self.end(b"503 5.5.0 Input before the reply to DATA, closing")
        self._go_ahead()
        await self.take_message()

    async def take_message(self) -> None:
        submission: Submission = self.envelope
        content = await self._reader.read_message()
        if content is None and self._reader.in_message:
            return await self._take_large(submission)
        self._progress = True
        if content is None:
            self._refuse(submission, "size", self.policy.too_large)
        elif not is_framed(content):
            self._refuse(submission, "framing", _BARE)
        else:
            await self._submit(submission, content, framed=True)

    async def _take_large(self, submission: Submission) -> None:
        """The message of a DATA that is more than memory should hold, piece by piece; its reply comes after its end."""
        reader = self._reader
        self._incoming = incoming = self._large(framed=True)
        fault: tuple[str, bytes] | None = None
        try:
            while fault is None and (piece := await reader.next_piece()) is not None:
                if incoming.size + len(piece) > self.policy.intake.max_message_bytes:
                    fault = ("size", self.policy.too_large)
                elif not smtp_content.is_framed(piece):
                    fault = ("framing", _BARE)
                else:
                    await incoming.feed(piece)
        except StorageError as exc:
            fault = self._not_stored(exc)
        except Exception:
            await reader.discard_message()  # or the rest would be read as commands
            raise
        if fault is not None:
            self._drop_incoming()
            await reader.discard_message()
        self._progress = True
        if fault is None:
            await self._submit(submission, incoming)
        else:
            self._refuse(submission, *fault)

    def _refuse(self, submission: Submission, reason: str, reply: bytes) -> None:
        """A message that is not taken."""
        self.gate.admission.refused(submission, reason, reply.decode(), self._origin_of(submission))
        self.forget()
        self.reject(reason, reply)

    def _large(self, *, framed: bool) -> Incoming:
        return Incoming(self.gate.admission.large(), self.policy.intake.max_header_bytes, framed=framed)

    def _not_stored(self, error: StorageError) -> tuple[str, bytes]:
        """The reply for a message that the disk did not take."""
        _log.error("intake: a large message of %s: %s", self.client, error)
        return "storage", NOT_STORED.encode()

    async def smtp_BDAT(self, arg: str | None) -> None:
        match = _CHUNK.fullmatch(arg or "")
        if match is None:
            # Where the chunk ends is anybody's guess, so nothing that follows can be read.
            self.metrics.rejected.labels("syntax").inc()
            return self.end(b"501 5.5.4 Syntax: BDAT size [LAST], closing")
        size, last = int(match[1]), match[2] is not None
        submission: Submission = self.envelope
        self._limit_bdat_time()
        if self._bdat is None and submission.sender is not None:
            self._bdat = bytearray()
        if self._bdat_fault is None:
            if not submission.recipients:
                self._bdat_fault = ("sequence", b"503 5.5.1 BDAT goes after RCPT")
            elif self._bdat is not None and self._bdat_bytes + size > self.policy.intake.max_message_bytes:
                self._bdat_fault = ("size", self.policy.too_large)
        if self._bdat is None or self._bdat_fault is not None:
            return await self._skip_chunk(size, last)
        self._bdat_bytes += size
        if self._bdat_bytes <= self.policy.large_bytes:
            self._bdat += await self._reader.readexactly(size)
        else:
            left = await self._take_large_chunk(size)
            if self._bdat_fault is not None:
                return await self._skip_chunk(left, last)
        if last:
            self._reset_timeout()
            await self._submit(submission, self._incoming or bytes(self._bdat))
        else:
            self.say(b"250 2.0.0 %d bytes" % size)

    async def _take_large_chunk(self, left: int) -> int:
        """A chunk of so many bytes of a message that is more than memory should hold.

        Bytes of it that are still to be consumed; more than none only with a fault: the disk did not take it.
        """
        assert self._bdat is not None
        incoming = self._incoming
        try:
            if incoming is None:
                self._incoming = incoming = self._large(framed=False)
                before, self._bdat = bytes(self._bdat), bytearray()
                await incoming.feed(before)
            while left:
                piece = await self._reader.readexactly(min(left, PIECE_BYTES))
                left -= len(piece)
                await incoming.feed(piece)
            return 0
        except StorageError as exc:
            self._bdat_fault = self._not_stored(exc)
            return left
        except Exception:
            await self._reader.skip(left)  # or the rest would be read as commands
            raise

    def _limit_bdat_time(self) -> None:
        """data_timeout is for the whole message, however many chunks it comes in."""
        now = self.loop.time()
        if self._bdat is None:
            self._bdat_deadline = now + self.policy.intake.data_timeout
        self._reset_timeout(max(self._bdat_deadline - now, 0.001))

    async def _skip_chunk(self, size: int, last: bool) -> None:
        """Consume a chunk of a message that is refused already, and say why."""
        fault = self._bdat_fault
        assert fault is not None
        if self._bdat:
            self._bdat = bytearray()
        self._drop_incoming()
        await self._reader.skip(size)
        self._reset_timeout()
        if last and self._bdat is not None:
            return self._refuse(self.envelope, *fault)
        if last or self._bdat is None:
            self.forget()
        self.reject(*fault)

    async def _submit(self, submission: Submission, content: bytes | Incoming, framed: bool = False) -> None:
        self.committing = True
        try:
            message_id = await self.gate.admission.submit(submission, content, self._origin_of(submission), framed)
        except Refused as refused:
            self.gate.admission.refused(submission, refused.reason, refused.reply, self._origin_of(submission))
            return self.reject(refused.reason, refused.reply.encode())
        finally:
            self.committing = False
            self.forget()
        self.message_accepted()
        self.say(b"250 2.0.0 Ok: queued as %b" % message_id.encode())

    def _origin_of(self, submission: Submission) -> Origin:
        """Where the message comes from; made again when something about the session changed."""
        session = self.session
        key = (session, self.client.name, session.host_name, session.authenticated, submission.smtputf8)
        if key != self._origin_key:
            protocol = protocol_name(session.extended_smtp, submission.smtputf8, self.in_tls, self._authenticated)
            login = session.auth_data.login.decode() if session.auth_data else self.client.login
            self._origin_key = key
            self._origin = Origin(
                client=str(self.client),
                trace=self.client.trace(session.host_name, self.hostname, protocol),
                user=login if self._authenticated else "",
                default_class=self.policy.default_class,
            )
        return self._origin

    # The small commands.

    async def smtp_RSET(self, arg: str | None) -> None:
        self.forget()
        self.idle_command()
        self.say(_OK)

    async def smtp_NOOP(self, arg: str | None) -> None:
        self.idle_command()
        self.say(_OK)

    async def smtp_VRFY(self, arg: str | None) -> None:
        self.idle_command()
        self.say(b"252 2.0.0 Send some mail, I'll try my best")

    async def smtp_HELP(self, arg: str | None) -> None:
        self.idle_command()
        self.say(b"214 2.0.0 See RFC 5321")

    async def smtp_QUIT(self, arg: str | None) -> None:
        self.end(b"221 2.0.0 Bye", linger=False)
