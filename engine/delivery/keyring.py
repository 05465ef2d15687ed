"""The DKIM keys of the settings, read from their files; every mistake in one run."""

import os
import stat
from pathlib import Path

from engine.base.errors import ConfigError
from engine.base.settings import Dkim, Settings
from engine.message.dkim_keys import RSA_WARNED_BELOW, KeyRing, SigningKey, parse_private_key

#: A 4096-bit key in PEM has 3.3 KiB.
_LARGEST_FILE = 64 << 10


def load_keys(settings: Settings) -> tuple[KeyRing, list[str]]:
    """The keys of all [[dkim]] tables, and warnings. Raises ConfigError with a line for each table that is wrong."""
    entries: list[tuple[str, SigningKey]] = []
    problems: list[str] = []
    warnings: list[str] = []
    records: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    for number, table in enumerate(settings.dkim, 1):
        where = f"[[dkim]] {number} ({table.domain}, {table.selector})"
        try:
            key = _load(table)
        except ValueError as error:
            problems.append(f"{where}: {error}")
            continue
        if records.setdefault(key.dns_name, key.record) != key.record:
            problems.append(f"{where}: {key.dns_name} has another key already; two keys need two selectors")
            continue
        if (table.domain, key.dns_name) in seen:
            problems.append(f"{where}: is there already")
            continue
        seen.add((table.domain, key.dns_name))
        entries.append((table.domain, key))
        if key.slow and key.bits < RSA_WARNED_BELOW:
            warnings.append(f"{where}: RSA of {key.bits} bits is weak, some receivers ignore it; 2048 is right")
        if table.domain != "*" and not _aligned(table.domain, key.domain):
            warnings.append(f"{where}: identity {key.domain} is not of the From domain, so DMARC will not count it")
    if problems:
        raise ConfigError(problems)
    return KeyRing(entries), warnings


def read_key_file(path: Path) -> bytes:
    """The bytes of a key file that nobody but its owner may read. Raises ValueError."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(f"{path} is not a file")
            mode = stat.S_IMODE(status.st_mode)
            if mode & 0o077:
                raise ValueError(f"{path} has mode {mode:04o}, others may use it; chmod 0600 {path}")
            content = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > _LARGEST_FILE:
        raise ValueError(f"{path} is too large for a key")
    return content


def _load(table: Dkim) -> SigningKey:
    """One table's key. Raises ValueError."""
    if table.domain == "*" and not table.identity:
        raise ValueError('domain "*" needs an identity: the domain to sign for')
    pem = read_key_file(Path(table.key))
    try:
        return SigningKey(table.identity or table.domain, table.selector, parse_private_key(pem))
    except ValueError as error:
        raise ValueError(f"{table.key}: {error}") from None


def _aligned(domain: str, identity: str) -> bool:
    """Whether one of the two is the other or a parent of it (near to DMARC's relaxed alignment)."""
    one, two = f".{domain.lower()}", f".{identity}"
    return one.endswith(two) or two.endswith(one)
