"""Reads postrider.toml into `Settings`, or says everything that is wrong with it in one run.

A problem is one line: file, table, key and what would be right.

    postrider.toml: [site] rate: "fast" is not a rate, such as "20/s"
    postrider.toml: [[route]] 2 relay: "example.org" is not an address with a port, ...

The walk follows the structs of settings.py, field by field: shape and type here, then the rule of the field
(settings_rules.py), then what fields and tables must agree on (settings_checks.py). A bad field does not hide
the mistakes around it: checks that need it are left out, all others are made.
"""

import difflib
import json
import sys
import tomllib
import types
import typing
from pathlib import Path
from typing import Any

import msgspec

import engine
from engine.base import settings_checks, settings_rules, settings_sms
from engine.base.errors import ConfigError
from engine.base.settings import Provider, Settings
from engine.base.settings_bounces import BounceRule
from engine.base.settings_scanners import Scanner
from engine.base.units import Duration, Rate, Size, parse_duration, parse_rate, parse_size

_BESIDE = Path(engine.__file__).parent.parent
#: Where tables that come with the program lie: in a checkout, in a folder, or in an environment.
_SHIPPED = (_BESIDE / "config", _BESIDE / "share" / "postrider", Path(sys.prefix) / "share" / "postrider")

_PARSERS = {Duration: parse_duration, Size: parse_size, Rate: parse_rate}
_EXAMPLES = {
    Duration: 'a duration, such as "90s"',
    Size: 'a size in bytes, KiB, MiB or GiB, such as "25MiB"',
    Rate: 'a rate, such as "20/s"',
}
_WORDS = {str: "a text in quotes", int: "a whole number", float: "a number", bool: "true or false"}


def load_settings(path: Path) -> Settings:
    """The settings in this file, checked, all paths absolute. Raises ConfigError with every problem found."""
    settings, problems = read_settings(path)
    if problems:
        raise ConfigError(problems)
    return settings


def read_settings(path: Path) -> tuple[Settings, list[str]]:
    """What can be used of this file, defaults in place of the rest, and every problem: for `postrider check`."""
    problems: list[str] = []
    raw = _read_toml(path, path.name, problems)
    if raw is None:
        return Settings(), problems
    settings = _Reader(path.name, path.parent, problems).settings(raw)
    rules = _table_path(raw, "bounces", "rules_file", Path(settings.bounces.rules_file), path, problems)
    if rules is not None:
        bounces = msgspec.structs.replace(settings.bounces, rules_file=str(rules.absolute()))
        settings = msgspec.structs.replace(settings, bounces=bounces)
    scanners = _table_path(raw, "tracking", "scanners_file", Path(settings.tracking.scanners_file), path, problems)
    if scanners is not None:
        tracking = msgspec.structs.replace(settings.tracking, scanners_file=str(scanners.absolute()))
        settings = msgspec.structs.replace(settings, tracking=tracking)
    file = _table_path(raw, "routing", "providers_file", Path(settings.routing.providers_file), path, problems)
    if file is not None:
        replaced = {provider.name for provider in settings.provider}
        rows = [provider for provider in load_providers(file, problems) if provider.name not in replaced]
        routing = msgspec.structs.replace(settings.routing, providers_file=str(file.absolute()))
        settings = msgspec.structs.replace(settings, routing=routing, provider=(*settings.provider, *rows))
    return settings, problems


def load_providers(path: Path, problems: list[str]) -> tuple[Provider, ...]:
    """The rows of a provider table that can be used; what is wrong with the others goes to `problems`."""
    raw = _read_toml(path, path.name, problems)
    if raw is None:
        return ()
    reader = _Reader(path.name, path.parent, problems)
    for key in raw.keys() - {"provider"}:
        problems.append(f"{path.name}: [{key}]: unknown table; this file holds [[provider]] only")
    rows = reader.tables(Provider, raw.get("provider", []), "provider")
    settings_checks.check_providers(rows, reader.problem)
    return _whole(rows)


def load_bounce_rules(path: Path, problems: list[str]) -> tuple[BounceRule, ...]:
    """The rules of a bounces.toml that can be used; what is wrong with the others goes to `problems`."""
    return _load_rows(path, BounceRule, "rule", problems)


def load_scanner_rows(path: Path, problems: list[str]) -> tuple[Scanner, ...]:
    """The rows of a scanners.toml that can be used; what is wrong with the others goes to `problems`."""
    return _load_rows(path, Scanner, "scanner", problems)


