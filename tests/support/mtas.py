"""Mail servers nobody here wrote, as relays that must write bounces: each passes what it is given on to one MX, which
refuses most of it, and returns the rest to the sender by the same way.

Exim, OpenSMTPD and Sendmail are Debian's packages, which cannot be installed beside Postfix: tests/support/packages.sh
unpacks them into build/mtas. They insist on paths and users of the system, and get their own in a mount namespace of
their own.
"""

import os
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.support.ports import free_port
from tests.support.postfix import Postfix, wait_for_port

ROOT = Path(__file__).parents[2] / "build" / "mtas"
_LIBRARIES = ":".join(str(path) for path in ROOT.glob("usr/lib/*-linux-gnu*"))
_ENVIRONMENT = {**os.environ, "LD_LIBRARY_PATH": _LIBRARIES}
#: Server -> its program, and what keeps it in the foreground.
_PROGRAMS = {
    "exim": ("usr/sbin/exim4", "-bdf"),
    "opensmtpd": ("usr/sbin/smtpd", "-d -f {folder}/etc/smtpd.conf"),
    "sendmail": ("usr/libexec/sendmail/sendmail", "-C /var/lib/sendmail/sendmail.cf -bD"),
}
#: What lies in the server's folder -> where the server finds it.
_OVER = {
    "spool": "/var/spool",
    "lib": "/var/lib",
    "run": "/run",
    "etc/passwd": "/etc/passwd",
    "etc/group": "/etc/group",
    "etc/hosts": "/etc/hosts",
    "etc/nsswitch.conf": "/etc/nsswitch.conf",
}
SENDER = "return@home.test"
#: Recipient -> what the MX says at RCPT. Everyone else is welcome.
REPLIES = {
    "nobody@refused.test": "550 5.1.1 <nobody@refused.test>: no such user here",
    "plain@refused.test": "550 unknown user",
    "full@refused.test": "552 5.2.2 the mailbox is full",
    "blocked@refused.test": "554 5.7.1 Client host [127.0.0.1] blocked using zen.spamhaus.org",
    "lines@refused.test": "550-5.1.1 The email account that you tried to reach\r\n550 5.1.1 does not exist",
}
_USERS = (("opensmtpd", 990), ("opensmtpq", 991), ("Debian-exim", 992))
_EXIM = """
exim_path = /var/lib/exim4/exim
spool_directory = /var/spool/exim4
log_file_path = /var/spool/exim4/log-%s
primary_hostname = mx.exim.test
exim_user = Debian-exim
exim_group = Debian-exim
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
tls_advertise_hosts =
acl_smtp_rcpt = all
deliver_drop_privilege = true
begin acl
all:
  accept
begin routers
out:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = out
begin transports
out:
  driver = smtp
  port = {mx}
  allow_localhost
begin retry
* * F,1h,1m
"""
_OPENSMTPD = """
listen on 127.0.0.1 port {port} hostname mx.opensmtpd.test
action "out" relay host smtp://127.0.0.1:{mx}
match from any for any action "out"
"""
# Sendmail looks up every name it meets, and gives mail to port 25: nothing here may ask the DNS or the machine's load.
_SENDMAIL = """
OSTYPE(`linux')dnl
define(`confDOMAIN_NAME', `mx.sendmail.test')dnl
define(`confSERVICE_SWITCH_FILE', `/var/lib/sendmail/service.switch')dnl
define(`confPID_FILE', `/var/lib/sendmail/pid')dnl
define(`ALIAS_FILE', `')dnl
define(`confQUEUE_LA', `10000')dnl
define(`confREFUSE_LA', `10000')dnl
define(`SMART_HOST', `relay:[127.0.0.1]')dnl
define(`RELAY_MAILER_ARGS', `TCP $h {mx}')dnl
FEATURE(`no_default_msa')dnl
DAEMON_OPTIONS(`Name=MTA, Addr=127.0.0.1, Port={port}')dnl
FEATURE(`nocanonify')dnl
FEATURE(`accept_unresolvable_domains')dnl
FEATURE(`promiscuous_relay')dnl
MAILER(`local')dnl
MAILER(`smtp')dnl
"""


