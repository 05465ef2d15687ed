"""Clients get their names from the DNS where the settings ask for it, and the daemon waits for none of them."""

from pathlib import Path

from tests.support import dns
from tests.support.client import Client, letter
from tests.support.engine import daemon, wait_until
from tests.support.relay import relayed

ZONE = """
    1.0.0.127.in-addr.arpa PTR client.home.test
    client.home.test A 127.0.0.1
"""


def test_received_and_the_log_name_the_client(tmp_path: Path) -> None:
    with dns.start(ZONE) as names:
        settings = f'[resolver]\nnameservers = ["{names.address}"]\n[intake]\nreverse_dns = true\n'
        with relayed(tmp_path, more=settings) as (engine, receiver), Client(engine.port) as client:
            sent = 0

            def named() -> bool:
                nonlocal sent
                sent += 1
                message = client.submit("ada@home.test", "a@one.test", letter())
                wait_until(lambda: f"{message}: client=" in engine.log_text(), "its line")
                return f"{message}: client=client.home.test[127.0.0.1], from=<ada@home.test>" in engine.log_text()

            wait_until(named, "the name")
            with Client(engine.port) as other:
                other.smtp.noop()
            engine.until(delivered=sent)
            contents = [content for _, content in receiver.messages()]
            assert any(b"Received: from client.test (client.home.test [127.0.0.1])" in text for text in contents)
            assert names.asked["1.0.0.127.in-addr.arpa", "PTR"] == 1, "an answer is kept for the next client"


def test_a_stop_waits_for_no_name(tmp_path: Path) -> None:
    with dns.start(ZONE) as names:
        names.misbehave("1.0.0.127.in-addr.arpa", "timeout")
        settings = f'[resolver]\nnameservers = ["{names.address}"]\ntimeout = "1h"\n[intake]\nreverse_dns = true\n'
        with daemon(tmp_path, settings) as engine, Client(engine.port) as client:
            wait_until(lambda: names.asked["1.0.0.127.in-addr.arpa", "PTR"], "the question")
            assert client.smtp.mail("ada@home.test")[0] == 250
            assert client.smtp.rset()[0] == 250
            assert engine.stop() == 0
        assert "Task was destroyed" not in engine.log_text()
