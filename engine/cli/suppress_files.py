"""Lists of suppressions in files: CSV with a header, JSON lines, or addresses. Read and written in a stream.

A bad line takes no other with it: each line is read by itself, so that an open quote ends with its line, and one that
is too long is passed over.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, BinaryIO, NamedTuple

from engine.storage.tables.suppression_records import FIELDS

#: The longest record is a fraction of it.
MAX_LINE = 64 << 10
#: What other systems call the address.
_ADDRESS_NAMES = ("address", "email", "e-mail", "email address", "recipient", "number", "phone", "msisdn")
_OTHER_NAMES = {"reason": "evidence", "created": "since", "created_at": "since", "expires": "until"}

Record = Mapping[str, Any]


class Line(NamedTuple):
    """number: from 1. record: None of a bad one; why."""

    number: int
    raw: bytes
    record: Record | None = None
    why: str = ""


class Reader:
    """Iterates over what is on each line that has something on it. ignored: columns that mean nothing here."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.ignored: list[str] = []

    def __iter__(self) -> Iterator[Line]:
        parse: Callable[[str], Record] | None = None
        for number, raw in enumerate(self._lines(), 1):
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            if len(raw) > MAX_LINE:
                yield Line(number, raw, None, f"longer than {MAX_LINE} bytes, and cut there")
                continue
            try:
                text = raw.decode().strip()
                if not text:
                    continue
                if parse is None:
                    parse, is_header = self._parser(text)
                    if is_header:
                        continue
                yield Line(number, raw, parse(text))
            except UnicodeDecodeError:
                yield Line(number, raw, None, "not UTF-8")
            except (ValueError, csv.Error, RecursionError) as exc:
                yield Line(number, raw, None, str(exc) or "not to be read")

    def _lines(self) -> Iterator[bytes]:
        """Each with its end; of one that is too long, only the beginning, which is longer than MAX_LINE."""
        while raw := self._stream.readline(MAX_LINE + 1):
            yield raw
            while len(raw) > MAX_LINE and not raw.endswith(b"\n"):
                raw = self._stream.readline(MAX_LINE + 1)

    def _parser(self, first: str) -> tuple[Callable[[str], Record], bool]:
        """How to read lines of a file whose first is this one, and whether that is a header. Raises ValueError."""
        if first.startswith("{"):
            return _from_json, False
        delimiter = max(",;\t", key=first.count)
        names = [_name(cell) for cell in _cells(first, delimiter)]
        if "address" not in names and "hash" not in names:
            if len(names) > 1 and "@" not in names[0]:
                raise ValueError("a header without a column `address`")
            return _from_list, False
        self.ignored = [name for name in names if name not in FIELDS]

        def from_csv(text: str) -> Record:
            cells = _cells(text, delimiter)
            if len(cells) > len(names):
                raise ValueError(f"{len(cells)} fields, of {len(names)} columns")
            return dict(zip(names, cells, strict=False))

        return from_csv, True


class Writer:
    """Writes records as CSV with a header, or as JSON lines."""

    def __init__(self, stream: IO[str], as_json: bool) -> None:
        self._stream = stream
        self._csv = None if as_json else csv.DictWriter(stream, FIELDS, lineterminator="\n")
        if self._csv is not None:
            self._csv.writeheader()

    def write(self, record: Record) -> None:
        if self._csv is not None:
            self._csv.writerow(record)
        else:
            self._stream.write(json.dumps({name: value for name, value in record.items() if value}) + "\n")


def _from_list(text: str) -> Record:
    first, *more = _cells(text, ",")
    if any(cell.strip() for cell in more):
        raise ValueError("more than an address, and no header on the first line says what")
    return {"address": first}


def _from_json(text: str) -> Record:
    try:
        record = json.loads(text)
    except ValueError as exc:
        raise ValueError(f"not JSON: {exc}") from exc
    if not isinstance(record, dict):
        raise ValueError("not an object")
    return {_name(name): value for name, value in record.items()}


def _cells(text: str, delimiter: str) -> list[str]:
    return next(csv.reader(io.StringIO(text), delimiter=delimiter, strict=True), [""])


def _name(cell: str) -> str:
    name = cell.strip().lower()
    return "address" if name in _ADDRESS_NAMES else _OTHER_NAMES.get(name, name)
