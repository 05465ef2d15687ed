"""Key files: every mistake in one run, nobody else may read them, nothing of them is shown."""

import os

import pytest

from engine.base.errors import ConfigError
from engine.base.settings import Dkim, Settings
from engine.delivery.keyring import load_keys
from tests.support.dkim import ed_key, rsa_key, write_key


def load(*tables):
    return load_keys(Settings(dkim=tables))


def problems(*tables):
    with pytest.raises(ConfigError) as caught:
        load(*tables)
    return caught.value.problems


def test_all_keys_are_loaded(tmp_path):
    ring, warnings = load(
        Dkim(domain="example.org", selector="a", key=write_key(tmp_path, "a", rsa_key())),
        Dkim(domain="example.org", selector="b", key=write_key(tmp_path, "b", ed_key(), 0o400)),
        Dkim(domain="*", selector="c", key=write_key(tmp_path, "c", ed_key()), identity="example.net"),
    )
    assert [key.dns_name for key in ring] == [
        "a._domainkey.example.org",
        "b._domainkey.example.org",
        "c._domainkey.example.net",
    ]
    assert warnings == []


def test_every_mistake_in_one_run(tmp_path):
    good = write_key(tmp_path, "good", ed_key())
    (tmp_path / "junk").write_bytes(b"-----BEGIN nonsense")
    os.chmod(tmp_path / "junk", 0o600)
    (tmp_path / "big").write_bytes(b"x" * 70_000)
    os.chmod(tmp_path / "big", 0o600)
    os.mkfifo(tmp_path / "pipe", 0o600)
    found = problems(
        Dkim(domain="example.org", selector="a", key=str(tmp_path / "missing")),
        Dkim(domain="example.org", selector="b", key=write_key(tmp_path, "open", ed_key(), 0o640)),
        Dkim(domain="example.org", selector="c", key=str(tmp_path / "junk")),
        Dkim(domain="example.org", selector="d", key=good),
        Dkim(domain="example.org", selector="d", key=write_key(tmp_path, "other", rsa_key())),
        Dkim(domain="*", selector="e", key=good),
        Dkim(domain="example.org", selector="no good", key=good),
        Dkim(domain="example.org", selector="f", key=str(tmp_path)),
        Dkim(domain="example.org", selector="g", key=str(tmp_path / "big")),
        Dkim(domain="example.org", selector="h", key=str(tmp_path / "pipe")),
        Dkim(domain="example.org", selector="d", key=good),
    )
    assert found == [
        f"[[dkim]] 1 (example.org, a): {tmp_path}/missing cannot be read: No such file or directory",
        f"[[dkim]] 2 (example.org, b): {tmp_path}/open has mode 0640, others may use it; chmod 0600 {tmp_path}/open",
        f"[[dkim]] 3 (example.org, c): {tmp_path}/junk: this is not a PEM private key, or one too small to be used",
        "[[dkim]] 5 (example.org, d): d._domainkey.example.org has another key already; two keys need two selectors",
        '[[dkim]] 6 (*, e): domain "*" needs an identity: the domain to sign for',
        f'[[dkim]] 7 (example.org, no good): {good}: "no good" is not a domain name',
        f"[[dkim]] 8 (example.org, f): {tmp_path} cannot be read: Is a directory",
        f"[[dkim]] 9 (example.org, g): {tmp_path}/big is too large for a key",
        f"[[dkim]] 10 (example.org, h): {tmp_path}/pipe is not a file",
        "[[dkim]] 11 (example.org, d): is there already",
    ]


def test_weak_and_pointless_keys_are_warned_of(tmp_path):
    weak = write_key(tmp_path, "weak", rsa_key(1024))
    ring, warnings = load(
        Dkim(domain="example.org", selector="a", key=weak),
        Dkim(domain="shop.example.org", selector="b", key=write_key(tmp_path, "b", ed_key()), identity="example.org"),
        Dkim(domain="example.org", selector="c", key=write_key(tmp_path, "c", ed_key()), identity="example.net"),
    )
    assert len(ring) == 3
    assert [text.partition(": ")[2] for text in warnings] == [
        "RSA of 1024 bits is weak, some receivers ignore it; 2048 is right",
        "identity example.net is not of the From domain, so DMARC will not count it",
    ]


def test_one_key_may_serve_several_domains(tmp_path):
    """The same selector and identity twice is one record in DNS."""
    key = write_key(tmp_path, "k", ed_key())
    ring, _ = load(
        Dkim(domain="example.org", selector="a", key=key),
        Dkim(domain="*", selector="a", key=key, identity="example.org"),
    )
    assert [found.domain for found in ring.find("example.net")] == ["example.org"]
