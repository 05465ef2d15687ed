"""`postrider links`: what tracking makes of a message, and what the token of a link says.

$ postrider links preview news.eml --table
$ postrider links decode https://click.example.org/c/AQAAA7msoAAAeptiAyoM_wmDJAiU
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.base.errors import EngineError, UsageError
from engine.base.log import escape
from engine.cli.common import DEFAULT_CONFIG, Commands, add_config, add_json, print_json, print_rows, settings_of

if TYPE_CHECKING:
    from engine.base.settings import Settings
    from engine.message.link_compile import Compiled

#: For a preview without settings.
_SAMPLE_URL = "https://click.example.org"


def register(commands: Commands) -> None:
    """Add the commands to the program."""
    group = commands.add_parser("links", help="tracked links: preview a message, decode a token")
    subcommands = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    preview = subcommands.add_parser(
        "preview", help="a message as a recipient would get it, or its links; these tokens lead nowhere"
    )
    preview.add_argument("file", metavar="FILE", help="a message; - is standard input")
    preview.add_argument("--table", action="store_true", help="its links, and why some are left alone")
    preview.add_argument("--base-url", metavar="URL", help="what links begin with [that of the settings]")
    preview.add_argument("--text-links", action="store_true", help="of plain text, too [as the settings say]")
    preview.add_argument("--opens", action="store_true", help="with the picture of one pixel [as the settings say]")
    preview.add_argument("--honeypot", action="store_true", help="with the hidden link [as the settings say]")
    preview.set_defaults(run=_preview)
    decode = subcommands.add_parser("decode", help="which link of which message, to whom, and where it leads")
    decode.add_argument(
        "link", metavar="URL|TOKEN", help="or a short link of an SMS, or the local part of an address for unsubscribing"
    )
    decode.set_defaults(run=_decode)
    for parser in (preview, decode):
        add_config(parser)
        add_json(parser)


def _preview(args: argparse.Namespace) -> int:
    """Exit status 0, whatever can be tracked. 2: the file cannot be read, a URL that cannot be used."""
    from engine.base.clock import SystemClock
    from engine.message.content import head_of
    from engine.message.dkim import split_content
    from engine.message.headers import reframe
    from engine.message.ids import IdSource
    from engine.message.link_compile import compile_body
    from engine.message.link_token import UNSUBSCRIBE, LinkTokens
    from engine.message.list_unsubscribe import declared, unsubscribe_fields

    try:
        content = sys.stdin.buffer.read() if args.file == "-" else Path(args.file).read_bytes()
    except OSError as error:
        raise UsageError([f"{args.file}: {error.strerror}"]) from error
    settings = _settings(args)
    marks = _marks(args, settings)
    header, body = split_content(head_of(reframe(content)))
    facts = declared(header)
    compiled = compile_body(header, body, marks._replace(skip=facts.urls))
    if args.table or args.json:
        _print_table(compiled, facts.signed, args.json)
        return 0
    if facts.signed or compiled.sealed:
        reason = compiled.sealed or "signed by DKIM"
        print(f"postrider: {args.file}: its links are not tracked: {reason}", file=sys.stderr)
    tokens, message = LinkTokens({0: bytes(32)}), IdSource("preview", 0, SystemClock()).next()
    if not facts.signed:
        body = compiled.body(tokens.made(message, None, compiled.numbers))
        if settings.tracking.unsubscribe and not facts.unsubscribe:
            token = tokens.made(message, None, (UNSUBSCRIBE,))[0]
            mailto = settings.tracking.unsubscribe_mailto
            header += unsubscribe_fields(marks.base_url, token, mailto, not facts.post)
    sys.stdout.buffer.write(header + b"\r\n" + body)
    return 0


def _settings(args: argparse.Namespace) -> "Settings":
    """Those of the file, or where there is none the defaults."""
    from engine.base.settings import Settings

    named = args.config != Path(DEFAULT_CONFIG) or args.config.exists()
    return settings_of(args) if named else Settings()


def _marks(args: argparse.Namespace, settings: "Settings") -> Any:
    from engine.base.settings_links import base_url
    from engine.message.link_compile import Marks

    tracking = settings.tracking
    try:
        url = base_url(args.base_url, Path()) if args.base_url else tracking.base_url or _SAMPLE_URL
    except ValueError as error:
        raise UsageError([f"--base-url: {error}"]) from None
    return Marks(
        url, tracking.text_links or args.text_links, tracking.opens or args.opens, tracking.honeypot or args.honeypot
    )


def _print_table(compiled: "Compiled", signed: bool, as_json: bool) -> None:
    sealed = compiled.sealed or ("signed" if signed else "")
    rows = [
        {"link": None if sealed else found.number, "part": found.kind, "url": found.url, "left": found.reason or sealed}
        for found in compiled.found
    ]
    if sealed and not rows:
        rows = [{"link": None, "part": "", "url": "", "left": sealed}]
    print_rows([{**row, "left": row["left"] or None} for row in rows], as_json, ("link", "part", "url", "left"))


def _decode(args: argparse.Namespace) -> int:
    """Exit status 0: it is ours. Raises EngineError, so 1: it is not, or there is no key to tell."""
    from engine.base.clock import SystemClock
    from engine.cli.link_of import link_of

    settings = settings_of(args)
    link = link_of(settings, args.link)
    if link is None:
        raise EngineError(f"{escape(args.link[:200])} is no link of this node's keys")
    token, sent = link.token, link.sent
    row: dict[str, Any] = {
        "kind": link.kind.name.lower(), "message": token.message, "link": token.link, "recipient": token.recipient,
        "at": token.at, "expired": SystemClock().time() - token.at > settings.tracking.expire_after,
    }  # fmt: skip
    if link.number is not None:
        row["number"] = link.number
    if sent is not None:
        address = sent.recipients[token.recipient] if token.recipient < len(sent.recipients) else ""
        row |= {
            "address": address or None, "url": link.url or None,
            "level": sent.level, "tenant": sent.tenant, "stream": sent.stream, "batch": sent.batch,
        }  # fmt: skip
    if args.json:
        print_json([row])
    else:
        for name, value in row.items():
            print(f"{name:<10} {escape(str('-' if value in (None, '') else value))}")
    return 0
