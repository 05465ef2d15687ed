"""TLS and logins, on the way out and on the way in."""

import contextlib
import smtplib
import ssl
from collections.abc import Iterator

import pytest

from engine.tools.certificate import self_signed
from tests.support.client import Client, Refused, letter, submit
from tests.support.engine import Daemon, Sink, daemon, sink, wait_until
from tests.support.ports import free_port
from tests.support.relay import route

LOGIN, PASSWORD = "relay-user", "päss: word"


class Out:
    """An engine with a route for each story: level and login by the name of the domain."""

    def __init__(self, engine: Daemon, tls: Sink, clear: Sink, trusted: Sink) -> None:
        self.engine, self.tls, self.clear, self.trusted = engine, tls, clear, trusted
        self.waiting = 0

    def delivered(self, domain: str) -> None:
        """A message to this domain arrives."""
        message_id = submit(self.engine.port, "ada@home.test", f"bob@{domain}", letter())
        self.engine.books(self.waiting)
        assert self.engine.fates(message_id) == {f"bob@{domain}": ["received", "delivered"]}

    def deferred(self, domain: str) -> dict[str, str]:
        """A message to this domain waits; the event that says why."""
        message_id = submit(self.engine.port, "ada@home.test", f"bob@{domain}", letter())
        self.waiting += 1
        self.engine.until(deferred=self.waiting)
        self.engine.books(self.waiting)
        (event,) = [e for e in self.engine.events("deferred") if e["message"] == message_id]
        return event

    def in_tls(self, sink: Sink, domain: str) -> bool:
        """Whether the one message for this domain came over TLS."""
        (tls,) = [envelope["tls"] for envelope, _ in sink.messages() if envelope["recipients"] == [f"bob@{domain}"]]
        return bool(tls)


def certificate_of(server: Sink) -> str:
    """The certificate it shows, as PEM."""
    with smtplib.SMTP("127.0.0.1", server.port, local_hostname="client.test") as client:
        client.starttls(context=ssl._create_unverified_context())
        assert isinstance(client.sock, ssl.SSLSocket)
        return ssl.DER_cert_to_PEM_cert(client.sock.getpeercert(True) or b"")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Out]:
    path = tmp_path_factory.mktemp("out")
    passwords = {"right": PASSWORD, "wrong": "guess"}
    for name, password in passwords.items():
        (path / name).touch(mode=0o600)
        (path / name).write_text(password + "\n")
    with contextlib.ExitStack() as stack:
        login = f"--login={LOGIN}:{PASSWORD}"
        tls = stack.enter_context(sink(path / "tls", "--tls", "starttls", login))
        clear = stack.enter_context(sink(path / "clear"))
        refusing = stack.enter_context(
            sink(path / "refusing", "--tls", "starttls", "--reply", "starttls:*=454 4.7.0 not available now")
        )
        trusted = stack.enter_context(sink(path / "trusted", "--tls", "starttls"))
        (path / "trusted.pem").write_text(certificate_of(trusted))
        routes = [
            route(tls.address, "login.test", tls="encrypt", username=LOGIN, password_file=str(path / "right")),
            route(tls.address, "wrong.test", tls="encrypt", username=LOGIN, password_file=str(path / "wrong")),
            route(tls.address, "none.test", tls="none"),
            route(tls.address, "opportunistic.test"),
            route(tls.address, "encrypt.test", tls="encrypt"),
            route(tls.address, "verify.test", tls="verify"),
            route(trusted.address, "verified.test", tls="verify"),
            route(clear.address, "clear.test", tls="opportunistic"),
            route(clear.address, "clear-encrypt.test", tls="encrypt"),
            route(clear.address, "clear-verify.test", tls="verify"),
            route(clear.address, "clear-login.test", username=LOGIN, password_file=str(path / "right")),
            route(refusing.address, "refusing.test"),
            route(refusing.address, "refusing-encrypt.test", tls="encrypt"),
        ]
        settings = '[retry]\nschedule = "1h*"\n' + "".join(routes)
        engine = stack.enter_context(daemon(path / "engine", settings, SSL_CERT_FILE=str(path / "trusted.pem")))
        yield Out(engine, tls, clear, trusted)
        assert clear.status()["tls"] == 0


def test_a_relay_with_a_login(out: Out) -> None:
    out.delivered("login.test")
    assert out.in_tls(out.tls, "login.test")


def test_a_wrong_password_is_ours_to_mend_and_the_mail_waits(out: Out) -> None:
    """It says nothing about any message; the password is in no log."""
    event = out.deferred("wrong.test")
    assert (event["status"], event["phase"]) == ("4.7.8", "auth")
    assert event["reply"] == "535 5.7.8 wrong credentials"
    assert "guess" not in out.engine.log_text()


def test_no_login_is_offered_to_who_does_not_ask(out: Out) -> None:
    event = out.deferred("clear-login.test")
    assert event["phase"] == "auth" and "offers neither AUTH PLAIN nor LOGIN" in event["reply"]


@pytest.mark.parametrize(("level", "secured"), [("none", False), ("opportunistic", True), ("encrypt", True)])
def test_levels_of_tls_at_a_server_that_offers_it(out: Out, level: str, secured: bool) -> None:
    """The same server and port for all: what one domain needs is not changed by a connection of another."""
    out.delivered(f"{level}.test")
    assert out.in_tls(out.tls, f"{level}.test") == secured


def test_a_certificate_nobody_vouches_for(out: Out) -> None:
    """ "verify" defers, and the message stays here."""
    event = out.deferred("verify.test")
    assert (event["status"], event["phase"]) == ("4.7.5", "starttls")
    assert "certificate not trusted" in event["reply"]
    assert "bob@verify.test" not in str(out.tls.messages())
    assert "certificate not trusted" in out.engine.run("why", "bob@verify.test").stdout


