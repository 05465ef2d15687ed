"""What the daemon tells systemd, received by a real datagram socket; and what the unit file promises."""

import configparser
import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.daemon.systemd import Notifier

UNITS = Path(__file__).parents[2] / "systemd"


@contextlib.contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address)
        sock.setblocking(False)
        yield sock


@pytest.fixture(params=["path", "abstract"])
def supervised(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, Notifier]]:
    name = f"postrider-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    address, variable = ("\0" + name, "@" + name) if request.param == "abstract" else (name, name)
    with listening(address) as sock:
        yield sock, Notifier({"NOTIFY_SOCKET": variable})


def test_every_message_arrives_whole(supervised: tuple[socket.socket, Notifier]) -> None:
    sock, notifier = supervised
    assert notifier.ready("listening on 127.0.0.1:2525")
    assert sock.recv(500) == b"READY=1\nSTATUS=listening on 127.0.0.1:2525"
    assert notifier.reloading()
    state, _, usec = sock.recv(500).partition(b"\nMONOTONIC_USEC=")
    assert state == b"RELOADING=1"
    assert usec.isdigit()
    assert notifier.stopping()
    assert sock.recv(500) == b"STOPPING=1"
    assert notifier.alive()
    assert sock.recv(500) == b"WATCHDOG=1"
    assert notifier.status("3 queued")
    assert sock.recv(500) == b"STATUS=3 queued"


def test_a_status_cannot_smuggle_in_another_assignment(tmp_path: Path) -> None:
    with listening(str(tmp_path / "notify")) as sock:
        Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}).status("one\nMAINPID=1")
        assert sock.recv(500) == b"STATUS=one MAINPID=1"


@pytest.mark.parametrize("path", ["", "/nonexistent/notify", "vsock:2:1234", "relative"])
def test_nobody_listening_is_no_trouble(path: str) -> None:
    assert not Notifier({"NOTIFY_SOCKET": path}).ready()


def test_a_supervisor_that_does_not_read_blocks_nobody(tmp_path: Path) -> None:
    """The kernel holds a few datagrams for the reader; the next are dropped, not waited for."""
    with listening(str(tmp_path / "notify")):
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert not all(notifier.alive() for _ in range(100_000))


def test_watchdog_interval_is_half_of_what_systemd_allows() -> None:
    assert Notifier({"WATCHDOG_USEC": "30000000"}).watchdog_interval_s == 15
    assert Notifier({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}).watchdog_interval_s == 15


@pytest.mark.parametrize(
    "environ",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}],
)
def test_no_watchdog(environ: dict[str, str]) -> None:
    assert Notifier(environ).watchdog_interval_s is None


def unit(name: str = "postrider") -> dict[str, list[str]]:
    """Keys of the [Service] section; a key may come several times."""

    class Several(dict):  # type: ignore[type-arg]  # what configparser asks of a dict_type
        def __setitem__(self, key: str, value: object) -> None:
            if isinstance(value, list) and isinstance(self.get(key), list):
                self[key].extend(value)
            else:
                super().__setitem__(key, value)

    parser = configparser.RawConfigParser(strict=False, dict_type=Several, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep the case
    parser.read_string((UNITS / f"{name}.service").read_text())
    return {key: value.split("\n") for key, value in parser["Service"].items()}


def test_unit_runs_the_daemon_under_watch() -> None:
    service = unit()
    assert service["Type"] == ["notify"]
    assert service["ExecStart"] == ["/usr/local/bin/postrider serve -c /usr/local/etc/postrider/postrider.toml"]
    assert service["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert service["Restart"] == ["on-failure"]
    assert service["SystemCallFilter"][-1] == "sched_setscheduler", "the program may schedule itself in batches"
    assert int(service["WatchdogSec"][0].removesuffix("s")) >= 10
    assert int(service["TimeoutStopSec"][0].removesuffix("s")) > 30, "the daemon takes up to 30 s to finish"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("User", "postrider"),
        ("UMask", "0077"),
        ("StateDirectory", "postrider"),
        ("StateDirectoryMode", "0700"),
        ("NoNewPrivileges", "yes"),
        ("AmbientCapabilities", "CAP_NET_BIND_SERVICE"),
        ("CapabilityBoundingSet", "CAP_NET_BIND_SERVICE"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("PrivateTmp", "yes"),
        ("PrivateDevices", "yes"),
        ("MemoryDenyWriteExecute", "yes"),
        ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
    ],
)
def test_units_are_sandboxed(key: str, value: str) -> None:
    assert unit()[key] == unit("postrider-redirect")[key] == [value]


def test_the_redirector_has_a_unit_of_its_own() -> None:
    service = unit("postrider-redirect")
    assert service["ExecStart"] == ["/usr/local/bin/postrider redirect -c /usr/local/etc/postrider/postrider.toml"]
    assert service["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert "WatchdogSec" not in service, "it gives no signs of life"
