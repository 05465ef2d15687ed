"""`postrider suppress`: who must not be sent to. Works on the table itself, the daemon may run or not."""

import argparse
import contextlib
import getpass
import os
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from engine.base.errors import EngineError, StorageError, UsageError
from engine.base.log import escape
from engine.base.units import counted
from engine.cli.common import Commands, add_config, add_json, print_json, print_rows, settings_of

if TYPE_CHECKING:
    from engine.storage.tables.suppression import Suppression
    from engine.storage.tables.suppression_table import SuppressionTable

_COLUMNS = ("address", "scope", "tenant", "stream", "cause", "since", "until", "who", "evidence")
_BATCH_ROWS = 50_000
_MOST_SHOWN = 1000  #: bad lines
_WHOM = "an address, or the number of a phone"


def register(commands: Commands) -> None:
    """Add the command to the program."""
    parser = commands.add_parser("suppress", help="who must not be sent to", description=__doc__)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    add = actions.add_parser("add", help="send nothing more to somebody")
    add.add_argument("address", metavar="ADDRESS", nargs="+", help=_WHOM)
    _add_scope(add)
    add.add_argument("--cause", default="manual", help="hard-bounce, complaint, unsubscribe, stop or manual")
    add.add_argument("--evidence", default="", metavar="TEXT", help="why, for whoever asks")
    add.add_argument("--until", default="", metavar="TIME", help='a date, or a duration such as "90d"; for good')
    add.set_defaults(run=_add)

    find = actions.add_parser("find", help="what is known of somebody; status 1 if he may be sent to")
    find.add_argument("address", metavar="ADDRESS", help=_WHOM)
    find.add_argument("--history", action="store_true", help="also what holds no longer")
    add_json(find)
    find.set_defaults(run=_find)

    remove = actions.add_parser("remove", help="send again; that it was not wanted stays in the history")
    remove.add_argument("address", metavar="ADDRESS", nargs="+", help=_WHOM)
    remove.add_argument("--reason", required=True, metavar="TEXT", help="becomes an event, and stays in the table")
    _add_scope(remove, "only in this scope; without any, in all of them")
    remove.set_defaults(run=_remove)

    erase = actions.add_parser("erase", help="forget somebody but for a keyed hash, which still suppresses")
    erase.add_argument("address", metavar="ADDRESS", nargs="+", help=_WHOM)
    erase.set_defaults(run=_erase)

    taking = actions.add_parser("import", help="add what a file lists: CSV with a header, JSON lines, or addresses")
    taking.add_argument("file", metavar="FILE", help='"-": standard input')
    taking.add_argument("--rejected", metavar="FILE", help="where lines go that cannot be read; cut after 64 KiB")
    taking.add_argument("--cause", default="", help="of lines that name none")
    _add_scope(taking, "of lines that name none")
    add_json(taking)
    taking.set_defaults(run=_import)

    export = actions.add_parser("export", help="write all of it as CSV, for import elsewhere")
    export.add_argument("file", metavar="FILE", help='that is not there yet, or a pipe; "-": standard output')
    export.add_argument("--channel", default="", choices=("mail", "sms"), help="only this")
    export.add_argument("--cause", default="", help="only this")
    export.add_argument("--json", action="store_true", help="JSON lines instead")
    export.set_defaults(run=_export)

    for action in (add, find, remove, erase, taking, export):
        add_config(action)


def _add_scope(parser: argparse.ArgumentParser, text: str = "only what this tenant sends, or one stream") -> None:
    parser.add_argument("--tenant", default="", metavar="NAME", help=text)
    parser.add_argument("--stream", default="", metavar="NAME", help="the same; of SMS a sender id, without a tenant")


def _add(args: argparse.Namespace) -> int:
    from engine.storage.tables.suppression_records import from_record

    now, who = time.time(), operator()
    record = {name: getattr(args, name) for name in ("tenant", "stream", "cause", "evidence", "until")}
    with open_table(args) as table:
        rows = []
        for address in args.address:
            with _usage():
                rows.append(from_record({**record, "address": address}, table.hasher, now, who))
        for row in rows:
            event = now, row.address, f"suppressed ({_scope(row)}): {row.cause}, by {who}: {row.evidence}".rstrip(": ")
            added = table.add([row], event)
            print(f"{row.address}: {'suppressed' if added else 'suppressed already'}")
    return 0


