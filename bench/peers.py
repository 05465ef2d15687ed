"""The programs that are measured side by side: each relays everything it takes to one address on loopback.

A peer writes its own configuration below one folder and runs from there, on loopback, as processes of one group.
What each is told beyond its defaults is in `settings`, which the report prints.
"""

import os
import pwd
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from bench.common import CACHE, PROGRAM, Group, find, greets, wait_until
from tests.support.ports import free_port

DOMAIN = "load.example"
SELECTOR = "bench"
_START_S = 30.0


class Unavailable(Exception):
    """This peer cannot be run here; the text says what is missing."""


class Peer:
    """One program under test. Subclasses say how it is configured and started."""

    name = ""
    signs = False
    ours = False
    settings: tuple[str, ...] = ()

    def __init__(self, folder: Path, sink_port: int) -> None:
        self.folder = folder / self.name
        self.sink_port = sink_port
        self.port = free_port()
        self.group = Group(self.name)

    @classmethod
    def check(cls) -> None:
        """Raises Unavailable."""

    def configure(self) -> None:
        raise NotImplementedError

    def run(self) -> None:
        raise NotImplementedError

    def flush(self) -> None:
        """Try everything queued now. Not every peer can be told to."""
        raise Unavailable(f"{self.name} is not told to flush")

    def start(self) -> None:
        """Configured in a folder of its own, started, greeting. Raises Unavailable if it does not greet in time."""
        self.folder.mkdir(parents=True)
        self.configure()
        self.run()
        if not wait_until(lambda: greets(self.port) or not self.group.alive(), _START_S) or not self.group.alive():
            self.group.stop()
            raise Unavailable(f"did not start; see {self.folder}/log")

    def stop(self) -> None:
        self.group.stop()

    @property
    def log(self) -> Path:
        return self.folder / "log"


