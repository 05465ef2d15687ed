"""`postrider dkim`: a key is made once, published as printed, and checked against DNS or a message."""

import io
import json
import stat
import sys
from types import SimpleNamespace

import pytest

from engine.cli import main
from engine.message.dkim_record import txt_strings, zone_line
from tests.support import dns
from tests.support.dkim import MESSAGES, both_keys, ed_key, received, rsa_key, sign, write_key

RSA, ED = both_keys()


def run(*argv):
    return main.main(["dkim", *map(str, argv)])


def published(*keys):
    """A zone in the form of tests.support.dns."""
    return {key.dns_name: ["TXT " + " ".join(f'"{part}"' for part in txt_strings(key.record))] for key in keys}


@pytest.fixture
def config(tmp_path):
    """A settings file with the keys RSA (selector r) and ED (selector e); `named` gives it a name server."""
    write_key(tmp_path, "r.pem", rsa_key())
    write_key(tmp_path, "e.pem", ed_key())
    path = tmp_path / "postrider.toml"
    (tmp_path / "providers.toml").write_text("")

    def named(nameserver="127.0.0.1:9"):
        path.write_text(
            f'[resolver]\nnameservers = ["{nameserver}"]\n'
            '[[dkim]]\ndomain = "example.org"\nselector = "r"\nkey = "r.pem"\n'
            '[[dkim]]\ndomain = "example.org"\nselector = "e"\nkey = "e.pem"\n'
        )
        return path

    return named