def _find(args: argparse.Namespace) -> int:
    from engine.storage.tables.suppression import SMS
    from engine.storage.tables.suppression_records import parse_address, to_record

    with _usage():
        channel, address = parse_address(args.address, SMS)
    with open_table(args) as table:
        person = table.hasher.person(channel, address)
        held = table.held(person, time.time())
        known = table.history(person) if args.history else [(row, False) for row in held]
        rows = [{**to_record(row, table.hasher), "lifted": lifted} for row, lifted in known]
    columns = (*_COLUMNS, "lifted") if args.history else _COLUMNS
    if rows or args.json:
        print_rows(rows, args.json, columns)
    if not held and not args.json:
        print(f"{escape(address)} is not suppressed")
    return 0 if held else 1


def _remove(args: argparse.Namespace) -> int:
    from engine.storage.tables.suppression import SMS
    from engine.storage.tables.suppression_records import parse_address, parse_scope

    now, who, missing = time.time(), operator(), 0
    if not args.reason.strip():
        raise UsageError(["--reason: why?"])
    with open_table(args) as table:
        for text in args.address:
            with _usage():
                channel, address = parse_address(text, SMS)
                scope = parse_scope(channel, args.tenant, args.stream)
            held = table.held(table.hasher.person(channel, address), now)
            found = [row for row in held if scope == ("", "") or scope == (row.tenant, row.stream)]
            if found:
                # Of somebody erased nothing is written that names him.
                named = next((row.address for row in found), "")
                rows = [replace(row, since=now, until=0.0, evidence=args.reason, who=who) for row in found]
                scopes = ", ".join(map(_scope, found))
                table.lift(rows, (now, named, f"suppression removed ({scopes}), by {who}: {args.reason}"))
                print(f"{address}: not suppressed any more ({scopes})")
            else:
                missing += 1
                print(f"postrider: {address} is not suppressed", file=sys.stderr)
    return 1 if missing else 0


def _erase(args: argparse.Namespace) -> int:
    from engine.storage.tables.suppression import SMS
    from engine.storage.tables.suppression_records import parse_address

    with open_table(args) as table:
        with _usage():
            people = [parse_address(text, SMS) for text in args.address]
        for channel, address in people:
            table.erase(channel, address, time.time(), operator())
            print(f"{address}: erased; suppressed by its hash")
    return 0


def _import(args: argparse.Namespace) -> int:
    from engine.cli.suppress_files import Reader
    from engine.storage.tables.suppression_records import from_record, parse_cause

    now, who = time.time(), operator()
    defaults = {name: value for name in ("tenant", "stream", "cause") if (value := getattr(args, name))}
    if args.cause:
        with _usage():
            parse_cause(args.cause)
    added = good = bad = gone = 0
    batch: list[Suppression] = []
    with open_table(args) as table, _reading(args.file) as stream, _rejecting(args.rejected) as rejected:
        reader = Reader(stream)
        erased = table.erased()

        def flush() -> None:
            nonlocal added
            lines = f"lines {begun} to {number}"
            try:
                added += table.add(batch, (now, "", f"suppressions imported from {args.file}, {lines}, by {who}"))
            except StorageError as exc:
                raise StorageError(f"{exc}; taken is what comes before line {begun}") from exc
            batch.clear()

        begun = number = 0
        for number, raw, record, why in reader:
            begun = begun if batch else number
            try:
                if record is None:
                    raise ValueError(why)
                row = from_record(_with(defaults, record), table.hasher, now, who)
                good += 1
                if row.address and erased and _is_erased(table, erased, row):
                    gone += 1
                    if gone <= _MOST_SHOWN:
                        print(escape(f"{args.file}:{number}: was erased: suppressed by the hash"), file=sys.stderr)
                    continue
                batch.append(row)
            except ValueError as exc:
                bad += 1
                if bad <= _MOST_SHOWN:
                    print(escape(f"{args.file}:{number}: {exc}"), file=sys.stderr)
                if rejected is not None:
                    rejected.write(raw if raw.endswith(b"\n") else raw + b"\n")
            if len(batch) == _BATCH_ROWS:
                flush()
        flush()
    if gone > _MOST_SHOWN:
        print(f"postrider: {gone - _MOST_SHOWN} more who were erased are not shown", file=sys.stderr)
    if bad > _MOST_SHOWN:
        print(f"postrider: {bad - _MOST_SHOWN} more bad lines are not shown", file=sys.stderr)
    if reader.ignored:
        print(f"postrider: columns that say nothing here: {escape(', '.join(reader.ignored))}", file=sys.stderr)
    if args.json:
        print_json([{"added": added, "already": good - added, "bad": bad}])
    else:
        print(f"import: {added} suppressed, {good - added} already; {counted(bad, 'bad line')}")
    return 1 if bad else 0


