"""A private Postfix: smtpd as a receiver that rejects, defers, and throws away what it accepts.

Needs root and Debian's postfix package; nothing of /etc/postfix is read or written. The master is a child of the
test, in a session of its own, and is ended by its pid. Everything lies in a temporary folder that goes with it.
"""

import grp
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from engine.tools.certificate import self_signed
from tests.support.ports import free_port

_DAEMONS = Path("/usr/lib/postfix/sbin")
_QUEUES = (
    "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "pid", "saved", "trace",
)  # fmt: skip

#: Recipients and senders with a fate; every other one is accepted.
REJECTED = "no-such-user@example.test"
DEFERRED = "greylisted@example.test"
BAD_SENDER = "blocked@sender.test"
SLOW_SENDER = "later@sender.test"
REFUSED_CONTENT = "content-refused@sender.test"
DEFERRED_CONTENT = "content-deferred@sender.test"

_MAIN = """
compatibility_level = 3.6
myhostname = mx.example.test
mydomain = example.test
mydestination = example.test
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = {daemons}
mail_owner = postfix
setgid_group = postdrop
maillog_file = {folder}/maillog
maillog_file_prefixes = {folder}
alias_maps =
local_recipient_maps =
local_transport = discard:
default_transport = discard:
virtual_transport = discard:
relay_transport = discard:
smtpd_peername_lookup = no
smtpd_delay_reject = no
smtpd_sender_restrictions = check_sender_access inline:{{
    {{ {bad_sender} = 550 5.7.1 sender not welcome }}
    {{ {slow_sender} = 451 4.3.5 come back later }} }}
smtpd_recipient_restrictions = check_recipient_access inline:{{
    {{ {rejected} = 550 5.1.1 no such user here }}
    {{ {deferred} = 450 4.2.0 greylisted, try again }} }}, permit_mynetworks, reject
smtpd_end_of_data_restrictions = check_sender_access inline:{{
    {{ {refused_content} = 554 5.7.1 content not welcome }}
    {{ {deferred_content} = 451 4.7.1 greylisted by content }} }}
smtpd_error_sleep_time = 0
smtpd_tls_security_level = {tls}
smtpd_tls_chain_files = {folder}/chain.pem
smtpd_tls_loglevel = 1
{extra}
"""

_MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
cleanup  unix n - n - 0 cleanup
qmgr     unix n - n 300 1 qmgr
rewrite  unix - - n - - trivial-rewrite
bounce   unix - - n - 0 bounce
defer    unix - - n - 0 bounce
trace    unix - - n - 0 bounce
discard  unix - - n - - discard
smtp     unix - - n - - smtp
error    unix - - n - - error
retry    unix - - n - - error
anvil    unix - - n - 1 anvil
tlsmgr   unix - - n 1000? 1 tlsmgr
proxymap unix - - n - - proxymap
postlog  unix-dgram n - n - 1 postlogd
"""


def wait_for_port(port: int, process: "subprocess.Popen[bytes]", log: Path | None = None) -> None:
    """Until something listens there; raises if the process ends first or nothing does within 20 s."""
    give_up = time.monotonic() + 20
    while time.monotonic() < give_up:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"nothing listens on port {port}: {log.read_text() if log and log.exists() else 'no log'}")


class Postfix:
    """`with Postfix() as postfix:` gives `port`, `certificate` (PEM file to trust) and `log()`.

    tls: smtpd_tls_security_level. name: in the certificate. extra: more lines of main.cf.
    """

    def __init__(self, *, tls: str = "none", name: str = "mx.example.test", extra: str = "") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="postfix-"))
        self.port = free_port()
        self.certificate = self.folder / "certificate.pem"
        self._tls, self._name, self._extra = tls, name, extra
        self._master: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Postfix":
        if os.geteuid() != 0:
            raise RuntimeError("a private Postfix needs root")
        if not (_DAEMONS / "master").exists():
            raise RuntimeError("postfix is not installed: apt-get install postfix")
        self._lay_down()
        self._master = subprocess.Popen(
            [_DAEMONS / "master", "-d", "-c", self.folder],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_for_port(self.port, self._master, self.folder / "maillog")
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._master is not None
        os.killpg(self._master.pid, signal.SIGTERM)
        try:
            self._master.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._master.pid, signal.SIGKILL)
            self._master.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self) -> str:
        return (self.folder / "maillog").read_text()

    def _lay_down(self) -> None:
        """The configuration, the certificate, and the folders the postfix command would have made."""
        certificate, key = self_signed(self._name)
        self.certificate.write_bytes(certificate)
        chain = self.folder / "chain.pem"
        chain.touch(mode=0o600)
        chain.write_bytes(key + certificate)
        (self.folder / "main.cf").write_text(
            _MAIN.format(
                folder=self.folder,
                daemons=_DAEMONS,
                tls=self._tls,
                extra=self._extra,
                rejected=REJECTED,
                deferred=DEFERRED,
                bad_sender=BAD_SENDER,
                slow_sender=SLOW_SENDER,
                refused_content=REFUSED_CONTENT,
                deferred_content=DEFERRED_CONTENT,
            )
        )
        (self.folder / "master.cf").write_text(_MASTER.format(port=self.port))
        owner, drop = pwd.getpwnam("postfix").pw_uid, grp.getgrnam("postdrop").gr_gid
        self.folder.chmod(0o711)  # Postfix's unprivileged processes must pass through
        queue = self.folder / "queue"
        queue.mkdir()
        for name in _QUEUES:
            (queue / name).mkdir(mode=0o700)
            os.chown(queue / name, owner if name != "pid" else 0, -1)
        for name, mode, group in (("private", 0o700, -1), ("public", 0o710, drop), ("maildrop", 0o730, drop)):
            (queue / name).mkdir()
            (queue / name).chmod(mode)
            os.chown(queue / name, owner, group)
        data = self.folder / "data"
        data.mkdir(mode=0o700)
        os.chown(data, owner, -1)


class SmtpSink:
    """`with SmtpSink() as sink:` gives Postfix's smtp-sink on `port`; options as on its command line."""

    def __init__(self, *options: str, backlog: int = 100) -> None:
        self.port = free_port()
        self._options = options
        self._backlog = backlog
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "SmtpSink":
        program = shutil.which("smtp-sink", path="/usr/sbin:/usr/bin")
        if program is None:
            raise RuntimeError("smtp-sink is not installed: apt-get install postfix")
        user = ("-u", "nobody") if os.geteuid() == 0 else ()
        self._process = subprocess.Popen(
            [program, *user, *self._options, f"127.0.0.1:{self.port}", str(self._backlog)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for_port(self.port, self._process)
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(10)
