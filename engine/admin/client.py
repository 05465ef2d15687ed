"""The other end of the operator's door, for the command line."""

import contextlib
import json
import select
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from engine.admin.door import SOCKET_NAME
from engine.base.errors import EngineError


class NotRunning(EngineError):
    """No daemon answers."""


def ask(
    data_dir: Path, command: str, *, body: Callable[[], Iterable[bytes]] | None = None, **arguments: Any
) -> Iterator[dict[str, Any]]:
    """The rows a running daemon answers. Raises EngineError: it is not running, or says why it cannot.

    body: what is sent behind the request; called once the request is sent.
    """
    path = data_dir / SOCKET_NAME
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(str(path))
        except OSError as exc:
            raise NotRunning(f"the daemon does not answer at {path}: {exc.strerror or exc}") from exc
        connection.sendall(json.dumps({"command": command, "arguments": arguments}).encode() + b"\n")
        # It may refuse in the middle of a body; its answer says why.
        if body is not None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for piece in body():
                    if select.select([connection], [], [], 0)[0]:
                        break
                    connection.sendall(piece)
                connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as answers:
            for line in answers:
                answer = json.loads(line)
                if "row" in answer:
                    yield answer["row"]
                elif "error" in answer:
                    raise EngineError(answer["error"])
                else:
                    return
    raise EngineError("the daemon went away in the middle of its answer")
