"""What a DKIM signature costs: canonical forms, keys, and the signer beside a busy event loop.

    .venv/bin/python -m bench.dkim

Prints medians of several runs. The last table is a closed loop of 50 messages in flight: each keeps the loop busy
for some microseconds (what the rest of the engine would do with it) and then waits for its signature.
"""

import asyncio
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import dkim  # type: ignore[import-untyped]  # dkimpy has no annotations
import uvloop
from cryptography.hazmat.backends.openssl.backend import backend
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from engine.base.metrics import Metrics
from engine.base.settings import Dkim, Settings, Signing
from engine.delivery.signer import Signer
from engine.message.dkim import body_hash, prepare, relaxed_body
from engine.message.dkim_keys import PrivateKey, SigningKey
from engine.message.envelope import Envelope

_LINE = b"The quick brown fox jumps over the lazy dog and looks back at it once more.\r\n"
HEADER = (
    b"Received: from app.example.org (app.example.org [192.0.2.9])\r\n\tby mx.example.org with ESMTP id 0Hs7kQpf;\r\n"
    b"\tThu, 01 Jan 2026 00:00:00 +0000\r\nFrom: Ada <ada@example.org>\r\nTo: Bob <bob@example.net>\r\n"
    b"Subject: A message of ordinary shape\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\n"
    b"Message-ID: <0Hs7kQpf@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 7bit\r\nList-Unsubscribe: <https://example.org/u/0Hs7kQpf>\r\n"
    b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\n"
)
#: Bodies of 4 KiB. The last three are as bad as it gets.
BODIES = {
    "text": (_LINE * 60)[:4094] + b"\r\n",
    "indented html": b"".join(b"    " * (n % 5) + b"<td>a cell of it</td>\r\n" for n in range(150))[:4094] + b"\r\n",
    "blank runs of all lengths": b"".join(b"a" + b" " * (n % 64) for n in range(140))[:4094] + b"\r\n",
    "space and tab by turns": (b"a \t" * 1400)[:4094] + b"\r\n",
    "a blank before each CRLF": (b"a \r\n" * 1100)[:4096],
}
CONTENT = HEADER + BODIES["text"]
SENT = Envelope("x", "ada@example.org", (), 0, 0, len(CONTENT), header_from="example.org")


def microseconds(work: Callable[[], object], times: int) -> float:
    """The median of seven runs, for one call."""
    runs = []
    for _ in range(7):
        started = time.perf_counter()
        for _ in range(times):
            work()
        runs.append((time.perf_counter() - started) / times * 1e6)
    return statistics.median(runs)


def machine() -> str:
    """One line: processor, cores, versions."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "?")
    return (
        f"{model.partition(':')[2].strip()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"{backend.openssl_version_text()}, load {os.getloadavg()[0]:.1f}"
    )


def canonical() -> None:
    """Canonicalisation of 4 KiB, beside dkimpy's."""
    print("\nrelaxed body of 4 KiB, us           ours    dkimpy")
    for name, body in BODIES.items():
        ours = microseconds(partial(relaxed_body, body), 300)
        theirs = microseconds(partial(dkim.canonicalization.Relaxed.canonicalize_body, body), 300)
        print(f"  {name:28}  {ours:8.1f}  {theirs:8.1f}")
    print(f"  {'text, with SHA-256':28}  {microseconds(lambda: body_hash(BODIES['text']), 300):8.1f}")
    print(f"  {'text, with header, prepare()':28}  {microseconds(lambda: prepare(CONTENT), 300):8.1f}")


def keys(rsa_key: rsa.RSAPrivateKey, ed_key: ed25519.Ed25519PrivateKey) -> None:
    """One signature, without threads."""
    print("\none signature, us")
    prepared = prepare(CONTENT)
    for name, key in (("RSA-2048", rsa_key), ("Ed25519", ed_key)):
        signing = SigningKey("example.org", "s", key)
        request = signing.request(prepared, 1767225600)
        print(f"  {name + ' request':28}  {microseconds(partial(signing.request, prepared, 1767225600), 300):8.1f}")
        print(f"  {name + ' sign':28}  {microseconds(partial(signing.complete, request), 100):8.1f}")


def by_dkimpy(key: rsa.RSAPrivateKey) -> None:
    """The same signature by dkimpy, in pure Python."""
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    names = [b"from", b"to", b"subject", b"date", b"message-id"]

    def sign() -> object:
        return dkim.sign(
            CONTENT, b"s", b"example.org", pem, canonicalize=(b"relaxed", b"relaxed"), include_headers=names
        )

    print(f"  {'RSA-2048 dkimpy, all of it':28}  {microseconds(sign, 5):8.1f}")


async def closed_loop(signer: Signer, busy_us: int, signatures: int, flight: int = 50) -> tuple[float, float]:
    """(signatures/s, cores used) with `flight` messages in flight, each busy_us on the loop besides."""
    left = signatures

    def spin() -> None:
        end = time.perf_counter_ns() + busy_us * 500
        while time.perf_counter_ns() < end:
            pass

    async def one() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            spin()
            assert await signer.sign(SENT, CONTENT)
            spin()
            await asyncio.sleep(0)

    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one() for _ in range(flight)))
    seconds = time.perf_counter() - started
    return signatures / seconds, (time.process_time() - cpu) / seconds


def through_signer(folder: Path, rsa_key: PrivateKey, ed_key: PrivateKey) -> None:
    """Rates through Signer while the loop has other work."""
    print("\nthrough Signer, 4 KiB             loop us   threads   switch ms       /s   cores")

    def settings(name: str, key: PrivateKey, threads: int) -> Settings:
        path = folder / name
        path.touch(mode=0o600)
        path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        table = Dkim(domain="example.org", selector="s", key=str(path))
        return Settings(dkim=(table,), signing=Signing(threads=threads))

    usual = sys.getswitchinterval()
    cases = [("RSA-2048", rsa_key, busy, threads, usual) for busy, threads in ((0, 2), (60, 2), (120, 2), (120, 3))]
    cases += [("RSA-2048", rsa_key, 120, 2, switch) for switch in (0.0005, 0.00005)]
    cases += [("Ed25519", ed_key, busy, 2, usual) for busy in (0, 120)]
    for name, key, busy, threads, switch in cases:
        signer = Signer(settings(name, key, threads), Metrics())
        sys.setswitchinterval(switch)
        rate, cores = uvloop.run(closed_loop(signer, busy, 4000))
        sys.setswitchinterval(usual)
        signer.close()
        print(f"  {name:28}  {busy:10}{threads:10}{switch * 1000:12.2f}{rate:9.0f}{cores:8.2f}")


def main() -> None:
    print(machine())
    rsa_key, ed_key = rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()
    canonical()
    keys(rsa_key, ed_key)
    by_dkimpy(rsa_key)
    with tempfile.TemporaryDirectory() as folder:
        through_signer(Path(folder), rsa_key, ed_key)


if __name__ == "__main__":
    main()
