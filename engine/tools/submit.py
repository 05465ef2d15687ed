"""Submit one message file over SMTP, by the standard library's client.

Asks for what the message needs (8BITMIME, SMTPUTF8) and refuses to send where the server does not offer it, as
nothing may be changed on the way. Line ends become CRLF; smtplib adds the dots.
"""

import argparse
import json
import re
import smtplib
import ssl
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.base.errors import NetworkError, UsageError
from engine.base.hostport import parse_host_port

_TIMEOUT_S = 60.0
_QUEUED_AS = re.compile(r"queued as <?([\w.-]+)", re.IGNORECASE)
_LINE_END = re.compile(rb"\r\n|\r|\n")
_NOTIFY = re.compile(r"NEVER|(SUCCESS|FAILURE|DELAY)(,(SUCCESS|FAILURE|DELAY))*")


@dataclass(slots=True)
class Submission:
    """What came of it. reply: to the message, or what refused all of it. refused: recipient -> reply."""

    accepted: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    reply: str = ""

    @property
    def id(self) -> str:
        match = _QUEUED_AS.search(self.reply)
        return match[1] if match else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """Where and how to submit. tls: "none", "starttls" or "implicit"."""

    host: str
    port: int
    tls: str = "none"
    login: str = ""
    password: str = ""


def submit(
    server: Server, sender: str, recipients: Sequence[str], content: bytes, notify: str = "", envid: str = ""
) -> Submission:
    """One transaction. content: any line ends. Raises NetworkError: no connection, or a need that is not offered."""
    content = _LINE_END.sub(b"\r\n", content)
    result = Submission()
    try:
        with _connect(server) as client:
            try:
                _transact(client, sender, recipients, content, notify, envid, result)
            except smtplib.SMTPResponseException as error:
                result.reply = _reply(error.smtp_code, error.smtp_error)
            except smtplib.SMTPNotSupportedError as error:
                raise NetworkError(f"{server.host}:{server.port} cannot take this message: {error}") from error
    except OSError as error:  # smtplib's own are
        raise NetworkError(f"{server.host}:{server.port}: {error.strerror or error}") from error
    return result


def _connect(server: Server) -> smtplib.SMTP:
    client: smtplib.SMTP
    context = ssl.create_default_context()
    if server.host in ("127.0.0.1", "::1", "localhost"):
        # Nobody has a certificate for a loopback address, and nobody listens in on it.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    # A wildcard address is not a place to connect to; its listener is reached over loopback.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)  # noqa: S104
    if server.tls == "implicit":
        client = smtplib.SMTP_SSL(host, server.port, timeout=_TIMEOUT_S, context=context)
    else:
        client = smtplib.SMTP(host, server.port, timeout=_TIMEOUT_S)
    try:
        client.ehlo()
        if server.tls == "starttls":
            client.starttls(context=context)
            client.ehlo()
        if server.login:
            client.login(server.login, server.password)
    except BaseException:
        client.close()
        raise
    return client


def _transact(
    client: smtplib.SMTP,
    sender: str,
    recipients: Sequence[str],
    content: bytes,
    notify: str,
    envid: str,
    result: Submission,
) -> None:
    head = content.partition(b"\r\n\r\n")[0]
    unicode = not all(address.isascii() for address in (sender, *recipients)) or not head.isascii()
    options = [f"SIZE={len(content)}"] if client.has_extn("size") else []
    if not content.isascii():
        if not client.has_extn("8bitmime"):
            raise smtplib.SMTPNotSupportedError("it has 8-bit text, and 8BITMIME is not offered")
        options.append("BODY=8BITMIME")
    if unicode:
        if not client.has_extn("smtputf8"):
            raise smtplib.SMTPNotSupportedError(
                "it has non-ASCII addresses or header text, and SMTPUTF8 is not offered"
            )
        options.append("SMTPUTF8")
    if (notify or envid) and not client.has_extn("dsn"):
        raise smtplib.SMTPNotSupportedError("reports are asked for, and DSN is not offered")
    if envid:
        options.append(f"ENVID={_xtext(envid)}")
    # Not client.mail and client.rcpt: they parse the address once more, and change what they do not understand.
    client.command_encoding = "utf-8"
    code, text = client.docmd("MAIL", " ".join([f"FROM:<{sender}>", *options]))
    if code != 250:
        raise smtplib.SMTPResponseException(code, text)
    for recipient in recipients:
        code, text = client.docmd("RCPT", f"TO:<{recipient}>" + (f" NOTIFY={notify}" if notify else ""))
        if code in (250, 251):
            result.accepted.append(recipient)
        else:
            result.refused[recipient] = _reply(code, text)
    if not result.accepted:
        result.reply = "no recipient was accepted"
        return
    try:
        code, text = client.data(content)
        result.reply = _reply(code, text)
    except smtplib.SMTPDataError as error:
        code, result.reply = error.smtp_code, _reply(error.smtp_code, error.smtp_error)
    if code != 250:
        result.accepted.clear()


def _reply(code: int, text: bytes | str) -> str:
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return f"{code} {words}".replace("\n", " ")


def _xtext(text: str) -> str:
    """RFC 3461 4: printable ASCII but + and =, the rest as +XX."""
    return "".join(c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in text)


def run_send(args: argparse.Namespace) -> int:
    """The whole command; `args` as `engine.cli.send` declares them, `server` and `tls` filled in."""
    problems = []
    notify = (args.notify or "").upper()
    if notify and not _NOTIFY.fullmatch(notify):
        problems.append(f'--notify: "{args.notify}" is neither "never" nor some of "success,failure,delay"')
    if args.envid and not (args.envid.isascii() and args.envid.isprintable()):
        problems.append("--envid: printable ASCII only")
    sender = "" if args.sender == "<>" else args.sender
    for address in (sender, *args.to):
        if not address.isprintable() or any(c in address for c in "<> "):
            problems.append(f'"{address}" is not an address')
    try:
        content = sys.stdin.buffer.read() if args.file == "-" else Path(args.file).read_bytes()
        password = args.password_file.read_text("utf-8").splitlines()[0] if args.password_file else ""
        host, port = parse_host_port(args.server)
    except OSError as error:
        problems.append(f"{error.filename}: {error.strerror}")
    except IndexError:
        problems.append(f"{args.password_file}: there is no password in it")
    except ValueError as error:
        problems.append(str(error))
    if problems:
        raise UsageError(problems)
    server = Server(host=host, port=port, tls=args.tls, login=args.login or "", password=password)
    result = submit(server, sender, args.to, content, notify, args.envid or "")
    _print(result, args.to, args.json)
    return 0 if len(result.accepted) == len(args.to) else 1


def _print(result: Submission, recipients: Sequence[str], as_json: bool) -> None:
    if as_json:
        print(
            json.dumps({"id": result.id, "accepted": result.accepted, "refused": result.refused, "reply": result.reply})
        )
        return
    for recipient, reply in result.refused.items():
        print(f"{recipient}: refused: {reply}", file=sys.stderr)
    if result.accepted:
        print(f"{result.id or result.reply}: queued for {', '.join(result.accepted)}")
    elif len(result.refused) < len(recipients):
        print(f"refused: {result.reply}", file=sys.stderr)