def _export(args: argparse.Namespace) -> int:
    from engine.cli.suppress_files import Writer
    from engine.storage.tables.suppression_records import parse_cause, to_record

    if args.cause and args.cause != "erased":
        with _usage():
            parse_cause(args.cause)
    count = 0
    with open_table(args) as table, _writing(args.file) as stream:
        writer = Writer(stream, args.json)
        for row in table.all_held(time.time(), args.channel, args.cause):
            writer.write(to_record(row, table.hasher))
            count += 1
    print(f"export: {counted(count, 'suppression')}", file=sys.stderr if _is_stdout(args.file) else sys.stdout)
    return 0


# ---- what `postrider sms optout` has, too


@contextmanager
def open_table(args: argparse.Namespace) -> "Iterator[SuppressionTable]":
    """The table of the data directory that the settings name. Raises EngineError."""
    from engine.storage.tables.suppression_table import SuppressionTable

    data_dir = Path(settings_of(args).node.data_dir)
    if not data_dir.is_dir():
        data_dir.mkdir(mode=0o700, parents=True)
    table = SuppressionTable(data_dir)
    try:
        yield table
    finally:
        table.close()


def operator() -> str:
    """Who is at the terminal."""
    with contextlib.suppress(KeyError, OSError):
        return os.environ.get("SUDO_USER") or getpass.getuser()
    return f"uid {os.getuid()}"


# ---- inside


def _is_erased(table: "SuppressionTable", erased: set[int], row: "Suppression") -> bool:
    person = table.hasher.person_of(row)
    return person in erased and table.is_erased(person)


def _scope(row: "Suppression") -> str:
    """For people."""
    return ", ".join(f"{kind} {name}" for kind, name in (("tenant", row.tenant), ("stream", row.stream)) if name) or (
        "everything"
    )


def _with(defaults: dict[str, str], record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The scope of a line is its own as a whole, if it has any."""
    if record.get("tenant") or record.get("stream"):
        defaults = {"cause": defaults["cause"]} if "cause" in defaults else {}
    return {**record, **{name: value for name, value in defaults.items() if not record.get(name)}}


@contextmanager
def _usage() -> Iterator[None]:
    try:
        yield
    except ValueError as exc:
        raise UsageError([str(exc)]) from exc


@contextmanager
def _reading(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = open(name, "rb")  # noqa: SIM115  # closed below
    except OSError as exc:
        raise EngineError(f"cannot read {name}: {exc.strerror}") from exc
    with stream:
        yield stream


@contextmanager
def _rejecting(name: str | None) -> Iterator[IO[bytes] | None]:
    if name is None:
        yield None
        return
    with _new_file(name) as fd, open(fd, "wb") as stream:
        yield stream


@contextmanager
def _writing(name: str) -> Iterator[IO[str]]:
    if _is_stdout(name):
        yield sys.stdout
        sys.stdout.flush()
        return
    with _new_file(name) as fd, open(fd, "w", encoding="utf-8", newline="") as stream:
        yield stream
        stream.flush()
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.fsync(fd)


def _is_stdout(name: str) -> bool:
    """Also by its path: /dev/stdout, wherever that leads."""
    try:
        return name == "-" or os.path.samestat(os.stat(name), os.fstat(1))
    except OSError:
        return False


@contextmanager
def _new_file(name: str) -> Iterator[int]:
    """Addresses of people: mode 0600; or a pipe, a terminal, ... that is there. Raises EngineError: it cannot be made,
    or written."""
    try:
        there = os.path.exists(name) and not stat.S_ISREG(os.stat(name).st_mode)
        yield os.open(name, os.O_WRONLY | os.O_CLOEXEC | (0 if there else os.O_CREAT | os.O_EXCL), 0o600)
    except OSError as exc:
        raise EngineError(f"cannot write {name}: {exc.strerror}") from exc