def test_a_certificate_that_is_good_for_the_host(out: Out) -> None:
    out.delivered("verified.test")
    assert out.in_tls(out.trusted, "verified.test")


def test_a_server_without_tls(out: Out) -> None:
    """Good enough for "opportunistic" and for nothing above it."""
    out.delivered("clear.test")
    assert not out.in_tls(out.clear, "clear.test")
    for domain in ("clear-encrypt.test", "clear-verify.test"):
        event = out.deferred(domain)
        assert (event["status"], event["phase"]) == ("4.7.4", "starttls")
        assert event["reply"].startswith("TLS is required, but was not offered by 127.0.0.1[127.0.0.1]")
    assert len(out.clear.messages()) == 1


def test_a_server_that_takes_starttls_back(out: Out) -> None:
    out.delivered("refusing.test")
    event = out.deferred("refusing-encrypt.test")
    assert event["reply"] == "454 4.7.0 not available now"


class In:
    """An engine whose doors are closed to clients without a login; `starttls` and `implicit` are their ports."""

    def __init__(self, engine: Daemon, receiver: Sink, starttls: int, implicit: int) -> None:
        self.engine, self.receiver, self.starttls, self.implicit = engine, receiver, starttls, implicit


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[In]:
    path = tmp_path_factory.mktemp("in")
    ports = free_port(), free_port()
    for name, pem in zip(("cert", "key"), self_signed("mx.test"), strict=True):
        (path / f"{name}.pem").touch(mode=0o600)
        (path / f"{name}.pem").write_bytes(pem)
        (path / f"{name}.pem").chmod(0o600)
    listeners = "".join(
        f"""
        [[listener]]
        kind = "smtp"
        address = "127.0.0.1:{port}"
        tls = {{ cert = "{path}/cert.pem", key = "{path}/key.pem", implicit = {str(implicit).lower()} }}
        """
        for port, implicit in zip(ports, (False, True), strict=True)
    )
    with sink(path / "sink") as receiver, daemon(path / "engine", listeners + route(receiver.address)) as engine:
        engine.run("credential", "add", "ada", "--password-stdin", stdin="correct horse\n")
        yield In(engine, receiver, *ports)
        engine.books()


def secured(port: int) -> Client:
    """A client that has said STARTTLS."""
    client = Client(port)
    client.smtp.starttls(context=ssl._create_unverified_context())
    client.smtp.ehlo()
    return client


def log_in(client: Client, user: str, password: str, mechanism: str = "PLAIN") -> None:
    """One AUTH, where smtplib's login would try each mechanism. Raises SMTPAuthenticationError."""
    client.smtp.user, client.smtp.password = user, password
    client.smtp.auth(mechanism, getattr(client.smtp, f"auth_{mechanism.lower()}"))


def test_no_relay_for_strangers(door: In) -> None:
    """Without a login nothing is taken, over TLS or not, whoever the mail is from and to."""
    for client in (Client(door.starttls), secured(door.starttls), Client(door.implicit, implicit_tls=True)):
        with client, pytest.raises(Refused) as refused:
            client.submit("ada@mx.test", "bob@one.test", letter())
        assert refused.value.code == 530


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_submitting_with_a_login_over_starttls(door: In, mechanism: str) -> None:
    with secured(door.starttls) as client:
        log_in(client, "ada", "correct horse", mechanism)
        message_id = client.submit("ada@home.test", f"{mechanism.lower()}@one.test", letter())
    door.engine.books()
    (content,) = [c for e, c in door.receiver.messages() if e["recipients"] == [f"{mechanism.lower()}@one.test"]]
    assert b"by mx.test with ESMTPSA id " + message_id.encode() in content
    client_line = f"{message_id}: client=unknown[127.0.0.1], from=<ada@home.test>"
    log = wait_until(lambda: client_line in (text := door.engine.log_text()) and text, "the line of this message")
    assert "sasl_username=ada" in log
    assert "correct horse" not in door.engine.log_text()


def test_submitting_with_the_command(door: In) -> None:
    """`postrider send` with a login over either kind of TLS."""
    message, password = door.engine.path / "message", door.engine.path / "password"
    message.write_bytes(letter())
    password.write_text("correct horse\n")
    for tls, port in (("starttls", door.starttls), ("implicit", door.implicit)):
        arguments = ("--from", "ada@home.test", "--server", f"127.0.0.1:{port}", "--tls", tls, "--login", "ada")
        shown = door.engine.run(
            "send", str(message), *arguments, "--password-file", str(password), "--to", f"{tls}@one.test"
        )
        assert f"queued for {tls}@one.test" in shown.stdout


def test_a_login_that_is_wrong_or_gone(door: In) -> None:
    """A new password counts at once, and so does the end of a login; the daemon is not asked."""
    with secured(door.starttls) as client, pytest.raises(smtplib.SMTPAuthenticationError) as error:
        log_in(client, "ada", "incorrect horse")
    assert error.value.smtp_code == 535
    engine = door.engine
    assert "bob: added" in engine.run("credential", "add", "bob", "--password-stdin", stdin="first\n").stdout
    assert (
        "bob: password changed" in engine.run("credential", "add", "bob", "--password-stdin", stdin="second\n").stdout
    )
    with Client(door.implicit, implicit_tls=True) as client:
        log_in(client, "bob", "second")
        client.submit("bob@home.test", "bob@one.test", letter())
    assert "bob" in engine.run("credential", "list").stdout
    engine.run("credential", "remove", "bob")
    with Client(door.implicit, implicit_tls=True) as client, pytest.raises(smtplib.SMTPAuthenticationError):
        log_in(client, "bob", "second")
