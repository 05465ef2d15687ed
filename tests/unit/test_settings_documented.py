"""config/postrider.toml: every field of every table stands there, with its true default."""

import re
import tomllib
import typing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.base.settings import Settings
from engine.base.settings_file import load_settings

DOCUMENTED = Path(__file__).parents[2] / "config" / "postrider.toml"

_HEADER = re.compile(r"#?(\[\[?)([a-z._]+)\]\]?")
_KEY = re.compile(r"(#?)([a-z0-9_]+) = (.+)")


def documented() -> dict[str, dict[str, list[tuple[bool, str]]]]:
    """table -> key -> (commented out, value as written), for every line of the file that is a key."""
    tables: dict[str, dict[str, list[tuple[bool, str]]]] = {}
    table = ""
    for line in DOCUMENTED.read_text().splitlines():
        if header := _HEADER.fullmatch(line):
            table = header[2]
            tables.setdefault(table, {})
        elif key := _KEY.fullmatch(line):
            tables[table].setdefault(key[2], []).append((bool(key[1]), key[3]))
    return tables


def struct_tables(struct: Any = Settings, name: str = "") -> dict[str, Any]:
    """table -> struct, nested ones as "retry.transactional"; inline tables (tls) belong to their row."""
    found = {}
    for field in msgspec.structs.fields(struct):
        kinds = [kind for kind in (field.type, *typing.get_args(field.type)) if isinstance(kind, type)]
        inner = next((kind for kind in kinds if issubclass(kind, msgspec.Struct)), None)
        if inner is not None and type(None) not in kinds:
            found[f"{name}{field.name}"] = inner
            found |= struct_tables(inner, f"{name}{field.name}.")
    return found


TABLES = struct_tables()
FIELDS = [
    (table, field)
    for table, struct in TABLES.items()
    for field in msgspec.structs.fields(struct)
    if f"{table}.{field.name}" not in TABLES
]


def test_the_documented_file_loads() -> None:
    load_settings(DOCUMENTED)


def test_the_documented_file_names_no_field_that_is_not_there() -> None:
    known: dict[str, set[str]] = {}
    for table, field in FIELDS:
        known.setdefault(table, set()).add(field.name)
    assert {table: set(keys) for table, keys in documented().items()} == known


@pytest.mark.parametrize(("table", "field"), FIELDS, ids=lambda each: getattr(each, "name", each))
def test_each_field_is_documented_with_its_default(tmp_path: Path, table: str, field: Any) -> None:
    written = documented()[table][field.name]
    if field.required or field.default is None:
        assert written, "an example"
        return
    defaults = [text for commented, text in written if commented]
    assert len(defaults) == 1
    if isinstance(field.default, float | int) and not isinstance(field.default, bool):
        required = "".join(f"{each.name} = {EXAMPLES[each.name]}\n" for each in _required(table)) + ALSO.get(table, "")
        header = f"[[{table}]]" if typing.get_origin(Settings.__annotations__.get(table)) is tuple else f"[{table}]"
        path = tmp_path / "postrider.toml"
        path.write_text(f"{header}\n{required}{field.name} = {defaults[0]}")
        loaded: Any = load_settings(path)
        for name in table.split("."):
            loaded = getattr(loaded, name)
        loaded = loaded[0] if isinstance(loaded, tuple) else loaded
        assert getattr(loaded, field.name) == field.default
    else:
        default = msgspec.to_builtins(field.default, str_keys=True)
        wanted = list(default) if isinstance(default, tuple) else default
        assert tomllib.loads(f"x = {defaults[0]}")["x"] == wanted


EXAMPLES = {
    **{"kind": '"smtp"', "address": '"127.0.0.1:1"', "domain": '"example.org"', "name": '"a"', "mx": '[".a"]'},
    **{"selector": '"s"', "key": '"postrider.toml"', "host": '"a"', "system_id": '"a"', "word": '"a"'},
    **{"url": '"https://a"'},
}
#: One of two fields must be there.
ALSO = {"account": 'password = "a"\n', "webhook": f'secret = "{32 * "a"}"\n'}


def _required(table: str) -> list[Any]:
    return [field for field in msgspec.structs.fields(TABLES[table]) if field.required]
