"""The other end of the operator's door, for the command line."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.admin.door import SOCKET_NAME
from engine.base.errors import EngineError


def ask(data_dir: Path, command: str, **arguments: Any) -> Iterator[dict[str, Any]]:
    """The rows a running daemon answers. Raises EngineError: it is not running, or says why it cannot."""
    path = data_dir / SOCKET_NAME
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(str(path))
        except OSError as exc:
            raise EngineError(f"the daemon does not answer at {path}: {exc.strerror}") from exc
        connection.sendall(json.dumps({"command": command, "arguments": arguments}).encode() + b"\n")
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
