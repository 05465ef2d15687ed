"""Mail that waits for a host that is gone follows the route of today."""

from pathlib import Path

from tests.support.client import Client, letter
from tests.support.engine import daemon, sink
from tests.support.ports import free_port
from tests.support.relay import route


def test_after_a_reload_what_waits_goes_where_the_new_settings_say(tmp_path: Path) -> None:
    with daemon(tmp_path / "engine", route(f"127.0.0.1:{free_port()}")) as engine:
        with Client(engine.port) as client:
            for _ in range(12):
                client.submit("ada@home.test", "bob@away.test", letter())
        engine.until(received=12, deferred=1)
        with sink(tmp_path / "sink") as receiver:
            engine.write_config(route(receiver.address))
            engine.reload()
            engine.run("retry", "--all")
            engine.until(delivered=12)
            assert engine.status()["balanced"]


def test_a_tls_need_that_is_not_met_closes_the_host_for_nobody_else(tmp_path: Path) -> None:
    with sink(tmp_path / "sink") as receiver:
        settings = route(receiver.address, "strict.test", tls="encrypt") + route(receiver.address, "plain.test")
        with daemon(tmp_path / "engine", settings) as engine, Client(engine.port) as client:
            for _ in range(10):
                client.submit("ada@home.test", "bob@strict.test", letter())
            engine.until(deferred=10)
            client.submit("ada@home.test", "bob@plain.test", letter())
            engine.until(delivered=1)
            (deferred, *_) = engine.events("deferred")
            assert "TLS is required" in deferred["reply"]
