"""`postrider spool status|verify|export|import|purge|compact`: what the queue's files hold, and moving a backlog.

verify and export only read, whether the daemon runs or not; the others ask it if it runs, and all but purge do without.
A node with several workers has several spools: each of these is about all of them.
"""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from engine.admin.client import NotRunning, ask
from engine.base.errors import EngineError
from engine.base.settings import Settings
from engine.base.units import counted
from engine.cli.common import Commands, add_config, add_json, how_many, print_json, print_rows, settings_of

Row = dict[str, Any]

_PIECE_BYTES = 1 << 20
_SCOPE = "a domain, a message id, tenant:NAME, batch:NAME, class:transactional, class:bulk; all without it"
_FOLDER_COLUMNS = ("folder", "deliveries", "recipients", "files", "bytes", "side_bytes", "dead")
_READ, _WRITTEN = "a file; - for standard input", "a file; - for standard output"


def register(commands: Commands) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser("spool", help="the queue's files: look, check, move elsewhere", description=__doc__)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    status = _action(actions, "status", "what is in the files, and what they take", _status)
    status.add_argument("-n", "--limit", type=how_many, default=10, help="destination folders to show (10)")
    _action(
        actions, "verify", "read every record and follow every reference; exit status 1 if there is a fault", _verify
    )
    export = _action(actions, "export", "write what is queued as a stream that another node's import takes", _export)
    export.add_argument("--scope", default="*", metavar="SCOPE", help=_SCOPE)
    export.add_argument("file", metavar="FILE", help=f"{_WRITTEN}; never overwritten")
    taking = _action(actions, "import", "take in a stream of another node; what is queued already is left out", _import)
    taking.add_argument("file", metavar="FILE", help=_READ)
    gone = _action(actions, "purge", "remove exactly what an export has, once another node took it", _purge)
    gone.add_argument("file", metavar="FILE", help=_READ)
    _action(actions, "compact", "move and compact now what is worth it", _compact)


def _action(actions: Commands, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=text)
    add_config(parser)
    add_json(parser)
    parser.set_defaults(run=run)
    return parser


def _status(args: argparse.Namespace) -> int:
    from engine.daemon.offline import survey

    settings = settings_of(args)
    row = _asked(settings, "spool_status", lambda: survey(settings, args.limit), most=args.limit)
    if args.json:
        print_json([row])
        return 0
    folders, fields = row.pop("folders"), dict[str, Any]()
    for key, value in row.items():
        nested = value if isinstance(value, dict) else {"": value}
        fields.update({f"{key}_{name}".rstrip("_"): part for name, part in nested.items()})
    print_rows(({"field": key, "value": value} for key, value in fields.items()), False, ("field", "value"))
    if folders:
        print()
        print_rows(folders, False, _FOLDER_COLUMNS)
    return 0


def _verify(args: argparse.Namespace) -> int:
    from engine.daemon.offline import verify

    found = verify(settings_of(args))
    if args.json:
        print_json([{"faults": found.faults, "notes": found.notes, **found.counts}])
        return 1 if found.faults else 0
    for fault in found.faults:
        print(fault)
    for note in found.notes:
        print(f"note: {note}")
    print(", ".join(f"{name} {count}" for name, count in sorted(found.counts.items())))
    print(counted(len(found.faults), "fault") if found.faults else "whole")
    return 1 if found.faults else 0


def _export(args: argparse.Namespace) -> int:
    from engine.daemon.offline import exporting

    if args.file == "-" and sys.stdout.isatty():
        raise EngineError("a stream of messages does not go to a terminal; name a file")
    with exporting(settings_of(args), args.scope) as (extract, pieces):
        if args.file == "-":
            _print(pieces)
        else:
            _write_new(Path(args.file), pieces)
    for problem in extract.problems:
        print(f"postrider: not exported: {problem}", file=sys.stderr)
    row = {"deliveries": extract.count, "recipients": extract.recipients, "unreadable": len(extract.problems)}
    if args.json and args.file != "-":
        print_json([row])
    else:
        told = sys.stderr if args.file == "-" else sys.stdout
        print(f"export: {counted(extract.count, 'delivery')}, {counted(extract.recipients, 'recipient')}", file=told)
    return 1 if extract.problems else 0


def _import(args: argparse.Namespace) -> int:
    from engine.daemon.offline import take_in

    settings = settings_of(args)
    with _opened(args.file) as stream:
        _check(stream)
        row = _asked(settings, "spool_import", lambda: take_in(settings, _pieces(stream)), body=lambda: _pieces(stream))
    if args.json:
        print_json([row])
    else:
        print(f"import: {counted(row['taken'], 'delivery')} from {row['owner']}; {row['left_out']} queued already")
    return 0


def _purge(args: argparse.Namespace) -> int:
    with _opened(args.file) as stream:
        _check(stream)
        [row] = ask(Path(settings_of(args).node.data_dir), "spool_purge", body=lambda: _pieces(stream))
    if args.json:
        print_json([row])
    else:
        left = f"; {row['in_attempt']} in an attempt just now: say it again" if row["in_attempt"] else ""
        print(f"purge: {counted(row['deliveries'], 'delivery')}{left}")
    return 0


def _compact(args: argparse.Namespace) -> int:
    from engine.daemon.offline import compact

    settings = settings_of(args)
    row = _asked(settings, "spool_compact", lambda: compact(settings))
    if args.json:
        print_json([row])
    else:
        print(f"compact: {row['bytes_before']} bytes before, {row['bytes_after']} after")
    return 0


def _asked(settings: Settings, command: str, otherwise: Callable[[], Row], **arguments: Any) -> Row:
    """The daemon's answer; if none runs, what is done without."""
    try:
        [row] = ask(Path(settings.node.data_dir), command, **arguments)
    except NotRunning:
        return otherwise()
    return row


# ---- files


def _write_new(path: Path, pieces: Iterable[bytes]) -> None:
    """A new file of mode 0600, on disk when this returns; none if something fails."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise EngineError(f"cannot create {path}: {exc.strerror}") from exc
    try:
        with os.fdopen(descriptor, "wb", buffering=_PIECE_BYTES) as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as exc:
        path.unlink(missing_ok=True)
        if isinstance(exc, OSError):
            raise EngineError(f"cannot write {path}: {exc.strerror}") from exc
        raise


def _print(pieces: Iterable[bytes]) -> None:
    try:
        sys.stdout.buffer.writelines(pieces)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as exc:
        # Or Python would write the rest once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise EngineError(f"cannot write the stream: {exc.strerror}") from exc


@contextlib.contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    if source == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = open(source, "rb")  # noqa: SIM115  # it is closed below, where its own errors are not these
    except OSError as exc:
        raise EngineError(f"cannot open {source}: {exc.strerror}") from exc
    with stream:
        yield stream


def _check(stream: BinaryIO) -> None:
    """Whether all of it is there, before the first message is taken; a pipe can only be seen on the way."""
    from engine.storage.spool.export import StreamReader

    if not stream.seekable():
        return
    start, reader = stream.tell(), StreamReader()
    for piece in _pieces(stream):
        for _ in reader.feed(piece):
            pass
    reader.end()
    stream.seek(start)


def _pieces(stream: BinaryIO) -> Iterator[bytes]:
    try:
        while piece := stream.read1(_PIECE_BYTES):  # type: ignore[attr-defined]  # those that we open have it
            yield piece
    except OSError as exc:
        raise EngineError(f"cannot read the stream: {exc.strerror}") from exc
