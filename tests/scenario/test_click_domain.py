"""`postrider track check-domain` says what a click domain lacks, step by step, as a browser would find out.

A redirector behind TLS with a certificate of the test's own authority, which the command trusts by SSL_CERT_FILE, and
a DNS server that says where it is.
"""

import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import dns
from tests.support.authority import Authority
from tests.support.engine import PATIENCE_S, POSTRIDER
from tests.support.ports import free_port
from tests.support.tracking import KEY, Redirect, fetch, redirect

HOST = "click.test"
Row = tuple[str, str, str, str]  #: severity, step, where, text


@dataclass
class House:
    running: Redirect
    dns: dns.Server
    authority: Authority
    cert: Path
    key: Path

    def check(self, host: str, *, config: Path | None = None, trusting: bool = True) -> tuple[int, list[Row]]:
        """Exit status, and what it says."""
        done = subprocess.run(
            [*POSTRIDER, "track", "check-domain", host, "--json", "-c", str(config or self.running.config)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, **({"SSL_CERT_FILE": str(self.authority.file)} if trusting else {})},
        )
        assert done.stderr == ""
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        return done.returncode, [(row["severity"], row["step"], row["where"], row["text"]) for row in rows]

    def check_url(self, host: str = HOST, path: str = "", **how: bool) -> tuple[int, list[Row]]:
        return self.check(f"https://{host}:{self.running.port}{path}", **how)  # type: ignore[arg-type]

    def serve(self, *, name: str = HOST, days: float = 60.5) -> None:
        """With a new certificate."""
        self.authority.issue(self.cert, self.key, name, days=days)
        self.running.hang_up()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    path = tmp_path_factory.mktemp("click")
    authority, cert, key = Authority(path), path / "cert.pem", path / "key.pem"
    authority.issue(cert, key, HOST, days=60.5)
    with dns.start() as server:
        more = f'[resolver]\nnameservers = ["{server.address}"]\ntimeout = "1s"\nattempts = 1\nmin_ttl = "0s"\n'
        with redirect(path, more, tls=f'tls = {{ cert = "{cert}", key = "{key}" }}') as running:
            yield House(running, server, authority, cert, key)


@pytest.fixture
def house(stage: House) -> Iterator[House]:
    """As it should be."""
    stage.dns.set_zone(f"{HOST}. 300 A 127.0.0.1")
    yield stage
    stage.dns.misbehave("*", "")


FOUND = ("ok", "dns", "", f"{HOST} is 127.0.0.1")
VALID = ("ok", "tls", "127.0.0.1", "the certificate is valid for 60 more days")
OURS = ("ok", "path", "127.0.0.1", "our redirector answers")


def test_nothing_is_missing(house: House) -> None:
    assert house.check_url() == (0, [FOUND, VALID, OURS])


def test_a_host_of_the_settings_is_asked_as_links_have_it(house: House, tmp_path: Path) -> None:
    """Without its port and path, which the settings know."""
    config = tmp_path / "postrider.toml"
    base = f"https://{HOST}:{house.running.port}"
    config.write_text(house.running.config.read_text().replace('"https://click.test"', f'"{base}"'))
    assert house.check(HOST, config=config) == (0, [FOUND, VALID, OURS])


@pytest.mark.parametrize(
    ("zone", "fault", "text"),
    [
        ("", "", "it has no address: add an A or AAAA (or CNAME) record"),
        (f"{HOST}. 300 TXT nothing", "", "it has no address: add an A or AAAA (or CNAME) record"),
        ("", "servfail", "{server} answered SERVFAIL"),
        ("", "timeout", "{server} did not answer"),
    ],
    ids=["no name", "no address", "servfail", "silence"],
)
def test_dns_has_no_address(house: House, zone: str, fault: str, text: str) -> None:
    house.dns.set_zone(zone)
    house.dns.misbehave("*", fault)
    said = f"{HOST}: {text.format(server=house.dns.address)}"
    assert house.check_url() == (1, [("error", "dns", "", said)])


def test_a_host_of_this_machines_hosts_file_is_asked_and_a_warning(house: House) -> None:
    house.dns.set_zone("")
    house.serve(name="localhost")
    status, rows = house.check_url("localhost")
    house.serve()
    assert (status, rows[0][:2]) == (0, ("warning", "dns"))
    assert rows[0][3].startswith("localhost: it has no address: add an A or AAAA (or CNAME) record; this machine alone")
    assert {VALID, OURS} <= set(rows)


def test_an_alias_is_followed(house: House) -> None:
    house.dns.set_zone(f"{HOST}. 300 CNAME www.test.\nwww.test. 300 A 127.0.0.1")
    assert house.check_url() == (0, [FOUND, VALID, OURS])


def test_an_address_at_which_nobody_listens_is_named_beside_the_right_one(house: House) -> None:
    house.dns.set_zone(f"{HOST}. 300 A 127.0.0.1\n{HOST}. 300 A 127.0.0.9")
    status, rows = house.check_url()
    assert status == 1
    assert rows[0][:3] == ("ok", "dns", "") and "127.0.0.9" in rows[0][3]
    assert sorted(rows[1:]) == sorted(
        [VALID, OURS, ("error", "connect", "127.0.0.9", f"port {house.running.port}: Connection refused")]
    )