class TestGenerate:
    @pytest.mark.parametrize("kind", ["rsa", "ed25519"])
    def test_a_key_that_only_its_owner_can_read(self, kind, tmp_path, capsys):
        out = tmp_path / "s1.pem"
        assert run("generate", "--domain", "Example.org", "--selector", "s1", "--type", kind, "--out", out) == 0
        printed = capsys.readouterr().out
        assert stat.S_IMODE(out.stat().st_mode) == 0o600
        assert "s1._domainkey.example.org. IN TXT (" in printed
        assert f'[[dkim]]\ndomain = "example.org"\nselector = "s1"\nkey = "{out}"' in printed
        assert "PRIVATE" not in printed
        assert run("dns", "--key", out, "--domain", "example.org", "--selector", "s1") == 0
        assert capsys.readouterr().out.strip() in printed

    def test_as_json(self, tmp_path, capsys):
        out = tmp_path / "s1.pem"
        assert run("generate", "--domain", "example.org", "--selector", "s1", "--out", out, "--json") == 0
        row = json.loads(capsys.readouterr().out)
        assert (row["name"], row["type"], row["key"]) == ("s1._domainkey.example.org", "TXT", str(out))
        assert "".join(row["strings"]) == row["value"]

    @pytest.mark.parametrize("there", ["file", "symlink", "dangling symlink"])
    def test_nothing_is_overwritten_nor_followed(self, there, tmp_path, capsys):
        out, target = tmp_path / "s1.pem", tmp_path / "target"
        if there == "file":
            out.write_text("precious")
        else:
            out.symlink_to(target)
        if there == "symlink":
            target.write_text("precious")
        assert run("generate", "--domain", "example.org", "--selector", "s1", "--type", "ed25519", "--out", out) == 1
        assert f"{out} exists and is not overwritten" in capsys.readouterr().err
        assert [path.read_text() for path in (out, target) if path.exists()] in (["precious"], ["precious"] * 2, [])
        assert target.exists() is (there == "symlink")

    @pytest.mark.parametrize(
        ("argv", "words"),
        [
            (["--domain", "no domain"], '"no domain" is not a domain name'),
            (["--selector", "a;b"], '"a;b" is not a domain name'),
            (["--bits", "512"], "RSA keys of 1024 to 4096 bits"),
            (["--bits", "16384"], "RSA keys of 1024 to 4096 bits"),
            (["--out", "missing/folder/k.pem"], "cannot be made: No such file"),
        ],
    )
    def test_mistakes_leave_no_file(self, argv, words, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        assert run("generate", "--domain", "example.org", "--selector", "s", "--out", "k.pem", *argv) == 1
        assert words in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []

    def test_weak_keys_are_warned_of(self, tmp_path, capsys):
        assert (
            run("generate", "--domain", "a.example", "--selector", "s", "--bits", "1024", "--out", tmp_path / "k") == 0
        )
        assert "warning: some receivers ignore RSA keys of 1024 bits" in capsys.readouterr().err


class TestDns:
    def test_all_keys_of_the_settings(self, config, capsys):
        assert run("dns", "-c", config()) == 0
        assert capsys.readouterr().out == f"{zone_line(RSA)}\n{zone_line(ED)}\n"

    def test_one_of_them_as_json(self, config, capsys):
        assert run("dns", "-c", config(), "--selector", "e", "--json") == 0
        row = json.loads(capsys.readouterr().out)
        assert (row["name"], row["value"]) == (ED.dns_name, ED.record)

    def test_mistakes(self, config, tmp_path, capsys):
        assert run("dns", "-c", config(), "--selector", "x") == 1
        assert "no such [[dkim]] key" in capsys.readouterr().err
        assert run("dns", "--key", tmp_path / "r.pem") == 1
        assert "--key needs --domain and --selector" in capsys.readouterr().err
        (tmp_path / "e.pem").chmod(0o644)
        assert run("dns", "-c", config()) == 2
        assert "postrider.toml: [[dkim]] 2 (example.org, e): " in capsys.readouterr().err
        assert run("dns", "--key", tmp_path / "e.pem", "--domain", "a.example", "--selector", "s") == 1
        assert "has mode 0644" in capsys.readouterr().err


class TestCheckKeys:
    def test_published(self, config, capsys):
        with dns.start(published(RSA, ED)) as server:
            assert run("check", "-c", config(server.address), "--json") == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [(row["name"], row["good"], row["result"]) for row in rows] == [
            (RSA.dns_name, True, "published"),
            (ED.dns_name, True, "published"),
        ]

    def test_one_is_missing(self, config, capsys):
        with dns.start(published(RSA)) as server:
            assert run("check", "-c", config(server.address)) == 1
        lines = capsys.readouterr().out.splitlines()
        assert [line.split(maxsplit=2)[2] for line in lines] == ["result", "published", f"no TXT record {ED.dns_name}"]

    def test_dns_that_fails_is_not_a_missing_record(self, config, capsys):
        with dns.start() as server:
            server.misbehave("*", "servfail")
            assert run("check", "-c", config(server.address), "--selector", "r") == 1
        assert "DNS does not say" in capsys.readouterr().out

    def test_against_a_given_record(self, config, capsys):
        assert run("check", "-c", config(), "--selector", "r", "--record", RSA.record) == 0
        assert run("check", "-c", config(), "--selector", "r", "--record", "v=DKIM1; p=") == 1
        assert "revoked" in capsys.readouterr().out
        assert run("check", "-c", config(), "--record", RSA.record) == 1
        assert "--record is for one key" in capsys.readouterr().err


class TestCheckMessage:
    content = MESSAGES["folded header"]

    def message(self, tmp_path, extra=b"", keys=(RSA, ED)):
        path = tmp_path / "message.eml"
        path.write_bytes(received(sign(self.content, keys), self.content) + extra)
        return path

    def test_accepted(self, config, tmp_path, capsys):
        with dns.start(published(RSA, ED)) as server:
            assert run("check", "-c", config(server.address), "--file", self.message(tmp_path), "--json") == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [(row["domain"], row["selector"], row["algorithm"], row["result"]) for row in rows] == [
            ("example.org", "r", "rsa-sha256", "accepted"),
            ("example.org", "e", "ed25519-sha256", "accepted"),
        ]

    def test_refused(self, config, tmp_path, capsys):
        with dns.start(published(RSA)) as server:
            assert run("check", "-c", config(server.address), "--file", self.message(tmp_path, b"more\r\n")) == 1
        printed = capsys.readouterr().out
        assert "body hash mismatch" in printed
        assert "accepted" not in printed

    def test_key_is_missing(self, config, tmp_path, capsys):
        with dns.start(published(RSA)) as server:
            assert run("check", "-c", config(server.address), "--file", self.message(tmp_path)) == 1
        lines = capsys.readouterr().out.splitlines()
        assert ["accepted" in line for line in lines[1:]] == [True, False]

    def test_with_a_given_record_and_unix_line_ends(self, tmp_path, monkeypatch, capsys):
        """No settings and no DNS are needed then; saved mail often has LF."""
        monkeypatch.setenv("POSTRIDER_CONFIG", str(tmp_path / "none.toml"))
        text = self.message(tmp_path, keys=[ED]).read_bytes().replace(b"\r\n", b"\n")
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text)))
        assert run("check", "--file", "-", "--record", ED.record) == 0
        assert "accepted" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (b"", "has no DKIM-Signature"),
            (b"From: a@b\r\n\r\nText", "has no DKIM-Signature"),
            (b"\xff\xff\xff\r\nText", "is not a message"),
        ],
    )
    def test_what_is_no_signed_message(self, text, words, tmp_path, capsys):
        path = tmp_path / "message.eml"
        path.write_bytes(text)
        assert run("check", "--file", path, "--record", ED.record) == 1
        assert words in capsys.readouterr().err

    @pytest.mark.parametrize("field", [b"", b"\xff=;;", b"v=1; a=x", b"v=1; d=\xff; s=\xff; a=rsa-sha256; b=; bh=; h="])
    def test_signatures_by_strangers_cannot_break_it(self, field, tmp_path, capsys):
        path = tmp_path / "message.eml"
        path.write_bytes(b"DKIM-Signature: " + field + b"\r\nFrom: a@b\r\n\r\nText\r\n")
        assert run("check", "--file", path, "--record", ED.record) == 1
        assert "accepted" not in capsys.readouterr().out

    def test_no_such_file(self, tmp_path, capsys):
        assert run("check", "--file", tmp_path / "none", "--record", ED.record) == 1
        assert "cannot be read: No such file" in capsys.readouterr().err
