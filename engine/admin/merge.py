"""What several workers answer to an operator's command, as one answer. The rules are the tables below.

A field that no table names is summed if it is a number, true if it is true everywhere, and else the first there is.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from engine.base.units import dead_share

Row = dict[str, Any]
#: How the values of one field come together; None values are left out before, and none at all is None.
Join = Callable[[Sequence[Any]], Any]


def _first(values: Sequence[Any]) -> Any:
    return values[0]


def _figures(values: Sequence[Any]) -> Any:
    """What generations or folders of several spools hold; of dicts as survey.py makes them."""
    row = _together(values, {})
    return {**row, "dead": dead_share(row["live_bytes"], row["bytes"])} if "dead" in row else row


def _folders(values: Sequence[Any]) -> Any:
    """Rows of folders, of which each worker has its own part; the largest first."""
    groups: dict[str, list[Row]] = {}
    for row in (row for rows in values for row in rows):
        groups.setdefault(row["folder"], []).append(row)
    return sorted(map(_figures, groups.values()), key=lambda row: -row["deliveries"])


def _texts(values: Sequence[Any]) -> Any:
    return "; ".join(dict.fromkeys(values))


def _union(values: Sequence[Any]) -> Any:
    """What any of the lists has, once."""
    found: list[Any] = []
    for value in itertools.chain(*values):
        if value not in found:
            found.append(value)
    return found


def _distinct(values: Sequence[Any]) -> Any:
    """How many there are in lists of names; where there were too many to name, the sum."""
    if all(isinstance(value, list) for value in values):
        return len(set[str]().union(*values))
    return sum(len(value) if isinstance(value, list) else value for value in values)


_STATUS: Mapping[str, Join] = {
    "loading": any,
    "uptime_s": max,
    "oldest_s": max,
    "trouble": _texts,
    "destinations": _distinct,
    "holds": _union,
    "moves": _union,
}
_QUEUES: Mapping[str, Join] = {"oldest_s": max, "next_s": min}
_SPOOL: Mapping[str, Join] = {
    "loading": any,
    "oldest_s": max,
    "journal": _figures,
    "backlog": _figures,
    "contents": _figures,
    "folders": _folders,
}


def _default(values: Sequence[Any]) -> Any:
    if all(isinstance(value, bool) for value in values):
        return all(values)
    if all(isinstance(value, int | float) for value in values):
        return sum(values)
    return _first(values)


def _together(rows: Sequence[Row], joins: Mapping[str, Join]) -> Row:
    """One row out of several with the same fields."""
    merged: Row = {}
    for field in dict.fromkeys(name for row in rows for name in row):
        values = [row[field] for row in rows if row.get(field) is not None]
        merged[field] = joins.get(field, _default)(values) if values else None
    return merged


def _one_row(joins: Mapping[str, Join]) -> "Rule":
    return lambda rows, _: [_together(rows, joins)] if rows else []


def _grouped(rows: Iterable[Row], key: Sequence[str], joins: Mapping[str, Join]) -> list[Row]:
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in key), []).append(row)
    return [_together(group, joins) for group in groups.values()]


def _by(key: Sequence[str], joins: Mapping[str, Join]) -> "Rule":
    return lambda rows, _: _grouped(rows, key, joins)


def _oldest_first(rows: Sequence[Row], arguments: Mapping[str, Any]) -> list[Row]:
    return sorted(rows, key=lambda row: -row["age_s"])[: arguments.get("limit")]


def _spools(rows: Sequence[Row], arguments: Mapping[str, Any]) -> list[Row]:
    return [
        {**row, "folders": row["folders"][: arguments.get("most")]} for row in _one_row(_SPOOL)(rows, arguments)
    ]  # fmt: skip


def _all(rows: Sequence[Row], _: Mapping[str, Any]) -> list[Row]:
    return list(rows)


#: Given all rows, those of worker 0 first, and the command's arguments: the rows to show.
Rule = Callable[[Sequence[Row], Mapping[str, Any]], list[Row]]

RULES: Mapping[str, Rule] = {
    "status": _one_row(_STATUS),
    "queues": _by(("destination", "via"), _QUEUES),
    "list": _oldest_first,
    "show": _all,
    "why": _all,
    "binds": _all,
    "consumers": _all,
    "consumer_pause": _one_row({}),
    "consumer_resume": _one_row({}),
    "consumer_seek": _one_row({}),
    "retry": _one_row({}),
    "hold": _one_row({}),
    "resume": _one_row({}),
    "bounce": _one_row({}),
    "purge": _one_row({}),
    "move": _one_row({}),
    "spool_status": _spools,
    "spool_compact": _one_row({}),
    "spool_import": _one_row({}),
    "spool_purge": _one_row({}),
    "spool_queued": _all,
}


def merge(command: str, answers: Iterable[Sequence[Row]], arguments: Mapping[str, Any]) -> list[Row]:
    """The rows to show for what each worker answered."""
    return RULES[command]([row for rows in answers for row in rows], arguments)
