"""The operator's door: a Unix socket in data_dir, mode 0600. One JSON object in, one JSON object a row out.

{"command": "queues", "arguments": {}}  ->  {"row": {...}} ... {"end": true}  or  {"error": "...", "unknown": true}

unknown: what the command names is not here; with several workers it may be at another. Behind a request with a body
come its bytes, up to the end of what the operator sends.
"""

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from engine.base.errors import EngineError, StorageError

log = logging.getLogger(__name__)

#: A request is a command with a few words.
_MAX_REQUEST_BYTES = 64 << 10
_READ_TIMEOUT_S = 10.0

#: What answers a command: called with its arguments, gives rows.
Command = Callable[..., AsyncIterator[dict[str, Any]]]

#: Those that are called with a body, too: the reader comes before the arguments.
WITH_BODY = frozenset(("spool_import", "spool_purge", "spool_queued"))


class AdminServer:
    """Answers operators at one socket."""

    def __init__(self, commands: Mapping[str, Command], path: Path) -> None:
        self._commands = commands
        self._path = path
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. The data directory's lock is ours, so a socket that is there is a dead one's. StorageError."""
        try:
            self._path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=_MAX_REQUEST_BYTES)
            os.chmod(self._path, 0o600)
        except OSError as exc:
            raise StorageError(f"cannot listen on {self._path}: {exc.strerror or exc}") from exc

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_READ_TIMEOUT_S):
                line = await reader.readline()
            await self._answer(line, reader, writer)
        except (ConnectionError, TimeoutError, ValueError):
            log.debug("an operator's connection ended early")
        finally:
            writer.close()

    async def _answer(self, line: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with_body = False
        try:
            request = json.loads(line)
            name, arguments = request["command"], request.get("arguments", {})
            command = self._commands[name]
            with_body = name in WITH_BODY
            rows = command(reader, **arguments) if with_body else command(**arguments)
            async for row in rows:
                writer.write(json.dumps({"row": row}).encode() + b"\n")
                await writer.drain()
            answer: dict[str, Any] = {"end": True}
        except EngineError as exc:
            # Faults of disk and settings have classes of their own.
            answer = {"error": str(exc), "unknown": type(exc) is EngineError}
        except TimeoutError:
            answer = {"error": "the rest of it did not come in time"}
        except (KeyError, TypeError, ValueError) as exc:
            answer = {"error": f"not a request of ours: {exc}"}
        except ConnectionError:
            raise  # nobody is there to be told
        except Exception as exc:  # top of a task: the operator is told, the trace is in the log
            log.exception("an operator's command failed: %r", line[:200])
            answer = {"error": f"internal error: {exc!r}"}
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()
        if with_body:
            await self._pass_over(reader)

    async def _pass_over(self, body: asyncio.StreamReader) -> None:
        """What is still sent of a body: were it left unread, the end of the connection could overtake our answer."""
        async with asyncio.timeout(_READ_TIMEOUT_S):
            while await body.read(_MAX_REQUEST_BYTES):
                pass