def key_file() -> Path:
    """The RSA-2048 key all signing peers share."""
    path = CACHE / "rsa2048.pem"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        key = rsa.generate_private_key(65537, 2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
    return path


class Postrider(Peer):
    """As an operator would run it here: a worker for each core, as the other programs use all cores."""

    name = "postrider"
    ours = True
    workers = len(os.sched_getaffinity(0))
    settings: tuple[str, ...] = (
        f"workers = {workers}, one for each core",
        "[[route]] * to the sink: connections = 20, messages_per_connection = 1000",
    )

    def configure(self) -> None:
        signing = (
            f'[[dkim]]\ndomain = "{DOMAIN}"\nselector = "{SELECTOR}"\nkey = "{key_file()}"\n[signing]\nthreads = 0\n'
            if self.signs
            else ""
        )
        (self.folder / "postrider.toml").write_text(
            f"""[node]
name = "bench.example"
data_dir = "data"
workers = {self.workers}

[[listener]]
kind = "smtp"
address = "127.0.0.1:{self.port}"
networks = ["127.0.0.0/8"]

[[route]]
domain = "*"
relay = "127.0.0.1:{self.sink_port}"
connections = 20
messages_per_connection = 1000

{signing}"""
        )

    def run(self) -> None:
        self.group.start([*PROGRAM, "serve", "-c", str(self.folder / "postrider.toml")], self.log)


class PostriderOne(Postrider):
    """One worker: what one core does, and the least CPU for a message."""

    name = "postrider-1"
    workers = 1
    settings = ("as postrider, workers = 1",)


class PostriderSigned(Postrider):
    name = "postrider-signed"
    signs = True
    settings = ("as postrider", "rsa-sha256 2048, relaxed/relaxed, signing.threads = 0 (each worker by itself)")


#: What makes Postfix relay faster here than as installed: no flow control, connections kept, 20 at a time as the
#: source has, no name look-ups, no content inspection that a pure relay does without.
TUNED = """\
in_flow_delay = 0
initial_destination_concurrency = 20
default_destination_concurrency_limit = 20
smtp_connection_cache_on_demand = yes
max_use = 10000
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
smtpd_delay_open_until_valid_rcpt = yes
local_header_rewrite_clients =
smtputf8_enable = no
qmgr_message_active_limit = 40000
qmgr_message_recipient_limit = 40000
disable_mime_input_processing = yes
enable_long_queue_ids = no
hash_queue_names = deferred, defer
smtp_dns_support_level = disabled
smtp_tls_security_level = none
smtpd_tls_security_level = none
"""


class Postfix(Peer):
    """A private instance: own configuration, queue and log; the system's own is not touched."""

    name = "postfix"
    settings = tuple(line.replace(" = ", "=") for line in TUNED.splitlines())

    @classmethod
    def check(cls) -> None:
        if find("postfix") is None or not Path("/etc/postfix/master.cf.proto").exists():
            raise Unavailable("Postfix is not installed (apt-get install postfix)")
        if os.getuid() != 0:
            raise Unavailable("Postfix starts as root only")

    def configure(self) -> None:
        folder, etc = self.folder, self.folder / "etc"
        for name in ("etc", "queue", "data"):
            (folder / name).mkdir()
        user = pwd.getpwnam("postfix")
        os.chown(folder / "data", user.pw_uid, user.pw_gid)
        (etc / "master.cf").write_text(self._master())
        (etc / "main.cf").write_text(
            f"""compatibility_level = 3.6
myhostname = bench.example
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {folder}/maillog
maillog_file_prefixes = {folder}
smtp_host_lookup = native
alias_maps =
local_recipient_maps =
smtpd_relay_restrictions = permit_mynetworks, reject
relayhost = [127.0.0.1]:{self.sink_port}
{TUNED}{self._milters()}"""
        )

    def _master(self) -> str:
        """Debian's services, none in a chroot, the SMTP server on our port."""
        lines = []
        for line in Path("/etc/postfix/master.cf.proto").read_text().splitlines():
            fields = line.split()
            if not fields or line.startswith("#"):
                continue
            if not line[0].isspace():
                if fields[:2] == ["smtp", "inet"]:
                    fields[0] = f"127.0.0.1:{self.port}"
                fields[4] = "n"
                line = " ".join(fields)
            lines.append(line)
        return "\n".join(lines) + "\n"

    def _milters(self) -> str:
        return ""

    def run(self) -> None:
        postfix = find("postfix")
        assert postfix is not None
        self.group.start([postfix, "-c", str(self.folder / "etc"), "start-fg"], self.log)


class PostfixSigned(Postfix):
    """Postfix with OpenDKIM as a milter at intake."""

    name = "postfix-opendkim"
    signs = True
    settings = ("as postfix", "smtpd_milters: OpenDKIM, rsa-sha256 2048, relaxed/relaxed")

    @classmethod
    def check(cls) -> None:
        super().check()
        if find("opendkim") is None:
            raise Unavailable("OpenDKIM is not installed (apt-get install opendkim)")

    def _milters(self) -> str:
        return f"smtpd_milters = unix:{self.folder}/dkim.sock\nmilter_default_action = tempfail\n"

    def run(self) -> None:
        opendkim = find("opendkim")
        assert opendkim is not None
        (self.folder / "opendkim.conf").write_text(
            f"Mode s\nDomain {DOMAIN}\nSelector {SELECTOR}\nKeyFile {key_file()}\n"
            f"Socket local:{self.folder}/dkim.sock\n"
            "UMask 0\nCanonicalization relaxed/relaxed\nUserID root\nSyslog no\nRequireSafeKeys no\n"
            "InternalHosts 127.0.0.0/8\nOversignHeaders From\n"
        )
        self.group.start([opendkim, "-f", "-x", str(self.folder / "opendkim.conf")], self.log)
        if not wait_until((self.folder / "dkim.sock").exists, 10):
            raise Unavailable("OpenDKIM made no socket")
        super().run()
