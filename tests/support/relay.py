"""The most common stage of a scenario: one engine, one test MX, and everything goes from the one to the other."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from tests.support.engine import Daemon, Sink, daemon, sink


def route(address: str, domain: str = "*", **more: object) -> str:
    """TOML of a static route to this relay. more: its other keys."""
    rows = {"domain": domain, "relay": address, **more}
    return "[[route]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in rows.items()) + "\n"


@contextlib.contextmanager
def relayed(
    path: Path, *options: str, more: str = "", workers: int = 1, **limits: object
) -> Iterator[tuple[Daemon, Sink]]:
    """An engine and the sink that takes all its mail. options: of the sink; more: TOML; limits: keys of the route."""
    with contextlib.ExitStack() as stack:
        receiver = stack.enter_context(sink(path / "sink", *options))
        settings = f"{more}\n{route(receiver.address, **limits)}"
        yield stack.enter_context(daemon(path / "engine", settings, workers=workers)), receiver
