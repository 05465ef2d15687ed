"""`postrider check`: every mistake of a configuration at once, and what works but is probably not meant."""

import argparse
import contextlib
from pathlib import Path

from engine.admin.door import too_long
from engine.base.errors import ConfigError, StorageError
from engine.base.settings import Settings
from engine.base.settings_carriers import open_secrets
from engine.base.settings_checks import warnings_of
from engine.base.settings_file import load_bounce_rules, load_providers, read_settings
from engine.base.units import counted
from engine.cli.common import Commands, add_config, add_json, print_json


def register(commands: Commands) -> None:
    """Add the command to the program."""
    parser = commands.add_parser("check", help="check the settings, the provider table and the keys")
    add_config(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0 if nothing is wrong, warnings or not; otherwise 2."""
    from engine.daemon.spools import leftover
    from engine.delivery.keyring import load_keys
    from engine.feed.feed import secret_of
    from engine.feed.feed import warnings_of as webhook_warnings
    from engine.routing.routes import own_relays, password_problems
    from engine.routing.sms_routes import route_problems, route_warnings
    from engine.tracking.node import check_files

    name = args.config.name
    settings, problems = read_settings(args.config)
    problems += _provider_problems(settings, name) + _bounce_problems(settings) + check_files(settings)
    if long := too_long(Path(settings.node.data_dir), settings.node.workers):
        problems.append(f"{name}: [node] data_dir: {long}")
    problems += [f"{name}: {text}" for text in password_problems(settings) + route_problems(settings)]
    for webhook in settings.webhook:
        try:
            secret_of(webhook)
        except ConfigError as error:
            problems += [f"{name}: {text}" for text in error.problems]
    warnings = [*warnings_of(settings), *own_relays(settings), *route_warnings(settings)]
    warnings += [*open_secrets(settings, args.config), *webhook_warnings(settings.webhook)]
    with contextlib.suppress(StorageError):  # not ours to look into; the daemon's user can
        warnings += [
            f"[node] workers: spool {number} has none any more; one that takes nothing new will empty it"
            for number in leftover(Path(settings.node.data_dir), settings.node.workers)
        ]
    try:
        warnings += load_keys(settings)[1]
    except ConfigError as error:
        problems += [f"{name}: {text}" for text in error.problems]
    rows = [{"severity": "error", "text": text} for text in problems]
    if not problems:
        rows += [{"severity": "warning", "text": f"{name}: {text}"} for text in warnings]
    if args.json:
        print_json(rows)
    else:
        for row in rows:
            print(row["text"] if row["severity"] == "error" else f"warning: {row['text']}")
        print(f"{name}: {counted(len(problems), 'mistake')}" if problems else f"{name}: ok")
    return 2 if problems else 0


def _provider_problems(settings: Settings, name: str) -> list[str]:
    """Rows that never do what they say, file by file: a row that takes over one of the other file is meant to."""
    from engine.routing.providers import problems as provider_problems

    file = Path(settings.routing.providers_file)
    shipped = load_providers(file, []) if file.is_file() else ()
    own = [row for row in settings.provider if row not in shipped]
    return [
        *(f"{name}: {text}" for text in provider_problems(own)),
        *(f"{file.name}: {text}" for text in provider_problems(shipped)),
    ]


def _bounce_problems(settings: Settings) -> list[str]:
    """Rules that are not what their samples say, and those for a provider that no table names."""
    from engine.message.bounce_rules import problems as rule_problems

    file = Path(settings.bounces.rules_file)
    if not file.is_file():
        return []
    found: list[str] = []
    rules = load_bounce_rules(file, found)
    providers = {row.name for row in settings.provider}
    found += [f"{file.name}: {text}" for text in rule_problems(rules)]
    return found + [
        f'{file.name}: [[rule]] "{rule.name}": provider "{each}" is in no provider table'
        for rule in rules
        for each in rule.provider
        if each not in providers
    ]
