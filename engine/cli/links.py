"""`postrider links`: what tracking makes of a message, and what the token of a link says.

$ postrider links preview news.eml --table
$ postrider links decode https://click.example.org/c/AQAAA7msoAAAeptiAyoM_wmDJAiU
"""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.base.errors import EngineError, UsageError
from engine.base.log import escape
from engine.cli.common import DEFAULT_CONFIG, Commands, add_config, add_json, print_json, print_rows, settings_of

if TYPE_CHECKING:
    from engine.base.settings import Settings
    from engine.message.envelope import Track
    from engine.message.link_compile import Compiled
    from engine.tracking.preview import Wishes


def register(commands: Commands) -> None:
    """Add the commands to the program."""
    group = commands.add_parser("links", help="tracked links: preview a message, decode a token")
    subcommands = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    preview = subcommands.add_parser(
        "preview", help="a message as a recipient would get it, or its links; these tokens lead nowhere"
    )
    preview.add_argument("file", metavar="FILE", help="a message; - is standard input")
    preview.add_argument("--table", action="store_true", help="its links, and why some are left alone")
    preview.add_argument(
        "--base-url",
        metavar="URL",
        help="what links begin with, at level full [as settings and X-Postrider-Tenant say]",
    )
    preview.add_argument(
        "--class", dest="message_class", choices=("transactional", "bulk"), default="",
        help="where the message has no X-Postrider-Class [that of the listeners of the settings]",
    )  # fmt: skip
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
    """Exit status 0, whatever can be tracked. 2: the file cannot be read, or used; a URL that cannot be used."""
    from engine.base.clock import SystemClock
    from engine.message.headers import HeaderError
    from engine.message.ids import IdSource
    from engine.message.link_token import UNSUBSCRIBE, LinkTokens
    from engine.message.list_unsubscribe import unsubscribe_fields
    from engine.tracking.preview import previewed

    try:
        content = sys.stdin.buffer.read() if args.file == "-" else Path(args.file).read_bytes()
    except OSError as error:
        raise UsageError([f"{args.file}: {error.strerror}"]) from error
    settings = _settings(args)
    try:
        with _levels(settings) as level_of:
            preview = previewed(content, settings, _replaced(args), args.message_class, level_of)
    except HeaderError as error:
        raise UsageError([f"{args.file}: it would be refused: {error.reply}"]) from error
    compiled = preview.compiled
    if args.table or args.json:
        _print_table(compiled, preview.left, args.json)
        return 0
    if preview.left:
        print(f"postrider: {args.file}: its links are not tracked: {preview.left}", file=sys.stderr)
    tokens, message = LinkTokens({0: bytes(32)}), IdSource("preview", 0, SystemClock()).next()
    header, body = preview.header, preview.body
    if compiled is not None and not preview.left:
        body = compiled.body(tokens.made(message, None, compiled.numbers))
    if preview.unsubscribe:
        token = tokens.made(message, None, (UNSUBSCRIBE,))[0]
        mailto = settings.tracking.unsubscribe_mailto
        header += unsubscribe_fields(preview.base_url, token, mailto, not preview.facts.post)
    sys.stdout.buffer.write(header + b"\r\n" + body)
    return 0


@contextlib.contextmanager
def _levels(settings: "Settings") -> "Iterator[Callable[[str], Track]]":
    """What operators say of batches, where there is a data directory."""
    from engine.message.envelope import Track
    from engine.storage.tables.batch_levels import BatchLevels

    if not (Path(settings.node.data_dir) / "tables.db").exists():
        yield lambda batch: Track.FULL
        return
    with contextlib.closing(BatchLevels(Path(settings.node.data_dir))) as levels:
        yield levels.of


def _settings(args: argparse.Namespace) -> "Settings":
    """Those of the file, or where there is none the defaults."""
    from engine.base.settings import Settings

    named = args.config != Path(DEFAULT_CONFIG) or args.config.exists()
    return settings_of(args) if named else Settings()


def _replaced(args: argparse.Namespace) -> "Wishes":
    """What options say instead of the settings. Raises UsageError."""
    from engine.base.settings_links import base_url
    from engine.tracking.preview import Wishes

    try:
        url = base_url(args.base_url, Path()) if args.base_url else ""
    except ValueError as error:
        raise UsageError([f"--base-url: {error}"]) from None
    return Wishes(url, args.text_links, args.opens, args.honeypot)


def _print_table(compiled: "Compiled | None", left: str, as_json: bool) -> None:
    rows: list[dict[str, Any]] = [
        {"link": None if left else found.number, "part": found.kind, "url": found.url, "left": found.reason or left}
        for found in (compiled.found if compiled is not None else ())
    ]
    if left and not rows:
        rows = [{"link": None, "part": "", "url": "", "left": left}]
    print_rows([{**row, "left": row["left"] or None} for row in rows], as_json, ("link", "part", "url", "left"))


def _decode(args: argparse.Namespace) -> int:
    """Exit status 0: it is ours. Raises EngineError, so 1: it is not, or there is no key to tell."""
    from engine.base.clock import SystemClock
    from engine.tracking.link_of import link_of

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
