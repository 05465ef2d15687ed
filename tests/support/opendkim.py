"""OpenDKIM as a second opinion on signatures: the filter's test mode, and opendkim-testmsg with a DNS of its own.

`opendkim -t FILE` takes public keys from a file (TestPublicKeys) and writes the Authentication-Results field it
would add. `opendkim-testmsg` knows no such file: it asks the name server of /etc/resolv.conf, port 53. So it runs
in a name space (unshare) whose loopback, resolv.conf and name server are the test's; see `main` below.

The programs are of the packages opendkim and opendkim-tools.
"""

import fcntl
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

import dns.flags
import dns.message
import dns.rrset

from engine.message.dkim_keys import SigningKey
from engine.message.dkim_record import txt_strings

_CONFIG = "Syslog no\nTestPublicKeys {keys}\nMode v\nOn-BadSignature reject\nOn-NoSignature reject\n"
_RESULT = re.compile(r"dkim=(\w+).*?header\.s=(\w+)")


def program(name: str) -> str:
    """The path of a program that may be in sbin."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert found, f"{name} is missing; tests/support/packages.sh installs it"
    return found


def verdicts(message: bytes, keys: Iterable[SigningKey], folder: Path) -> dict[str, str]:
    """What the filter says of each signature: selector -> "pass", "fail" ..."""
    records, config, file = folder / "keys", folder / "opendkim.conf", folder / "message"
    records.write_text("".join(f"{key.dns_name} {key.record}\n" for key in keys))
    config.write_text(_CONFIG.format(keys=records))
    file.write_bytes(message)
    command = [program("opendkim"), "-x", str(config), "-vv", "-t", str(file)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    added = done.stdout.decode("latin-1")
    assert "Authentication-Results" in added, done
    return {
        selector: result for result, selector in _RESULT.findall(" ".join(added.split()).replace("dkim=", "\ndkim="))
    }


def name_spaces_allowed() -> bool:
    """Whether this machine lets us have a network and a resolv.conf of our own; containers often do not."""
    found = shutil.which("unshare")
    return found is not None and subprocess.run([found, "-rmn", "true"], capture_output=True).returncode == 0


def run_testmsg(message: bytes, keys: Iterable[SigningKey], folder: Path) -> subprocess.CompletedProcess[bytes]:
    """opendkim-testmsg on a message, with the keys in DNS. Exit status 0 and no output: it accepts the signature."""
    resolv = folder / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.1\noptions attempts:1 timeout:5\n")
    zone = json.dumps({f"{key.dns_name}.": txt_strings(key.record) for key in keys})
    inside = [sys.executable, "-m", "tests.support.opendkim", str(resolv), zone, program("opendkim-testmsg")]
    return subprocess.run(["unshare", "-rmn", *inside], input=message, capture_output=True, timeout=60)


def _serve(server: socket.socket, zone: dict[str, list[str]]) -> None:
    while True:
        wire, peer = server.recvfrom(4096)
        query = dns.message.from_wire(wire)
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        name = query.question[0].name.to_text().lower()
        if name in zone:
            text = " ".join(f'"{part}"' for part in zone[name])
            reply.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", text))
        server.sendto(reply.to_wire(), peer)


def main(resolv: str, zone: str, command: str) -> int:
    """Inside the name space: bring loopback up, put resolv.conf in place, serve DNS, run the command."""
    subprocess.run(["mount", "--bind", resolv, os.path.realpath("/etc/resolv.conf")], check=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        # SIOCSIFFLAGS with IFF_UP | IFF_RUNNING
        fcntl.ioctl(server, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))
        server.bind(("127.0.0.1", 53))
        threading.Thread(target=_serve, args=(server, json.loads(zone)), daemon=True).start()
        return subprocess.run([command]).returncode


if __name__ == "__main__":
    os._exit(main(*sys.argv[1:]))
