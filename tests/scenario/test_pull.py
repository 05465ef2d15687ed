"""Events that are pulled, with the whole daemon: by whom, in which order, through restarts, kills, stops, reloads."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from engine.tools.certificate import self_signed
from tests.scenario.test_workers import serves_again, spread, workers_of
from tests.support.client import letter, submit
from tests.support.engine import PATIENCE_S, Daemon, load, wait_until
from tests.support.feed import ids_of, worker_of
from tests.support.ports import free_port
from tests.support.pull import PASSWORD, Reader, add_logins, basic, gauge, listener, pull, pull_all, waiting
from tests.support.relay import relayed, route

README = Path(__file__).parents[2] / "README.md"


def each_once_in_order(engine: Daemon, reader: Reader) -> None:
    """By journal: one has no order with the other."""
    engine.empty()
    wait_until(lambda: len(reader.ids()) >= len(ids_of(engine)), f"every event; there are {len(reader.ids())}")
    assert _by_journal(reader.ids()) == _by_journal(ids_of(engine))


def _by_journal(ids: list[str]) -> dict[str, list[str]]:
    return {worker: [each for each in ids if worker_of(each) == worker] for worker in sorted(map(worker_of, ids))}


def test_two_workers_through_restarts_and_kills_each_once_in_order(tmp_path: Path) -> None:
    port = free_port()
    with relayed(tmp_path, more=listener(port), workers=2) as (engine, mx):
        add_logins(engine, "ops")
        with Reader(port) as reader:
            spread(engine, 2)
            each_once_in_order(engine, reader)
            load(engine.port, tmp_path / "accepted", "-n", "500", "--sessions", "20", "--size", "1KiB")
            each_once_in_order(engine, reader)
            for victim in range(2):
                old = workers_of(engine)
                os.kill(old[victim], signal.SIGKILL)
                serves_again(engine, old)
                spread(engine, 2)
                each_once_in_order(engine, reader)
            engine.kill()
            engine.start()
            spread(engine, 2)
            each_once_in_order(engine, reader)
            assert engine.stop() == 0
            engine.workers = 1
            engine.write_config(listener(port) + route(mx.address))
            engine.start()
            submit(engine.port, "ada@home.test", "bob@one.test", letter())
            each_once_in_order(engine, reader)
        assert {worker_of(each) for each in reader.ids()} == {"", "1"}
        assert not [answer.json for answer in reader.answers if "missed" in answer.json]
        assert engine.metrics()["internal_errors"] == 0


def test_who_waits_is_told_at_once_whichever_worker_took_it(tmp_path: Path) -> None:
    port = free_port()
    with relayed(tmp_path, more=listener(port), workers=2) as (engine, _), ThreadPoolExecutor(1) as pool:
        add_logins(engine, "ops")
        seen: set[str] = set()
        after = pull(port, after="now").after
        assert pull(port, after=after).json == {"events": [], "after": after}
        while seen != {"", "1"}:
            asked = pool.submit(pull, port, after=after, wait=60, types="received")
            waiting(engine)
            began = time.monotonic()
            submit(engine.port, "ada@home.test", "bob@one.test", letter())
            answer = asked.result(PATIENCE_S)
            assert time.monotonic() - began < 30
            assert [event["type"] for event in answer.json["events"]] == ["received"]
            seen.add(worker_of(answer.ids[0]))
            after = answer.after
        assert gauge(engine, "event_readers") == 0


def test_a_tenant_reads_its_own_events_and_no_others(tmp_path: Path) -> None:
    """To the letter: names of another case are others. Some logins read all."""
    port = free_port()
    with relayed(tmp_path, more=listener(port)) as (engine, _):
        add_logins(engine, "ops", "shop", "Shop", "nobody")
        for tenant in ("shop", "Shop", "sho", "shopp", ""):
            fields = [f"X-Postrider-Tenant: {tenant}"] if tenant else []
            submit(engine.port, "ada@home.test", "bob@one.test", letter("hi", "ada@home.test", *fields))
        engine.until(delivered=5)
        of = {login: pull_all(port, login) for login in ("ops", "shop", "Shop", "nobody")}
        assert [event["id"] for event in of["ops"]] == ids_of(engine)
        for login in ("shop", "Shop"):
            assert {event["tenant"] for event in of[login]} == {login}
            assert [event["type"] for event in of[login]] == ["received", "delivered"]
        assert of["nobody"] == []
        answer = pull(port, "nobody")
        assert answer.after == pull(port, "ops").after, "it moves over what is not wanted"
        assert of["ops"] == engine.events()
        assert pull_all(port, "shop", types="delivered") == [of["shop"][1]]
        assert pull_all(port, types="failed,delivered", limit=1) == engine.events("delivered")
        first = pull(port, limit=3)
        assert (len(first.ids), first.json["more"]) == (3, True)
        assert pull_all(port, after=first.after, limit=2) == engine.events()[3:]
        assert pull(port, after="now").ids == []


def test_a_large_backlog_and_what_is_not_kept(tmp_path: Path) -> None:
    """Many pieces, compressed files; and a cursor that retention has overtaken is told what it missed."""
    port = free_port()
    more = listener(port, events='segment_bytes = "256KiB"\n')
    with relayed(tmp_path, more=more) as (engine, mx):
        add_logins(engine, "ops")
        load(engine.port, tmp_path / "accepted", "-n", "3000", "--sessions", "20", "--size", "1KiB")
        engine.until(delivered=3000)
        wait_until(lambda: list((engine.data / "events" / "0").glob("*.zst")), "a compressed file")
        whole = pull(port, limit=10_000)
        assert whole.headers["transfer-encoding"] == "chunked"
        assert whole.ids == ids_of(engine)
        assert pull_all(port, limit=700) == whole.json["events"]
        fifth = whole.ids[4]
        assert pull(port, after=fifth, limit=1).ids == [whole.ids[5]]
        few = listener(port, events='segment_bytes = "256KiB"\nkeep_bytes = "64KiB"\n')
        engine.write_config(few + route(mx.address))
        engine.reload()
        submit(engine.port, "ada@home.test", "bob@one.test", letter())
        wait_until(lambda: engine.events()[0]["id"] != whole.ids[0], "old files to go")
        engine.empty()
        answer = pull(port, after=fifth, limit=10_000)
        [missed] = answer.json["missed"]
        assert (missed["worker"], missed["after"]) == (0, fifth)
        assert whole.ids.index(missed["last"]) + 1 == whole.ids.index(answer.ids[0])
        lost = whole.ids.index(missed["last"]) - 4
        assert 0 < missed["events"] <= lost
        assert missed["exact"] is (missed["events"] == lost)
        assert "missed" not in pull(port, after=answer.after).json
        assert "missed" not in pull(port).json, "the oldest that is kept is no gap"


def test_wrong_passwords_are_counted_with_those_of_smtp(tmp_path: Path) -> None:
    port = free_port()
    more = listener(port) + "[intake]\nmax_failed_logins_per_address = 3\n"
    with relayed(tmp_path, more=more) as (engine, _):
        add_logins(engine, "ops")
        for login, password in (("ops", "guess"), ("nobody", "guess"), ("OPS", "päss: word")):
            answer = pull(port, login, password, host="127.0.0.5")
            assert answer.status == 401
            assert answer.headers["www-authenticate"].startswith("Basic realm=")
            assert answer.body == b"login or password is wrong\n"
        answer = pull(port, host="127.0.0.5")
        assert (answer.status, answer.headers["retry-after"]) == (429, "1200")
        with (
            socket.create_connection(("127.0.0.1", engine.port), PATIENCE_S, source_address=("127.0.0.5", 0)) as client,
            client.makefile("rb") as said,
        ):
            said.readline()
            client.sendall(b"EHLO client.test\r\n")
            while said.readline()[3:4] == b"-":
                pass
            client.sendall(b"AUTH PLAIN AGEAYg==\r\n")
            assert said.readline().startswith(b"454 ")
        assert pull(port).status == 200, "others are heard"
        assert engine.metrics()["event_pulls"] == 5


def test_a_login_has_so_many_readers_and_others_have_theirs(tmp_path: Path) -> None:
    port = free_port()
    with relayed(tmp_path, more=listener(port)) as (engine, _), ThreadPoolExecutor(17) as pool:
        add_logins(engine, "ops", "shop")
        asked = [pool.submit(pull, port, "shop", after="now", wait=60) for _ in range(16)]
        waiting(engine, 16)
        answer = pull(port, "shop")
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert pull(port).status == 200
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(f"GET /events?after=now&wait=60 HTTP/1.1\r\nAuthorization: {basic('ops')}\r\n\r\n".encode())
            waiting(engine, 17)
        waiting(engine, 16)  # whoever hangs up has no place any more
        submit(engine.port, "ada@home.test", "bob@one.test", letter("hi", "ada@home.test", "X-Postrider-Tenant: shop"))
        assert all(each.result(PATIENCE_S).ids for each in asked)
        waiting(engine, 0)


def test_who_does_not_read_holds_up_nobody_and_no_stop(tmp_path: Path) -> None:
    port = free_port()
    with relayed(tmp_path, more=listener(port)) as (engine, _):
        add_logins(engine, "ops")
        load(engine.port, tmp_path / "accepted", "-n", "5000", "--sessions", "20", "--size", "1KiB")
        engine.until(delivered=5000)
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", port))
            # More than kernels keep of what nobody reads.
            request = f"GET /events?limit=10000 HTTP/1.1\r\nAuthorization: {basic('ops')}\r\n\r\n"
            client.sendall(10 * request.encode())
            waiting(engine, 1)
            submit(engine.port, "ada@home.test", "bob@one.test", letter())
            engine.until(delivered=5001)
            assert len(pull_all(port)) == 10_002
            assert gauge(engine, "event_readers") == 1
            began = time.monotonic()
            assert engine.stop() == 0
            assert time.monotonic() - began < 25
        assert "Traceback" not in engine.log_text()


def test_a_stop_answers_who_waits(tmp_path: Path) -> None:
    port = free_port()
    with relayed(tmp_path, more=listener(port), workers=2) as (engine, _), ThreadPoolExecutor(2) as pool:
        add_logins(engine, "ops")
        submit(engine.port, "ada@home.test", "bob@one.test", letter())
        engine.until(delivered=1)
        cursor = pull(port).after
        asked = [pool.submit(pull, port, after=cursor, wait=60) for _ in range(2)]
        waiting(engine, 2)
        assert engine.stop() == 0
        for answer in (each.result(PATIENCE_S) for each in asked):
            assert answer.json == {"events": [], "after": cursor}
            assert answer.headers["connection"] == "close"
        engine.start()
        submit(engine.port, "ada@home.test", "bob@one.test", letter())
        engine.until(delivered=2)
        assert len(pull_all(port, after=cursor)) == 2
        assert "Traceback" not in engine.log_text()


def test_a_reload_changes_readers_certificate_and_listeners(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    for name, pem in zip(("cert", "key"), self_signed("localhost"), strict=True):
        (tmp_path / name).touch(mode=0o600)
        (tmp_path / name).write_bytes(pem)
    tls = f'tls = {{ cert = "{tmp_path}/cert", key = "{tmp_path}/key" }}\n'
    trusting = ssl._create_unverified_context()
    with relayed(tmp_path, more=listener(ports[0])) as (engine, mx), ThreadPoolExecutor(1) as pool:
        add_logins(engine, "ops", "shop")
        submit(engine.port, "ada@home.test", "bob@one.test", letter())
        engine.until(delivered=1)
        asked = pool.submit(pull, ports[0], after="now", wait=60)
        waiting(engine)
        readers = listener(ports[1], tls).replace('"ops"', '"shop"')
        engine.write_config(readers + route(mx.address))
        engine.reload()
        assert asked.result(PATIENCE_S).json["events"] == [], "a listener that goes ends who waits there"
        assert len(pull(ports[1], "shop", tls=trusting).ids) == 2
        assert pull(ports[1], "ops", tls=trusting).ids == []

        def shown() -> str:
            return ssl.get_server_certificate(("127.0.0.1", ports[1]))

        old = shown()
        for name, pem in zip(("cert", "key"), self_signed("localhost"), strict=True):
            (tmp_path / name).write_bytes(pem)
        engine.reload()
        assert shown() != old
        (tmp_path / "cert").write_text("none")
        engine.reload()
        assert "not reloaded" in engine.log_text()
        assert len(pull(ports[1], "shop", tls=trusting).ids) == 2
        for name, pem in zip(("cert", "key"), self_signed("localhost"), strict=True):
            (tmp_path / name).write_bytes(pem)


def test_the_program_of_the_readme(tmp_path: Path) -> None:
    """As it stands there, but for the address."""
    text = README.read_text().partition("    import base64, json, pathlib, urllib.request\n")
    program = textwrap.dedent(text[1] + text[2].partition("\n\n##")[0].partition("\n\nA ")[0])
    port = free_port()
    program = program.replace("https://mx1.example.net:8443", f"http://127.0.0.1:{port}").replace("secret", PASSWORD)
    with relayed(tmp_path, more=listener(port)) as (engine, _):
        add_logins(engine, "shop")
        for count in (2, 4):  # the second time it goes on
            fields = "X-Postrider-Tenant: shop"
            submit(engine.port, "ada@home.test", "bob@one.test", letter("hi", "ada@home.test", fields))
            wait_until(lambda: len(engine.events()) == count, "its events")  # noqa: B023
            wanted = [f"{event['id']} {event['type']} {event['recipient']}" for event in engine.events()]
            out = tmp_path / "out"
            with out.open("a") as said:
                running = subprocess.Popen([sys.executable, "-u", "-c", program], stdout=said, cwd=tmp_path)
            try:
                wait_until(lambda: len(out.read_text().splitlines()) >= len(wanted), wanted)  # noqa: B023
                wait_until(lambda: (tmp_path / "cursor").read_text() == engine.events()[-1]["id"], "its cursor")
            finally:
                running.kill()
                running.wait()
            assert out.read_text().splitlines() == wanted
