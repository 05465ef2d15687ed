"""How a redirector proves that it has our keys: it answers a nonce with a MAC of it, which is good for nothing else."""

import re
from collections.abc import Mapping
from hashlib import blake2b

WELL_KNOWN = "/.well-known/postrider"
_NONCE = re.compile(r"[0-9a-f]{32}").fullmatch


def proof(keys: Mapping[int, bytes], nonce: str) -> str | None:
    """ "<number of the key>:<MAC>" under the newest key; None: that is no nonce, 32 characters of hexadecimal."""
    if not _NONCE(nonce):
        return None
    number, key = next(iter(keys.items()))
    return f"{number}:{blake2b(nonce.encode(), key=key, digest_size=16, person=b'self-test').hexdigest()}"