class Mx:
    """Refuses as REPLIES say; keeps what it accepts, and says when there is enough."""

    def __init__(self) -> None:
        self.port = free_port()
        self._contents: list[bytes] = []
        self._came = threading.Condition()

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in REPLIES:
            return REPLIES[address]
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        with self._came:
            self._contents.append(envelope.content)
            self._came.notify_all()
        return "250 ok"

    def wait_for(self, enough: Callable[[list[bytes]], bool], seconds: float = 30.0) -> list[bytes]:
        """The messages, once they are enough."""
        with self._came:
            done = self._came.wait_for(lambda: enough(self._contents), seconds)
            assert done, f"only {len(self._contents)} messages came back"
            return list(self._contents)

    @contextmanager
    def running(self) -> Iterator["Mx"]:
        controller = Controller(self, hostname="127.0.0.1", port=self.port, server_hostname="mx.refused.test")
        controller.start()
        try:
            yield self
        finally:
            controller.stop()


@contextmanager
def relay(name: str, mx: int) -> Iterator[int]:
    """The port of a server ("postfix", "exim", "opensmtpd", "sendmail") that gives everything to this MX."""
    if name == "postfix":
        way = f"smtp:[127.0.0.1]:{mx}"
        settings = f"transport_maps = inline:{{ {{ refused.test = {way} }}, {{ home.test = {way} }} }}"
        with Postfix(extra=settings) as postfix:
            yield postfix.port
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{name}-", ignore_cleanup_errors=True)))
        port = free_port()
        _lay_down(folder, name, port, mx)
        process = _start(folder, name)
        try:
            wait_for_port(port, process, folder / "log")
            yield port
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)


def _lay_down(folder: Path, name: str, port: int, mx: int) -> None:
    """Settings, users, and the folders a package would have made."""
    folder.chmod(0o711)
    made = "etc run spool/smtpd spool/exim4 spool/mqueue lib/opensmtpd/empty lib/exim4 lib/sendmail"
    for each in made.split():
        (folder / each).mkdir(parents=True)
    (folder / "spool/smtpd").chmod(0o711)
    os.chown(folder / "spool/exim4", 992, 992)
    for file in ("passwd", "group"):
        text = Path("/etc", file).read_text()
        for user, number in _USERS:
            text += f"{user}:x:{number}:" + (
                f"{number}::/nonexistent:/usr/sbin/nologin\n" if file == "passwd" else "\n"
            )
        (folder / "etc" / file).write_text(text)
    values = {"port": port, "mx": mx}
    # Exim runs itself to write a bounce, with nothing left in its environment.
    again = folder / "lib/exim4/exim"
    again.write_text(
        f'#!/bin/sh\nexport LD_LIBRARY_PATH={_LIBRARIES}\nexec {shlex.quote(str(ROOT / "usr/sbin/exim4"))} "$@"\n'
    )
    again.chmod(0o755)
    (folder / "lib/exim4/config.autogenerated").write_text(_EXIM.format(**values))
    (folder / "etc/smtpd.conf").write_text(_OPENSMTPD.format(**values))
    (folder / "etc/hosts").write_text(f"127.0.0.1 mx.{name}.test localhost\n")
    (folder / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\n")
    (folder / "lib/sendmail/service.switch").write_text("hosts files\naliases files\n")
    (folder / "lib/sendmail/sendmail.mc").write_text(_SENDMAIL.format(**values))


def _configure_sendmail(folder: Path) -> None:
    """sendmail.cf, as Sendmail's own macros write it."""
    cf = ROOT / "usr/share/sendmail/cf"
    made = subprocess.run(
        [ROOT / "usr/bin/m4", f"-D_CF_DIR_={cf}/", cf / "m4/cf.m4", folder / "lib/sendmail/sendmail.mc"],
        env=_ENVIRONMENT, capture_output=True, check=True,
    )  # fmt: skip
    (folder / "lib/sendmail/sendmail.cf").write_bytes(made.stdout)


def _start(folder: Path, name: str) -> "subprocess.Popen[bytes]":
    program, options = _PROGRAMS[name]
    if not (ROOT / program).exists():
        raise RuntimeError(f"{ROOT / program} is missing; tests/support/packages.sh unpacks it")
    if name == "sendmail":
        _configure_sendmail(folder)
    steps = [f"hostname mx.{name}.test"]
    steps += [f"mount --bind {shlex.quote(str(folder / own))} {path}" for own, path in _OVER.items()]
    steps.append(f"exec {shlex.quote(str(ROOT / program))} {options.format(folder=shlex.quote(str(folder)))}")
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            ["unshare", "-m", "-u", "sh", "-c", " && ".join(steps)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env=_ENVIRONMENT, start_new_session=True,
        )  # fmt: skip