def _load_rows(path: Path, struct: type, table: str, problems: list[str]) -> tuple[Any, ...]:
    """Of a file that holds one kind of rows."""
    raw = _read_toml(path, path.name, problems)
    if raw is None:
        return ()
    reader = _Reader(path.name, path.parent, problems)
    for key in raw.keys() - {table}:
        problems.append(f"{path.name}: [{key}]: unknown table; this file holds [[{table}]] only")
    return _whole(reader.tables(struct, raw.get(table, []), table))


def shipped(name: str) -> Path:
    """A table that came with the program, such as "bounces.toml"; the first place it may be if it is not there."""
    places = [folder / name for folder in _SHIPPED]
    return next((place for place in places if place.exists()), places[0])


def _table_path(
    raw: dict[str, Any], table: str, key: str, file: Path, settings: Path, problems: list[str]
) -> Path | None:
    """Where a table that has a file of its own is: as named, beside the settings, or as it came with the program.

    file: what the setting [table] key says, or its default.
    """
    own = raw.get(table)
    if isinstance(own, dict) and key in own:
        found = file
    else:
        name = file.name
        found = settings.parent / name if (settings.parent / name).exists() else shipped(name)
    if found.exists():
        return found
    problems.append(f"{settings.name}: [{table}] {key}: {found.absolute()} does not exist")
    return None


