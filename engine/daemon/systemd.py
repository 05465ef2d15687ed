"""What the daemon tells systemd (sd_notify(3)): ready, reloading, stopping, alive, and a line for `systemctl status`.

Messages are datagrams to the socket named by $NOTIFY_SOCKET; without it (a terminal, a test) nothing is sent.
Nothing here raises or blocks: a daemon does not die because its supervisor does not listen.
"""

import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    """One per daemon. environ: where systemd left its variables, os.environ in the program."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        path = environ.get("NOTIFY_SOCKET", "")
        # "@name" is a socket in the abstract namespace; other kinds (vsock) are of no use on one machine.
        self._address = "\0" + path[1:] if path.startswith("@") else path if path.startswith("/") else ""
        self.watchdog_interval_s = _watchdog_interval(environ)

    def ready(self, status: str = "") -> bool:
        """Start-up, or the reload announced before, is done. True if the line was taken, as for all below."""
        return self._send("READY=1", status)

    def reloading(self) -> bool:
        """A reload begins; `ready` ends it. The time lets systemd tell this reload from an earlier one."""
        return self._send("RELOADING=1", "", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str = "") -> bool:
        return self._send("STOPPING=1", status)

    def alive(self) -> bool:
        """The watchdog's sign of life: to be sent every `watchdog_interval_s`."""
        return self._send("WATCHDOG=1")

    def status(self, text: str) -> bool:
        """One line about what the daemon does, for people."""
        return self._send("", text)

    def _send(self, state: str, status: str = "", *more: str) -> bool:
        if not self._address:
            return False
        lines = [state, "STATUS=" + " ".join(status.split()) if status else "", *more]
        data = "\n".join(line for line in lines if line).encode()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                return sock.sendto(data, self._address) == len(data)
        except OSError:
            return False


def _watchdog_interval(environ: Mapping[str, str]) -> float | None:
    """Half of what systemd allows between two signs of life (sd_watchdog_enabled(3)); None: it does not watch us."""
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or int(usec) == 0:
        return None
    if pid and pid != str(os.getpid()):
        return None
    return int(usec) / 2_000_000
