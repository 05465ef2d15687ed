"""A program that pulls events, as one of a user would: the standard library's HTTP client."""

import base64
import contextlib
import http.client
import json
import ssl
import threading
import urllib.parse
from typing import Any

from tests.support.engine import PATIENCE_S, Daemon, wait_until

PASSWORD = "päss: word"


def listener(port: int, more: str = "", events: str = "") -> str:
    """TOML of a listener of kind events. more: of its row; events: of [events]."""
    row = f'[[listener]]\nkind = "events"\naddress = "127.0.0.1:{port}"\n{more}\n'
    return f'{row}[events]\nreaders = ["ops"]\n{events}\n'


def basic(login: str, password: str = PASSWORD) -> str:
    return "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()


def add_logins(engine: Daemon, *logins: str) -> None:
    for login in logins:
        engine.run("credential", "add", login, "--password-stdin", stdin=f"{PASSWORD}\n")


class Answer:
    """status, headers (lower case), body; json: of a 200."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()
        self.json: dict[str, Any] = json.loads(self.body) if self.status == 200 else {}

    @property
    def ids(self) -> list[str]:
        return [event["id"] for event in self.json["events"]]

    @property
    def after(self) -> str:
        return str(self.json["after"])


def pull(
    port: int,
    login: str = "ops",
    password: str = PASSWORD,
    *,
    tls: ssl.SSLContext | None = None,
    path: str = "/events",
    method: str = "GET",
    host: str = "127.0.0.1",
    headers: dict[str, str] | None = None,
    **query: object,
) -> Answer:
    """One request on a connection of its own. host: any of 127.0.0.0/8 to come from."""
    source = (host, 0)
    connection = (
        http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S, source_address=source)
        if tls is None
        else http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE_S, source_address=source, context=tls)
    )
    text = f"?{urllib.parse.urlencode(query)}" if query else ""
    try:
        connection.request(
            method, path + text, headers={"Authorization": basic(login, password)} if headers is None else headers
        )
        return Answer(connection.getresponse())
    finally:
        connection.close()


def pull_all(port: int, login: str = "ops", **query: object) -> list[dict[str, Any]]:
    """Everything there is, answer by answer."""
    events: list[dict[str, Any]] = []
    after = str(query.pop("after", ""))
    while True:
        answer = pull(port, login, after=after, **query)
        assert answer.status == 200, answer.body
        events += answer.json["events"]
        after = answer.after
        if not answer.json.get("more"):
            return events


class Reader:
    """A program that asks again and again, whatever becomes of the daemon; ended at the end of `with`."""

    def __init__(self, port: int, login: str = "ops", **query: object) -> None:
        self.port, self.login, self.query = port, login, query
        self.after = ""
        self.events: list[dict[str, Any]] = []
        self.answers: list[Answer] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Reader":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(PATIENCE_S)

    def ids(self) -> list[str]:
        return [event["id"] for event in list(self.events)]

    def _run(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                answer = pull(self.port, self.login, after=self.after, wait=2, **self.query)
                if answer.status == 200:
                    self.events += answer.json["events"]
                    self.after = answer.after
                    self.answers.append(answer)
                    continue
            self._ended.wait(0.05)


def waiting(engine: Daemon, count: int = 1) -> None:
    """Until so many requests wait."""
    wait_until(lambda: gauge(engine, "event_readers") == count, f"{count} readers")


def gauge(engine: Daemon, name: str) -> int:
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{engine.http_port}/metrics", timeout=PATIENCE_S) as answer:
        lines = answer.read().decode().splitlines()
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in lines if line.startswith(f"postrider_{name}"))
