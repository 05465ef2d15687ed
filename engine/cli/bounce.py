"""`postrider bounce explain`, `bounce classify`: what the parsers and the rules make of a file or of a reply.

$ postrider bounce explain bounce.eml
$ postrider bounce classify <replies.txt
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.base.errors import UsageError
from engine.base.log import escape
from engine.base.settings_bounces import PHASES
from engine.cli.common import DEFAULT_CONFIG, add_config, add_json, print_json, settings_of

if TYPE_CHECKING:
    from engine.message.bounce_rules import Classifier

#: Where a message of an mbox begins: "From sender Mon Jan  2 15:04:05 2006", behind a blank line.
_MBOX = re.compile(rb"\r?\n(?=From \S+ +[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d [^\n]{0,40}\d{4}\r?\n)")


def add_words(parser: argparse.ArgumentParser) -> None:
    """Let `explain` and `classify` follow `postrider bounce`, whose own argument is what to bounce.

    No destination has such a name: a mail domain has a dot, the others a colon.
    """
    words = _words()
    own = parser.parse_known_args

    def parse(args: Any = None, namespace: Any = None) -> Any:
        if args and args[0] in words:
            return words[args[0]].parse_known_args(args[1:], namespace)
        return own(args, namespace)

    # argparse has no subcommands beside an argument.
    parser.parse_known_args = parse  # type: ignore[method-assign]
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(
        ["instead of a target:", *(f"  {name:<12}{word.description}" for name, word in words.items())]
    )


def _words() -> dict[str, argparse.ArgumentParser]:
    explain = argparse.ArgumentParser(
        prog="postrider bounce explain", description="What a bounce, complaint or automatic answer says of whom."
    )
    explain.add_argument("files", nargs="+", metavar="FILE", help="a message, or an mbox; - is standard input")
    explain.set_defaults(run=_explain)
    classify = argparse.ArgumentParser(
        prog="postrider bounce classify", description="What replies on standard input mean, one a line."
    )
    classify.add_argument("--phase", default="", help="of the session they came in: rcpt, end-of-data, ..., or smpp")
    classify.add_argument("--provider", default="", help="who said it: a name of providers.toml")
    classify.set_defaults(run=_classify)
    for parser in (explain, classify):
        add_config(parser)
        add_json(parser)
    return {"explain": explain, "classify": classify}


def _classifier(args: argparse.Namespace) -> "Classifier":
    """With the rules of the settings, or where there are no settings those that came with the program."""
    from engine.base.settings_file import shipped
    from engine.message.bounce_rules import load_classifier

    named = args.config != Path(DEFAULT_CONFIG) or args.config.exists()
    file = Path(settings_of(args).bounces.rules_file) if named else shipped("bounces.toml")
    return load_classifier(file, samples=True)


def _explain(args: argparse.Namespace) -> int:
    """Exit status 0, whatever the files hold: that one is no bounce is an answer. 2: a file cannot be read."""
    from engine.message.bounce_verdict import judge_report
    from engine.protocol.bounces import read_report

    classifier = _classifier(args)
    problems = []
    for name in args.files:
        try:
            content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        except OSError as error:
            problems.append(f"{name}: {error.strerror}")
            continue
        for message in _messages(content):
            report = read_report(message)
            for row in judge_report(report, classifier):
                shown = {
                    "file": name,
                    "recipient": row.recipient,
                    "kind": row.kind,
                    "status": row.status or None,
                    "reply": row.reply or None,
                    "original_message_id": row.original_message_id or None,
                    "reason": row.reason or None,
                }
                # Only where it is so: what is always there has fixed names.
                _print(shown | ({"truncated": True} if report.truncated else {}), args.json)
    if problems:
        raise UsageError(problems)
    return 0


def _messages(content: bytes) -> Iterator[bytes]:
    """Those of an mbox, or the one."""
    yield from _MBOX.split(content) if content.startswith(b"From ") else (content,)


def _print(row: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json([row])
        return
    print(f"{escape(row['file'])}: {escape(row['recipient'] or 'nobody named')}: {row['kind']}")
    for name in ("status", "reply", "reason", "original_message_id"):
        if row[name] and not (name == "reason" and row[name] == row["reply"]):
            print(f"  {name:<20} {escape(row[name])}")
    if row.get("truncated"):
        print("  truncated            more may be named in what was not read: it is too long")


def _classify(args: argparse.Namespace) -> int:
    """Exit status 0. Empty lines are passed over."""
    if args.phase and args.phase not in PHASES:
        raise UsageError([f"--phase {args.phase}: not one of {', '.join(PHASES)}"])
    classifier = _classifier(args)
    for line in sys.stdin.buffer:
        reply = line.decode("utf-8", "replace").strip()
        if not reply:
            continue
        verdict = classifier.judge(reply, phase=args.phase, provider=args.provider)
        if args.json:
            print_json([{"kind": verdict.kind, "rule": verdict.rule or None, "reply": reply}])
        else:
            print(f"{verdict.kind:<8} {verdict.rule or '-':<20} {escape(reply)}")
    return 0
