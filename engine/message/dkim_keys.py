"""DKIM keys as values: from PEM to a signature, to a DNS record, and which of them sign a From domain.

Pure: reading the files is the caller's (delivery/keyring.py). A private key is never shown: repr() names the
record it belongs to.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator

import idna
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from engine.base.errors import EngineError
from engine.message.dkim import FieldWriter, Prepared, Request, finish

PrivateKey = RSAPrivateKey | Ed25519PrivateKey

#: RFC 8301 3.2: never sign with less than 1024 bits, sign with 2048; verifiers need not know more than 4096.
RSA_REFUSED_BELOW, RSA_WARNED_BELOW, RSA_LARGEST = 1024, 2048, 4096

_PADDING, _SHA256 = PKCS1v15(), hashes.SHA256()
_LABELS = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")


def ascii_domain(text: str) -> str:
    """A domain or selector in lower case, as DNS has it (A-labels). Raises ValueError."""
    name = text.lower().rstrip(".")
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode()
        except idna.IDNAError as error:
            raise ValueError(f'"{text}" is not a domain name: {error}') from error
    if not _LABELS.fullmatch(name) or len(name) > 253:
        raise ValueError(f'"{text}" is not a domain name')
    return name


class SigningKey:
    """A private key and the DNS name its public half is published under. Safe to use from several threads."""

    __slots__ = ("_private", "_writer", "algorithm", "bits", "domain", "selector", "slow")

    def __init__(self, domain: str, selector: str, private: PrivateKey) -> None:
        """domain: d=, what the signature speaks for. Raises ValueError: a bad name, or RSA of a size not used."""
        self.domain = ascii_domain(domain)
        self.selector = ascii_domain(selector)
        self._private = private
        #: Whether one signature is too much for an event loop: RSA 0.25 ms, Ed25519 0.03 ms.
        self.slow = isinstance(private, RSAPrivateKey)
        if isinstance(private, RSAPrivateKey):
            self.algorithm, self.bits = "rsa-sha256", private.key_size
            if not RSA_REFUSED_BELOW <= self.bits <= RSA_LARGEST:
                raise ValueError(f"RSA of {self.bits} bits is not used; 2048 is right (1024 to 4096, RFC 8301)")
        else:
            self.algorithm, self.bits = "ed25519-sha256", 256
        self._writer = FieldWriter(self.domain, self.selector, self.algorithm)

    def __repr__(self) -> str:
        return f"<{self.algorithm} key of {self.dns_name}>"

    @property
    def dns_name(self) -> str:
        return f"{self.selector}._domainkey.{self.domain}"

    @property
    def record(self) -> str:
        """The TXT record to publish (RFC 6376 3.6.1, RFC 8463 4)."""
        public = self._private.public_key()
        if self.slow:
            kind, raw = "rsa", public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        else:
            kind, raw = "ed25519", public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return f"v=DKIM1; k={kind}; p={base64.b64encode(raw).decode()}"

    def request(self, prepared: Prepared, time: int, expire: int | None = None) -> Request:
        """What to sign for a prepared content, 2 us. time, expire: t= and x=, unix seconds."""
        return self._writer.request(prepared, time, expire)

    def complete(self, request: Request) -> bytes:
        """The DKIM-Signature field, signed. Any thread; RSA gives up the GIL. Raises EngineError."""
        private = self._private
        try:
            if isinstance(private, RSAPrivateKey):
                # Hashing here and handing over a digest measured the same (0.25 ms), and costs the caller 2 us.
                signature = private.sign(request.data, _PADDING, _SHA256)
            else:
                signature = private.sign(hashlib.sha256(request.data).digest())  # RFC 8463 3: the digest is signed
        except Exception as error:
            raise EngineError(f"DKIM key of {self.dns_name} does not sign: {error}") from error
        return finish(request.field, signature)


def parse_private_key(pem: bytes) -> PrivateKey:
    """An RSA or Ed25519 private key. Raises ValueError, with nothing of the key in it."""
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise ValueError("the key is encrypted; the daemon cannot ask for a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("this is not a PEM private key, or one too small to be used") from None
    if not isinstance(key, RSAPrivateKey | Ed25519PrivateKey):
        raise ValueError("DKIM knows RSA and Ed25519 keys only (RFC 6376, RFC 8463)")
    return key


class KeyRing:
    """Which keys sign a message, by the domain of its From header."""

    __slots__ = ("_by_domain", "_fallback")

    def __init__(self, entries: Iterable[tuple[str, SigningKey]] = ()) -> None:
        """entries: (domain or "*", key), in the order in which the signatures are written."""
        self._by_domain: dict[str, tuple[SigningKey, ...]] = {}
        for domain, key in entries:
            name = domain if domain == "*" else ascii_domain(domain)
            self._by_domain[name] = (*self._by_domain.get(name, ()), key)
        self._fallback = self._by_domain.pop("*", ())

    def __len__(self) -> int:
        return sum(map(len, self._by_domain.values())) + len(self._fallback)

    def __iter__(self) -> Iterator[SigningKey]:
        for keys in (*self._by_domain.values(), self._fallback):
            yield from keys

    def find(self, domain: str) -> tuple[SigningKey, ...]:
        """The keys of the domain, else of its nearest parent, else of "*"; empty: the message leaves unsigned."""
        by_domain = self._by_domain
        if not by_domain:
            return self._fallback
        name = domain
        if not name.isascii() or name.endswith("."):
            try:
                name = ascii_domain(name)
            except ValueError:
                return self._fallback
        name = name.lower()
        while name:
            keys = by_domain.get(name)
            if keys is not None:
                return keys
            name = name.partition(".")[2]
        return self._fallback
