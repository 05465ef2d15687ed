"""Keys as values: what is accepted, what a record says, which key signs for which domain."""

import base64
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_public_key,
)

from engine.base.errors import EngineError
from engine.message.dkim import Request
from engine.message.dkim_keys import KeyRing, SigningKey, ascii_domain, parse_private_key
from engine.message.dkim_record import judge, parse_tags, txt_strings, zone_line
from tests.support.dkim import both_keys, ed_key, rsa_key

RSA, ED = both_keys()


def pem(key, form=PrivateFormat.PKCS8, encryption=None):
    return key.private_bytes(Encoding.PEM, form, encryption or NoEncryption())


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_both_pem_forms_are_read(form):
    assert parse_private_key(pem(rsa_key(), form)).key_size == 2048


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "not a PEM"),
        (b"\xff\x00 junk", "not a PEM"),
        (pem(rsa_key())[:200], "not a PEM"),
        (pem(rsa_key(), encryption=BestAvailableEncryption(b"secret")), "encrypted"),
        (pem(ec.generate_private_key(ec.SECP256R1())), "RSA and Ed25519"),
    ],
)
def test_what_is_no_key_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_private_key(text)


def test_rsa_below_1024_bits_is_refused():
    """RFC 8301: too small to be worth anything; cryptography does not make such keys, openssl does."""
    made = subprocess.run(["openssl", "genrsa", "768"], capture_output=True, check=True)
    with pytest.raises(ValueError, match=r"768 bits|too small"):
        SigningKey("example.org", "s", parse_private_key(made.stdout))


def test_rsa_above_4096_bits_is_refused():
    """RFC 8301: verifiers need not know it. The size alone is asked, so a stand-in will do."""

    class Huge(rsa.RSAPrivateKey):
        key_size = 8192

    Huge.__abstractmethods__ = frozenset()
    with pytest.raises(ValueError, match="8192"):
        SigningKey("example.org", "s", Huge())


@pytest.mark.parametrize(
    ("text", "name"),
    [("Example.ORG.", "example.org"), ("bücher.example", "xn--bcher-kva.example"), ("_x.example", "_x.example")],
)
def test_names_as_dns_has_them(text, name):
    assert ascii_domain(text) == name


@pytest.mark.parametrize(
    "text", ["", ".", "a b", "a;b", "a..b", "-a.example", "a\r\nb", "a" * 64, "x." * 130 + "y", "ü" * 90]
)
def test_names_that_are_none(text):
    with pytest.raises(ValueError, match="not a domain name"):
        ascii_domain(text)


def test_records_hold_the_public_key():
    tags = parse_tags(RSA.record)
    assert (tags["v"], tags["k"]) == ("DKIM1", "rsa")
    assert load_der_public_key(base64.b64decode(tags["p"])) == rsa_key().public_key()
    tags = parse_tags(ED.record)
    assert (tags["k"], base64.b64decode(tags["p"])) == ("ed25519", ed_key().public_key().public_bytes_raw())


def test_records_are_cut_into_strings_of_255():
    strings = txt_strings(RSA.record)
    assert "".join(strings) == RSA.record
    assert [len(text) <= 255 for text in strings] == [True, True]
    assert zone_line(RSA) == f'r._domainkey.example.org. IN TXT ( "{strings[0]}"\n    "{strings[1]}" )'


def test_a_key_never_shows_itself():
    assert repr(RSA) == "<rsa-sha256 key of r._domainkey.example.org>"


def test_a_key_that_does_not_sign_is_an_engine_error():
    class Broken(rsa.RSAPrivateKey):
        key_size = 2048

        def sign(self, *args):
            raise MemoryError("no room")

    Broken.__abstractmethods__ = frozenset()
    with pytest.raises(EngineError, match="no room"):
        SigningKey("example.org", "s", Broken()).complete(Request(b"", b""))


class TestRing:
    """By the From domain: itself, its nearest parent, the fallback; never a mix of them."""

    org = SigningKey("example.org", "s", ed_key())
    news = SigningKey("news.example.org", "s", ed_key())
    other = SigningKey("example.net", "s", ed_key())
    idn = SigningKey("bücher.example", "s", ed_key())
    ring = KeyRing(
        [
            ("Example.org", org),
            ("news.example.org", news),
            ("example.org", RSA),
            ("*", other),
            ("bücher.example", idn),
        ]
    )

    @pytest.mark.parametrize(
        ("domain", "keys"),
        [
            ("example.org", (org, RSA)),
            ("EXAMPLE.org", (org, RSA)),
            ("example.org.", (org, RSA)),
            ("news.example.org", (news,)),
            ("a.b.news.example.org", (news,)),
            ("shop.example.org", (org, RSA)),
            ("badexample.org", (other,)),
            ("org", (other,)),
            ("", (other,)),
            ("xn--bcher-kva.example", (idn,)),
            ("bücher.example", (idn,)),
            ("bü cher.example", (other,)),
            ("..", (other,)),
        ],
    )
    def test_find(self, domain, keys):
        assert self.ring.find(domain) == keys

    def test_nothing_without_a_fallback(self):
        assert KeyRing([("example.org", self.org)]).find("example.net") == ()
        assert KeyRing().find("example.net") == ()

    def test_all_keys_are_counted(self):
        assert len(self.ring) == len(list(self.ring)) == 5


OURS = ED.record.partition("p=")[2]


@pytest.mark.parametrize(
    ("records", "good", "words"),
    [
        ([ED.record], True, "published"),
        ([f" v = DKIM1 ;k=ed25519;\tp= {OURS[:9]} {OURS[9:]} ; "], True, "published"),
        ([f"k=ed25519; p={OURS}"], True, "published"),
        ([f"{ED.record}; t=s; s=email:x; h=sha1:sha256"], True, "published"),
        ([f"{ED.record}; t=y"], True, "testing"),
        ([], False, "no TXT record e._domainkey.example.org"),
        ([ED.record, ED.record], False, "2 TXT records"),
        (["v=DKIM1; k=ed25519; p="], False, "revoked"),
        (["v=DKIM1; k=ed25519"], False, "no p="),
        ([f"k=ed25519; p={OURS}; v=DKIM1"], False, "begin with v=DKIM1"),
        ([ED.record.replace("DKIM1", "DKIM2")], False, "begin with v=DKIM1"),
        ([f"v=DKIM1; p={OURS}"], False, "the record is for rsa, the key is ed25519"),
        ([RSA.record], False, "for rsa"),
        (["v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="], False, "another key"),
        ([f"{ED.record}; h=sha1"], False, "forbids sha256"),
        ([f"{ED.record}; s=tlsrpt"], False, "not for mail"),
        (["v=spf1 -all"], False, "begin with v=DKIM1"),
        (["some words"], False, "cannot be read"),
        ([f"{ED.record}; p=x"], False, "p= is there twice"),
    ],
)
def test_what_is_published_is_judged(records, good, words):
    verdict = judge(ED, records)
    assert verdict.good is good
    assert words in verdict.text