def test_an_address_of_somebody_else_is_no_redirector_of_ours(house: House, tmp_path: Path) -> None:
    """Another node with keys of its own."""
    tls = f'tls = {{ cert = "{house.cert}", key = "{house.key}" }}'
    other = f"1:{bytes(32).hex()}"
    with Redirect(tmp_path, tls=tls) as running:
        config = tmp_path / "with-other-keys.toml"
        config.write_text(house.running.config.read_text().replace(f"1:{KEY.hex()}", other))
        url = f"https://{HOST}:{running.port}"
        assert house.check(url) == (0, [FOUND, VALID, OURS])
        said = "what answers is no redirector with our keys ([tracking] keys)"
        assert house.check(url, config=config) == (1, [FOUND, VALID, ("error", "path", "127.0.0.1", said)])


def test_a_host_whose_links_begin_below_a_path(tmp_path: Path) -> None:
    with redirect(tmp_path, '[[click_domain]]\ntenant = "acme"\nbase_url = "http://127.0.0.1/acme"\n') as running:
        assert fetch(running.port, f"/acme/.well-known/postrider/{'0' * 32}").status == 200
        assert fetch(running.port, f"/other/.well-known/postrider/{'0' * 32}").status == 404
        assert fetch(running.port, "/acme/.well-known/postrider/x").status == 404


def test_a_path_that_is_not_passed_on_is_said(house: House) -> None:
    text = "/.well-known/postrider answers 404: whoever answers there does not pass requests on to our redirector"
    assert house.check_url(path="/news") == (1, [FOUND, VALID, ("error", "path", "127.0.0.1", text)])


@pytest.mark.parametrize(("days", "severity"), [(14.5, "ok"), (13.5, "warning"), (1.5, "warning")])
def test_the_days_of_a_certificate_are_told_and_few_are_a_warning(house: House, days: float, severity: str) -> None:
    house.serve(days=days)
    said = f"the certificate is valid for {int(days)} more days"
    assert house.check_url() == (0, [FOUND, (severity, "tls", "127.0.0.1", said), OURS])
    house.serve()


@pytest.mark.parametrize(
    ("name", "days", "trusting", "reason"),
    [
        (HOST, -1.0, True, "certificate has expired"),
        ("other.test", 60.5, True, "Hostname mismatch, certificate is not valid for 'click.test'."),
        (HOST, 60.5, False, "unable to get local issuer certificate"),
    ],
    ids=["expired", "another name", "an authority nobody knows"],
)
def test_a_certificate_that_browsers_refuse(house: House, name: str, days: float, trusting: bool, reason: str) -> None:
    house.serve(name=name, days=days)
    text = f"no valid certificate for {HOST}: {reason}"
    assert house.check_url(trusting=trusting) == (1, [FOUND, ("error", "tls", "127.0.0.1", text)])
    house.serve()


def test_whoever_answers_without_tls_has_no_certificate(house: House) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.settimeout(PATIENCE_S)
        url = f"https://{HOST}:{server.getsockname()[1]}"
        with subprocess.Popen(
            [*POSTRIDER, "track", "check-domain", url, "-c", str(house.running.config)],
            stdout=subprocess.PIPE,
            text=True,
        ) as asking:
            peer, _ = server.accept()
            with peer:
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            out, _ = asking.communicate(timeout=60)
        assert asking.returncode == 1
        assert f"no valid certificate for {HOST}" in out


def test_another_address_has_the_certificate_unless_it_is_told_not_to(house: House, tmp_path: Path) -> None:
    config = Redirect(tmp_path, tls=f'tls = {{ cert = "{house.cert}", key = "{house.key}" }}').config
    for options, status in (((), 0), (("--no-tls",), 1)):
        with Redirect(tmp_path, config=config, options=options) as running:
            assert house.check(f"https://{HOST}:{running.port}")[0] == status
            assert house.check(f"http://{HOST}:{running.port}")[0] == 1 - status
    done = subprocess.run([*POSTRIDER, "redirect", "-c", str(config), "--no-tls"], capture_output=True, check=False)
    assert (done.returncode, b"--no-tls: of --address" in done.stderr) == (2, True)


def test_http_is_a_warning_and_no_tls_is_asked_for(tmp_path: Path) -> None:
    with redirect(tmp_path) as running:

        def check(url: str) -> tuple[int, list[tuple[str, str]]]:
            done = subprocess.run(
                [*POSTRIDER, "track", "check-domain", url, "--json", "-c", str(running.config)],
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            rows = [json.loads(line) for line in done.stdout.splitlines()]
            return done.returncode, [(row["severity"], row["step"]) for row in rows]

        assert check(f"http://127.0.0.1:{running.port}") == (0, [("warning", "tls"), ("ok", "path")])
        assert check(f"http://127.0.0.1:{running.port}/behind") == (1, [("warning", "tls"), ("error", "path")])
        assert check(f"https://127.0.0.1:{running.port}") == (1, [("error", "tls")])
        assert check(f"http://127.0.0.1:{free_port()}") == (1, [("warning", "tls"), ("error", "connect")])
