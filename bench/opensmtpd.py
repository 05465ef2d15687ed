"""OpenSMTPD as a peer, from Debian's package, which cannot be installed beside Postfix: unpacked, and run from there.

It insists on paths and users of the system. It gets its own of each in a mount namespace of its own, where folders of
the benchmark lie over /var/spool, /var/lib and /run, and files over /etc/passwd, /etc/group and /etc/resolv.conf: the
system's own are not touched.
"""

import os
import shlex
import subprocess
from pathlib import Path

from bench.common import CACHE, find
from bench.peers import Peer, Unavailable

#: A session may bring as many messages as it likes, as with the others; more is looked at in one go.
_TUNED = (
    "smtp limit max-mails 10000",
    "scheduler limit max-inflight 50000 max-evp-batch-size 2048 max-msg-batch-size 4096",
    "mta limit session-mail-max 10000",
)
_USERS = (("opensmtpd", 990), ("opensmtpq", 991))


class OpenSMTPD(Peer):
    """It writes its queue without fsync: what it accepts it can lose."""

    name = "opensmtpd"
    settings = (*_TUNED, "no fsync")

    _FOLDER = CACHE / "opensmtpd"
    _PROGRAM = _FOLDER / "root/usr/sbin/smtpd"

    @classmethod
    def check(cls) -> None:
        if os.getuid() != 0:
            raise Unavailable("OpenSMTPD starts as root only")
        if find("unshare") is None or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
            raise Unavailable("no mount namespace of its own can be made here")
        if not cls._PROGRAM.exists():
            cls._unpack()
        missing = subprocess.run(["ldd", str(cls._PROGRAM)], capture_output=True, text=True, check=False).stdout
        if lacking := [line.split()[0] for line in missing.splitlines() if "not found" in line]:
            raise Unavailable(f"OpenSMTPD needs {', '.join(lacking)}")

    @classmethod
    def _unpack(cls) -> None:
        if find("apt-get") is None or find("dpkg") is None:
            raise Unavailable("OpenSMTPD comes as a Debian package, and apt-get or dpkg is missing")
        cls._FOLDER.mkdir(parents=True, exist_ok=True)
        command = ["apt-get", "download", "-q", "opensmtpd"]
        done = subprocess.run(command, cwd=cls._FOLDER, capture_output=True, text=True, timeout=120, check=False)
        packages = sorted(cls._FOLDER.glob("opensmtpd_*.deb"))
        if done.returncode or not packages:
            raise Unavailable(f"apt-get download opensmtpd failed: {done.stderr.strip().splitlines()[-1:]}")
        subprocess.run(["dpkg", "-x", str(packages[-1]), str(cls._FOLDER / "root")], check=True)

    def configure(self) -> None:
        for name in ("etc", "run", "spool/smtpd", "lib/opensmtpd/empty"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "spool/smtpd").chmod(0o711)
        etc = self.folder / "etc"
        passwd, group = (Path("/etc", name).read_text() for name in ("passwd", "group"))
        for user, number in _USERS:
            passwd += f"{user}:x:{number}:{number}::/var/lib/opensmtpd/empty:/usr/sbin/nologin\n"
            group += f"{user}:x:{number}:\n"
        files = {"passwd": passwd, "group": group, "resolv.conf": "lookup file\n"}
        for name, text in files.items():
            (etc / name).write_text(text)
        lines = [
            *_TUNED,
            f"listen on 127.0.0.1 port {self.port} hostname bench.example",
            f'action "out" relay host smtp://127.0.0.1:{self.sink_port}',
            'match from any for any action "out"',
        ]
        (etc / "smtpd.conf").write_text("\n".join(lines) + "\n")

    def run(self) -> None:
        over = {
            "spool": "/var/spool", "lib": "/var/lib", "run": "/run", "etc/passwd": "/etc/passwd",
            "etc/group": "/etc/group", "etc/resolv.conf": "/etc/resolv.conf",
        }  # fmt: skip
        steps = [f"mount --bind {shlex.quote(str(self.folder / own))} {path}" for own, path in over.items()]
        steps.append(f"exec {shlex.quote(str(self._PROGRAM))} -d -f {shlex.quote(str(self.folder / 'etc/smtpd.conf'))}")
        self.group.start(["unshare", "-m", "sh", "-c", " && ".join(steps)], self.log)
