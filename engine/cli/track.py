"""`postrider track`: links that shall lead nowhere any more, or tell less, and what a click domain lacks."""

import argparse
import contextlib
import dataclasses
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from engine.base.errors import EngineError, UsageError
from engine.base.log import escape
from engine.base.settings import Settings
from engine.cli.common import Commands, add_config, add_json, print_rows, settings_of
from engine.cli.suppress import operator

if TYPE_CHECKING:
    from engine.storage.tables.withdrawals import Withdrawal, Withdrawals

_COLUMNS = ("kind", "what", "since", "who", "reason", "about")
#: What keeps a URL from being tracked (message/link_target.py).
_NO_TARGET = {
    "template": "it has a field that nobody filled in",
    "empty": "it is empty",
    "fragment": "it is a place within a page",
    "no-scheme": "it begins with no scheme: http or https",
    "relative": "it begins with no scheme: http or https",
    "scheme": "it is neither http nor https",
    "malformed": "it is no sound URL",
    "long": "it is too long",
}


def register(commands: Commands) -> None:
    """Add the command and its own commands."""
    parser = commands.add_parser(
        "track",
        help="withdraw links; check a click domain",
        description="What was sent cannot be called back; where its links lead can. Redirectors see it in a second.",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for name, text, run in (
        ("withdraw", "links that lead nowhere from now on: a page says so", _withdraw),
        ("restore", "they lead where they did; also by what `list` shows", _restore),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument(
            "kind", choices=("link", "url", "content", "batch", "tenant"),
            help="one link of a content, every link to a URL (of all tenants), all links of a content (of its tenant, "
            "stream and batch), of a batch or a tenant",
        )  # fmt: skip
        action.add_argument(
            "what", help="of a link or content: a tracked or short URL, or its token; else the URL or the name"
        )
        action.add_argument("--reason", default="", help="for `list` and the event")
        add_config(action)
        action.set_defaults(run=run)
    text = "the most that links of a batch tell, from its next message on; full: as settings and messages say"
    action = actions.add_parser("level", help=text, description=text)
    action.add_argument("kind", choices=("batch",))
    action.add_argument("what", help="its name, as in X-Postrider-Batch")
    action.add_argument("level", choices=("none", "anonymous", "full"))
    action.add_argument("--reason", default="", help="for `list` and the event")
    add_config(action)
    action.set_defaults(run=_level)
    action = actions.add_parser("list", help="what is withdrawn, and which batches have a level")
    add_config(action)
    add_json(action)
    action.set_defaults(run=_list)
    action = actions.add_parser("check-domain", help="say what a click domain lacks: DNS, TLS, path")
    action.add_argument("host", help="as in base_url; a whole URL for other ports, paths or http")
    add_config(action)
    add_json(action)
    action.set_defaults(run=_check_domain)


def _withdraw(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    row = _row(settings, args)
    with _table(settings) as table:
        done = table.add(row)
    print(f"{row.kind} {row.about or row.what}: {'withdrawn' if done else 'was withdrawn already'}")
    if row.kind == "tenant" and row.what not in _tenants(settings):
        text = f"no login, account or [[click_domain]] has the name {escape(row.what[:200])}: is it meant?"
        print(f"postrider: {text}", file=sys.stderr)
    return 0


def _tenants(settings: Settings) -> set[str]:
    """Those that are known by name; messages may name others."""
    from engine.storage.tables.credentials import Credentials

    with contextlib.closing(Credentials(Path(settings.node.data_dir) / "tables.db")) as table:
        logins = {row.login for row in table.entries()}
    return logins | {row.tenant for row in settings.click_domain} | {row.system_id for row in settings.account}


def _restore(args: argparse.Namespace) -> int:
    settings = settings_of(args)
    with _table(settings) as table:
        row = _listed(table, args) or _row(settings, args)
        if not table.remove(row):
            raise EngineError(f"{row.kind} {row.about or row.what}: is not withdrawn")
    print(f"{row.kind} {row.about or row.what}: restored")
    return 0


def _listed(table: "Withdrawals", args: argparse.Namespace) -> "Withdrawal | None":
    """A row that is named as `list` has it: its message may be known no more."""
    found = next((row for row in table.all() if (row.kind, row.what) == (args.kind, args.what)), None)
    return found and dataclasses.replace(found, since=time.time(), who=operator(), reason=args.reason)


def _row(settings: Settings, args: argparse.Namespace) -> "Withdrawal":
    from engine.storage.tables.withdrawals import Withdrawal

    what, about = _named(settings, args.kind, args.what)
    return Withdrawal(kind=args.kind, what=what, since=time.time(), who=operator(), reason=args.reason, about=about)


def _level(args: argparse.Namespace) -> int:
    from engine.storage.tables.batch_levels import BatchLevel, BatchLevels

    if not args.what:
        raise UsageError(["which batch?"])
    row = BatchLevel(batch=args.what, level=args.level, since=time.time(), who=operator(), reason=args.reason)
    with contextlib.closing(BatchLevels(Path(settings_of(args).node.data_dir))) as table:
        done = table.set(row)
    print(f"batch {row.batch}: {row.level}{'' if done else ', as it was'}")
    return 0


def _list(args: argparse.Namespace) -> int:
    from engine.storage.tables.batch_levels import BatchLevels

    settings = settings_of(args)
    with contextlib.closing(BatchLevels(Path(settings.node.data_dir))) as levels:
        told = [
            {
                "kind": "batch", "what": row.batch, "who": row.who, "reason": row.reason, "about": f"level {row.level}",
                "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(row.since)),
            }
            for row in levels.all()
        ]  # fmt: skip
    with _table(settings) as table:
        rows = [
            {
                "kind": row.kind, "what": row.what, "who": row.who, "reason": row.reason, "about": row.about,
                "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(row.since)),
            }
            for row in table.all()
        ]  # fmt: skip
    print_rows([*rows, *told], args.json, _COLUMNS)
    return 0


def _check_domain(args: argparse.Namespace) -> int:
    """Exit status 0: nothing is missing, warnings or not."""
    import asyncio

    from engine.base.clock import SystemClock
    from engine.base.metrics import Metrics
    from engine.net.resolver import Resolver
    from engine.storage.link_keys import link_keys
    from engine.tracking.domains import Finding, check_domain

    settings = settings_of(args)
    keys, url = link_keys(settings), _url_of(settings, args.host)

    async def check() -> list[Finding]:
        resolver = Resolver(settings.resolver, Metrics(), SystemClock())
        try:
            return await check_domain(url, keys, resolver)
        finally:
            await resolver.close()

    found = asyncio.run(check())
    rows = [{"step": each.step, "severity": each.severity, "where": each.where, "text": each.text} for each in found]
    print_rows(rows, args.json, ("severity", "step", "where", "text"))
    return 1 if any(each.severity == "error" for each in found) else 0


def _table(settings: Settings) -> "contextlib.closing[Withdrawals]":
    from engine.storage.tables.withdrawals import Withdrawals

    return contextlib.closing(Withdrawals(Path(settings.node.data_dir)))


def _url_of(settings: Settings, host: str) -> str:
    """As the settings have it, else https. Raises UsageError."""
    from urllib.parse import urlsplit

    from engine.base.settings_links import base_url

    if "://" in host:
        try:
            return base_url(host, Path())
        except ValueError as exc:
            raise UsageError([str(exc)]) from exc
    tracking = settings.tracking
    known = [tracking.base_url, tracking.sms_url]
    known += [url for row in settings.click_domain for url in (row.base_url, row.sms_url)]
    for url in filter(None, known):
        if host.lower() in (urlsplit(url).hostname, urlsplit(url).netloc):
            return url
    try:
        return base_url(f"https://{host}", Path())
    except ValueError as exc:
        raise UsageError([str(exc)]) from exc


def _named(settings: Settings, kind: str, what: str) -> tuple[str, str]:
    """The row's name of what a person means, and how he would call it. Raises EngineError."""
    if kind in ("link", "content"):
        return _of_content(settings, kind, what)
    if kind == "url":
        from engine.message.link_target import target_of

        target = target_of(what)  # as in the tables of messages
        if target.reason:
            raise UsageError([f"{escape(what[:200])}: no link leads there: {_NO_TARGET[target.reason]}"])
        return target.url, ""
    if not what:
        raise UsageError([f"which {kind}?"])
    return what, ""


def _of_content(settings: Settings, kind: str, what: str) -> tuple[str, str]:
    """Of a content of one tenant, stream and batch: others may have the same links. Raises EngineError."""
    from engine.storage.tables.withdrawals import content_of
    from engine.tracking.link_of import link_of

    link = link_of(settings, what)
    if link is None:
        raise UsageError([f"{escape(what[:200])}: no tracked link of ours"])
    sent = link.sent
    if sent is None or not sent.table:
        raise EngineError(f"{what}: its message is not known any more")
    scope = [f"{name} {value}" for name in ("tenant", "stream", "batch") if (value := getattr(sent, name))]
    about = f" ({', '.join(scope)})" * bool(scope)
    if kind == "content":
        return content_of(sent), f"links of {sent.id}{about}"
    if not link.url:
        raise EngineError(f"{what}: leads nowhere")
    return content_of(sent, link.token.link), f"{link.url}{about}"
