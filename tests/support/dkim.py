"""Keys, DNS records and messages for DKIM tests, and verification by dkimpy."""

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import dkim
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from engine.message.dkim import prepare
from engine.message.dkim_keys import PrivateKey, SigningKey
from engine.message.envelope import Envelope

_HEAD = (
    b"From: Ada <ada@example.org>\r\nTo: bob@example.net\r\nSubject: Hello\r\n"
    b"Date: Thu, 01 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n"
)

#: Contents as the spool holds them: CRLF, no dot-stuffing. Each shape has broken somebody's signature once.
MESSAGES = {
    "plain": _HEAD + b"\r\nOne line.\r\n",
    "folded header": _HEAD.replace(b"Subject: Hello", b"Subject:\r\n  Hello\r\n\tfolded \r\n   thrice")
    + b"\r\nText\r\n",
    "blank fold": _HEAD.replace(b"Subject: Hello", b"Subject: Hello\r\n \r\n there") + b"\r\nText\r\n",
    "tabs": _HEAD.replace(b": ", b":\t\t") + b"\r\n\tA\t\tb\t \t\r\n \t \r\nc\r\n",
    "no space after colon": _HEAD.replace(b": ", b":") + b"\r\nText\r\n",
    "empty fields": _HEAD + b"Cc:\r\nReply-To: \r\nList-Id:\r\n \r\n\r\nText\r\n",
    "names in capitals": _HEAD.replace(b"Subject", b"SUBJECT").replace(b"From", b"fROM") + b"\r\nText\r\n",
    "trailing blank lines": _HEAD + b"\r\nText\r\n\r\n\r\n \r\n\t\r\n\r\n",
    "leading blank lines": _HEAD + b"\r\n\r\n\r\n \r\nText\r\n",
    "blanks before CRLF": _HEAD + b"\r\nText \t \r\nmore  words \r\n",
    "empty body": _HEAD + b"\r\n",
    "no body": _HEAD,
    "blank body": _HEAD + b"\r\n \r\n\t\r\n\r\n",
    "no last CRLF": _HEAD + b"\r\nText",
    "no last CRLF, blanks": _HEAD + b"\r\nText  ",
    "header without last CRLF": _HEAD[:-2],
    "dots": _HEAD + b"\r\n.\r\n..\r\n.text\r\n",
    "8-bit": _HEAD + b"\r\nGr\xfc\xdfe \xff\xfe\x80\r\n",
    "utf-8 header": _HEAD.replace(b"Hello", "Grüße  aus Köln".encode()) + "\r\nGrüße\r\n".encode(),
    "repeated header": _HEAD + b"Subject: another one\r\nTo: carol@example.net\r\n\r\nText\r\n",
    "everything signed": _HEAD + b"Cc: c@example.net\r\nReply-To: r@example.org\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain;\r\n\tcharset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\nList-Unsubscribe: <https://example.org/u>\r\nList-Id: <l.example.org>\r\n"
    b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nFeedback-ID: a:b:c\r\n\r\nText\r\n",
    "signed before": b"DKIM-Signature: v=1; a=rsa-sha256; d=other.example; s=x; h=from; bh=AAAA; b=AAAA\r\n"
    + _HEAD
    + b"\r\nText\r\n",
    "long lines": _HEAD + b"\r\n" + b"word  " * 30_000 + b"\r\n",
    "200 KiB": _HEAD + b"\r\n" + b"A line  of text \t\r\n\r\n" * 10_000,
}


@lru_cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """One key for the whole test run: making one takes a tenth of a second."""
    return rsa.generate_private_key(65537, bits)


@lru_cache
def ed_key() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def both_keys(domain: str = "example.org") -> tuple[SigningKey, SigningKey]:
    """An RSA key of selector r and an Ed25519 key of selector e."""
    return SigningKey(domain, "r", rsa_key()), SigningKey(domain, "e", ed_key())


def write_key(folder: Path, name: str, key: PrivateKey, mode: int = 0o600) -> str:
    """A PEM file; its path."""
    path = folder / name
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    os.chmod(path, mode)
    return str(path)


def envelope(content: bytes, header_from: str = "example.org") -> Envelope:
    return Envelope("test", "ada@example.org", (), 0.0, 0.0, len(content), header_from=header_from)


def sign(content: bytes, keys: Iterable[SigningKey], time: int = 1_767_225_600) -> bytes:
    """The signature fields, without threads."""
    prepared = prepare(content)
    return b"".join(key.complete(key.request(prepared, time)) for key in keys)


def received(fields: bytes, content: bytes) -> bytes:
    """What the receiver has: the transport ends the last line."""
    whole = fields + content
    return whole if whole.endswith(b"\r\n") else whole + b"\r\n"


def accepted_by_dkimpy(message: bytes, keys: Iterable[SigningKey]) -> list[bool]:
    """dkimpy's word on the signatures of these keys, first to last; those of others are passed over."""
    records = {f"{key.dns_name}.".encode(): key.record.encode() for key in keys}
    verifier = dkim.DKIM(message)
    fields = [value for name, value in verifier.headers if name.lower() == b"dkim-signature"]
    results = []
    for number, field in enumerate(fields):
        tags = dkim.parse_tag_value(field)
        if tags[b"s"] + b"._domainkey." + tags[b"d"] + b"." not in records:
            continue
        try:
            results.append(bool(verifier.verify(number, dnsfunc=lambda name, timeout=5: records.get(name))))
        except dkim.ValidationError:
            results.append(False)
    return results