def _read_toml(path: Path, name: str, problems: list[str]) -> dict[str, Any] | None:
    try:
        return tomllib.loads(path.read_bytes().decode())
    except FileNotFoundError:
        problems.append(f"{path}: no such file")
    except OSError as error:
        problems.append(f"{path}: cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        problems.append(f"{name}: not UTF-8 text (byte {error.start})")
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{name}: not TOML: {error}")
    return None


class _Reader:
    """Walks one file struct by struct and field by field; collects what is wrong."""

    def __init__(self, file: str, base: Path, problems: list[str]) -> None:
        self._file = file
        self._base = base.absolute()
        self._problems = problems

    def problem(self, where: str, text: str) -> None:
        """Add one line. What came from the file cannot break it, nor move a terminal's cursor."""
        line = f"{self._file}: {where}: {text}"
        self._problems.append("".join(c if c.isprintable() else repr(c)[1:-1] for c in line))

    def settings(self, raw: dict[str, Any]) -> Settings:
        """Every table; a bad field stands as its default, a row that lacks a required one is left out."""
        kinds = {field.name: field.type for field in msgspec.structs.fields(Settings)}
        for key, value in raw.items():
            if key not in kinds:
                self._unknown_top(key, value, kinds)
        values: dict[str, Any] = {}
        rows: dict[str, list[tuple[int, Any]]] = {}
        for name, kind in kinds.items():
            struct = _struct_in(kind)
            if typing.get_origin(kind) is tuple:
                rows[name] = self.tables(struct, raw.get(name, []), name)
                values[name] = _whole(rows[name])
            else:
                values[name] = self._single(struct, raw.get(name, {}), name)
        settings_checks.check_rows(rows, self.problem)
        settings_sms.check_answers(rows, values["sms"], self.problem)
        return Settings(**values)

    def tables(self, struct: type, raw: Any, name: str) -> list[tuple[int, Any]]:
        """The rows of `[[name]]`, each with its number in the file, from 1; see `_table`."""
        if not isinstance(raw, list) or not all(isinstance(row, dict) for row in raw):
            self.problem(f"[{name}]", f"write [[{name}]]: there may be several")
            return []
        return [(number, self._table(struct, row, f"[[{name}]] {number}", " ")) for number, row in enumerate(raw, 1)]

    def _single(self, struct: type, raw: Any, name: str) -> Any:
        if isinstance(raw, dict):
            return self._table(struct, raw, f"[{name}]", " ")
        text = f"write [{name}]: there is only one" if isinstance(raw, list) else f"must be a table, [{name}]"
        self.problem(f"[[{name}]]" if isinstance(raw, list) else name, text)
        return struct()

    def _unknown_top(self, key: str, value: Any, kinds: dict[str, Any]) -> None:
        if isinstance(value, dict):
            self.problem(f"[{key}]", f"unknown table{_suggest(key, kinds, '[{}]')}")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            self.problem(f"[[{key}]]", f"unknown table{_suggest(key, kinds, '[[{}]]')}")
        else:
            self.problem(key, "a key outside any table; put it under one, such as [node]")

    def _table(self, struct: type, raw: dict[str, Any], label: str, joint: str) -> Any:
        """One struct, with None where a required field is missing or bad. `joint` stands between label and key."""
        fields = msgspec.structs.fields(struct)
        names = [field.name for field in fields]
        for key in raw:
            if key not in names:
                self.problem(f"{label}{joint}{key}", f"unknown key{_suggest(key, names, '{}')}")
        values: dict[str, Any] = {}
        for field in fields:
            where = f"{label}{joint}{field.name}"
            if field.name in raw:
                self._field(struct, field, raw[field.name], where, values)
            elif field.required:
                self.problem(where, "missing")
            elif typing.get_origin(field.type) is None and _is_struct(field.type):
                values[field.name] = self._table(field.type, {}, where, ".")
            else:
                self._ruled(struct, field.name, field.default, where, values)
        lacking = [field.name for field in fields if field.required and field.name not in values]
        table = struct(**dict.fromkeys(lacking), **values)
        settings_checks.check_table(table, values.keys(), f"{label}{joint}", self.problem)
        return table

    def _field(self, struct: type, field: Any, value: Any, where: str, values: dict[str, Any]) -> None:
        nested = _struct_in(field.type)
        if nested is not None:
            if not isinstance(value, dict):
                self.problem(where, f"{_shown(value)} is not a table, such as {{ key = value }}")
            elif _is_whole(table := self._nested(nested, value, where)):
                values[field.name] = table
            return
        try:
            converted = msgspec.convert(value, field.type, dec_hook=_decode)
        except msgspec.ValidationError as error:
            self.problem(where, _explain(value, field.type, str(error)))
        else:
            self._ruled(struct, field.name, converted, where, values)

    def _nested(self, struct: type, raw: dict[str, Any], where: str) -> Any:
        """A table in a table: `[retry.transactional]` has a header of its own, `tls = {...}` of a listener has not."""
        if where.startswith("[["):
            return self._table(struct, raw, where, ".")
        return self._table(struct, raw, "[{}.{}]".format(*where[1:].split("] ")), " ")

    def _ruled(self, struct: type, name: str, value: Any, where: str, values: dict[str, Any]) -> None:
        try:
            values[name] = settings_rules.apply(struct, name, value, self._base)
        except ValueError as error:
            self.problem(where, str(error))


def _decode(kind: type, value: Any) -> Any:
    """msgspec's hook for the units. A bare number has no unit and is refused, but for bytes."""
    if kind is Size and type(value) is int and value >= 0:
        return Size(value)
    if not isinstance(value, str):
        raise ValueError(f"{_shown(value)} is not {_EXAMPLES[kind]}")
    return _PARSERS[kind](value)


def _explain(value: Any, kind: Any, error: str) -> str:
    """What is wrong with this value, in the words of someone who writes settings."""
    options = [arg for arg in typing.get_args(kind) if arg is not type(None)] or [kind]
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return _explain(value, options[0], error)
    if typing.get_origin(kind) is typing.Literal:
        return f"{_shown(value)} is not one of {', '.join(json.dumps(option) for option in options)}"
    if kind in _WORDS:
        return f"{_shown(value)} is not {_WORDS[kind]}"
    if kind == tuple[str, ...]:
        return f'{_shown(value)} is not a list of texts, such as ["one", "two"]'
    if kind == Provider.__annotations__["stop"] and not _is_pairs(value):
        return f'{_shown(value)} is not a list of pairs, such as [["text in a reply", "2h"]]'
    # What is left are units, which explain themselves; msgspec adds where in a list it happened.
    return error.partition(" - at `")[0]


def _is_pairs(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in value)


def _is_whole(table: Any) -> bool:
    """Every required field is there."""
    return all(getattr(table, field.name) is not None for field in msgspec.structs.fields(table) if field.required)


def _whole(rows: list[tuple[int, Any]]) -> tuple[Any, ...]:
    """Those that can be used."""
    return tuple(row for _, row in rows if _is_whole(row))


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _struct_in(kind: Any) -> Any:
    """The struct a field holds: itself, in a tuple, or optional; None for plain values."""
    return next((each for each in (kind, *typing.get_args(kind)) if _is_struct(each)), None)


def _suggest(key: str, names: Any, form: str) -> str:
    near = difflib.get_close_matches(key, list(names), n=1, cutoff=0.6)
    return f" (did you mean {form.format(near[0])}?)" if near else ""


def _shown(value: Any) -> str:
    """A value as it stands in the file, cut short."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
