"""Two workers under a supervisor: one daemon to everybody outside, whatever happens to one of its processes."""

import itertools
import os
import re
import signal
import socket
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.client import Client, letter, submit
from tests.support.engine import PATIENCE_S, Daemon, Load, daemon, load, sink, wait_until
from tests.support.ports import free_port
from tests.support.relay import relayed, route

#: Of a message id: the node and worker that gave it out.
MAKER = slice(8, 12)


def workers_of(engine: Daemon) -> list[int]:
    """Process ids of the workers, the oldest first."""
    pid = engine.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def runs(pid: int) -> bool:
    """A process that has ended and that nobody has asked about yet does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def spread(engine: Daemon, count: int, domain: str = "one.test") -> dict[str, list[str]]:
    """Submit until each of two workers has taken so many; ids by worker. Clients that come at once are divided."""
    ids: dict[str, list[str]] = {}
    with ThreadPoolExecutor(4) as clients:
        while sum(len(taken) >= count for taken in ids.values()) < 2:
            sent = [clients.submit(submit, engine.port, "ada@home.test", f"bob@{domain}", letter()) for _ in range(4)]
            for message_id in (one.result() for one in sent):
                ids.setdefault(message_id[MAKER], []).append(message_id)
    return ids


def health(engine: Daemon) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{engine.http_port}/health", timeout=PATIENCE_S) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def serves_again(engine: Daemon, old: Sequence[int]) -> None:
    wait_until(lambda: set(workers_of(engine)) != set(old) and health(engine) == 200, "two workers")


def test_both_take_mail_and_the_books_are_those_of_both(tmp_path: Path) -> None:
    """Status, events and metrics are summed, and balance (Q2); ids never collide."""
    with relayed(tmp_path, workers=2) as (engine, receiver):
        load(engine.port, tmp_path / "accepted", "-n", "500", "--sessions", "20")
        ids = spread(engine, 1)
        count = 500 + sum(map(len, ids.values()))
        assert engine.books() == {"received": count, "delivered": count}
        assert receiver.has(messages=count)["duplicates"] == 0
        events = engine.events("received")
        assert len({event["message"] for event in events}) == count
        makers = Counter(event["message"][MAKER] for event in events)
        assert len(makers) == 2
        assert {event["id"].partition(":")[0] for event in events if ":" in event["id"]} == {"1"}
        assert health(engine) == 200
        assert len(workers_of(engine)) == 2


def balanced_since_the_start(engine: Daemon) -> None:
    """What workers had counted that were killed is in the books of the node (Q2), every outcome once."""
    fates = ("delivered", "failed", "expired", "suppressed", "removed")

    def agreed() -> bool:
        status, tally = engine.status(), engine.tally()
        told = {name: status[name] for name in ("recovered", "accepted", *fates)}
        balanced = status["recovered"] + status["accepted"] == sum(status[fate] for fate in fates) + status["queued"]
        happened = {"recovered": 0, "accepted": tally["received"], **{fate: tally[fate] for fate in fates}}
        return balanced and told == happened

    wait_until(agreed, f"{engine.tally()} in {engine.status()}")


def test_the_books_of_killed_workers_are_kept(tmp_path: Path) -> None:
    """Both die, more than once, before anybody asked them, with mail queued, failed and removed."""
    with relayed(tmp_path, "--reply", "rcpt:r1@*=550 5.1.1 no", workers=2) as (engine, _):
        for round_ in range(3):
            engine.ask("hold", target="two.test")
            spread(engine, 2)
            spread(engine, 1, "two.test")
            submit(engine.port, "ada@home.test", "r1@one.test", letter())
            if round_ == 1:
                engine.ask("purge", target="two.test")
            for victim in range(2):
                old = workers_of(engine)
                os.kill(old[victim], signal.SIGKILL)
                serves_again(engine, old)
            balanced_since_the_start(engine)
        assert engine.status()["queued"] > 0
        engine.ask("purge", target="*")
        engine.empty()
        balanced_since_the_start(engine)
        assert engine.status()["removed"] > 0


def test_a_killed_worker_comes_back_and_nothing_is_lost(tmp_path: Path) -> None:
    """kill -9 of one worker under load: no client is refused, all that was accepted is delivered."""
    with sink(tmp_path / "mx", save=False) as mx, daemon(tmp_path / "engine", route(mx.address), workers=2) as engine:
        with Load(engine.port, tmp_path / "accepted", "-n", "4000", "--size", "1KiB", "--rate", "500/s") as under_way:
            for _ in range(2):
                under_way.more(300)
                old = workers_of(engine)
                os.kill(old[0], signal.SIGKILL)
                serves_again(engine, old)
            report = under_way.report()
        engine.empty()
        assert report["unanswered"] == report["refused"] == 0, report
        events = engine.events()
        balanced_since_the_start(engine)
        mx.stop()
        assert under_way.ids() - mx.ids() == set(), "accepted and never delivered"
        received = [event["message"] for event in events if event["type"] == "received"]
        delivered = [event["message"] for event in events if event["type"] == "delivered"]
        assert len(set(received)) == len(received)
        assert sorted(received) == sorted(delivered)
        assert 0 <= mx.status()["messages"] - len(received) <= 2 * 2 * 20
        assert len(re.findall(r"error: worker \d has ended \(signal 9\)", engine.log_text())) == 2


def test_a_worker_that_is_gone_is_seen(tmp_path: Path) -> None:
    """While one is not there: /health says so, status names it; its clients are the others', nobody is refused."""
    with daemon(tmp_path, workers=2) as engine:
        for _ in range(2):  # the second time there is a pause
            old = workers_of(engine)
            os.kill(old[0], signal.SIGKILL)
            wait_until(lambda: health(engine) == 503, "bad health")
            if _ == 0:
                serves_again(engine, old)
        assert "does not answer" in str(engine.status()["trouble"])
        waiting = [Client(engine.port) for _ in range(10)]
        wait_until(lambda: health(engine) == 200, "two workers")
        for client in waiting:
            client.smtp.close()
        assert engine.status()["trouble"] is None


def test_metrics_do_not_fall_when_a_worker_is_started_again(tmp_path: Path) -> None:
    with relayed(tmp_path, workers=2) as (engine, _):
        count = sum(map(len, spread(engine, 3).values()))
        engine.until(delivered=count)
        before = engine.metrics()
        assert before["accepted"] == count
        old = workers_of(engine)
        os.kill(old[1], signal.SIGKILL)
        serves_again(engine, old)
        assert engine.metrics()["accepted"] == count


def test_a_killed_supervisor_takes_its_workers_along(tmp_path: Path) -> None:
    """They never outlive it; a new one starts at once on the same data, which they held until their end."""
    with relayed(tmp_path, "--delay", "end-of-data=50ms", workers=2) as (engine, receiver):
        with Load(engine.port, tmp_path / "accepted", "-n", "4000", "--rate", "500/s") as under_way:
            for _ in range(3):
                under_way.more(100)
                old = workers_of(engine)
                engine.kill()
                engine.start()
                wait_until(lambda pids=old: not any(map(runs, pids)), "the old workers to be gone")
            report = under_way.report()
        assert report["refused"] == report["unanswered"] == 0
        engine.empty()
        receiver.stop()
        assert under_way.ids() - receiver.ids() == set()


def test_one_connection_for_both(tmp_path: Path) -> None:
    """A limit of the node is one of all workers together (B1), and none of them starves."""
    with relayed(tmp_path, workers=2, connections=1, messages_per_connection=5) as (engine, receiver):
        engine.ask("hold", target="one.test")
        ids = spread(engine, 20)
        engine.ask("resume", target="one.test")
        count = sum(map(len, ids.values()))
        assert engine.books() == {"received": count, "delivered": count}
        assert receiver.has(messages=count)["max_open"] == 1
        order = [event["message"][MAKER] for event in engine.events("delivered")]
        turns = 1 + sum(1 for one, other in itertools.pairwise(order) if one != other)
        assert turns > 4, "the connection moves on after its messages, though its worker has more"


def test_the_limit_of_the_node_for_both(tmp_path: Path) -> None:
    limit = "[delivery]\nmax_connections = 2\n"
    with relayed(tmp_path, "--delay", "end-of-data=5ms", more=limit, workers=2) as (engine, receiver):
        for domain in ("one.test", "two.test", "three.test"):
            engine.ask("hold", target=domain)
            spread(engine, 5, domain)
        engine.ask("resume", target="*")
        engine.empty()
        assert engine.status()["balanced"]
        # A receiver sees a connection's end a moment after the next one's beginning.
        assert receiver.has(messages=30)["max_open"] <= 3


def test_a_rate_for_both(tmp_path: Path) -> None:
    """Not faster than one worker alone would be, whoever sends."""
    rate = 20
    with relayed(tmp_path, workers=2, rate=f"{rate}/s") as (engine, _):
        engine.ask("hold", target="one.test")
        count = sum(map(len, spread(engine, 20).values()))
        began = time.time()
        engine.ask("resume", target="one.test")
        assert engine.books()["delivered"] == count
        times = sorted(event["at"] for event in engine.events("delivered"))
        for number, at in enumerate(times):
            # Each share that moves may carry one message that its first owner had a permit for.
            assert at >= began + (number - (rate + 2)) / rate, number


def test_operators_reach_both(tmp_path: Path) -> None:
    """hold, list, show, why, retry, purge: wherever a message is."""
    with relayed(tmp_path, workers=2) as (engine, receiver):
        assert "hold: 0 deliveries" in engine.run("hold", "one.test").stdout
        ids = spread(engine, 2)
        one, other = (taken[0] for taken in ids.values())
        count = sum(map(len, ids.values()))
        (queue,) = engine.ask("queues")
        assert (queue["destination"], queue["queued"], queue["held"]) == ("one.test", count, count)
        listed = [row["id"] for row in engine.ask("list", limit=100_000)]
        assert sorted(listed) == sorted(message for taken in ids.values() for message in taken)
        assert len(engine.ask("list", limit=3)) == 3
        for message in (one, other):
            assert engine.ask("show", message_id=message)[0]["id"] == message
            assert engine.ask("why", what=message)[0]["limit"] == "held by an operator (one.test)"
            assert engine.run("purge", message).stdout == "purge: 1 delivery being removed\n"
        unknown = engine.run("show", other, check=False)
        assert (unknown.returncode, "is not queued" in unknown.stderr) == (1, True)
        assert engine.run("purge", "no.such.test", check=False).returncode == 1
        assert f"resume: {count - 2} deliveries" in engine.run("resume", "one.test").stdout
        assert engine.books() == {"received": count, "removed": 2, "delivered": count - 2}
        assert receiver.has(messages=count - 2)


def test_a_hold_outlives_the_worker_that_took_it(tmp_path: Path) -> None:
    with relayed(tmp_path, workers=2) as (engine, _):
        engine.run("hold", "one.test")
        spread(engine, 1)
        for _ in range(2):
            old = workers_of(engine)
            os.kill(old[0], signal.SIGKILL)
            serves_again(engine, old)
        ids = spread(engine, 1)
        assert {row["state"] for row in engine.ask("list")} == {"held"}
        status = engine.status()
        assert (status["holds"], status["destinations"]) == (["one.test"], 1)
        assert len(ids) == 2
        engine.run("purge", "--all")


def test_fewer_workers_lose_nothing(tmp_path: Path) -> None:
    """A spool whose worker is no more is emptied by one that takes nothing new, and looked at no more after that."""
    with sink(tmp_path / "mx") as mx, daemon(tmp_path / "engine", route(mx.address), workers=2) as engine:
        engine.run("hold", "one.test")
        count = sum(map(len, spread(engine, 3).values()))
        assert engine.stop() == 0
        engine.workers = 1
        engine.write_config(route(mx.address))
        assert "spool 1 has none any more" in engine.run("check").stdout
        engine.start()
        assert len(workers_of(engine)) == 2
        new = {submit(engine.port, "ada@home.test", "bob@one.test", letter())[MAKER] for _ in range(10)}
        assert len(new) == 1, "one worker takes what is new"
        assert engine.status()["recovered"] == count
        engine.run("resume", "one.test")
        engine.empty()
        wait_until(lambda: "spool 1 is empty; its worker has stopped" in engine.log_text(), "its end")
        assert health(engine) == 200
        status = engine.status()
        assert (status["recovered"], status["delivered"], status["balanced"]) == (count, count + 10, True)
        assert mx.has(messages=count + 10)["duplicates"] == 0
        assert engine.stop() == 0
        engine.start()
        assert workers_of(engine) == [], "one worker needs no supervisor"
        assert engine.stop() == 0
        engine.workers = 2
        engine.write_config(route(mx.address))
        engine.start()
        more = sum(map(len, spread(engine, 3).values()))
        engine.until(received=count + 10 + more, delivered=count + 10 + more)
        received = [event["message"] for event in engine.events("received")]
        assert len(set(received)) == len(received) == count + 10 + more, "numbers go on where they were"


def test_a_worker_that_cannot_start_is_the_end_of_all(tmp_path: Path) -> None:
    """Half a node would take mail that another start cannot reach; the reason is the one worker's."""
    engine = Daemon(tmp_path, workers=2)
    (engine.data / "events").mkdir(parents=True, mode=0o700)
    (tmp_path / "elsewhere").mkdir()
    (engine.data / "events" / "1").symlink_to(tmp_path / "elsewhere")
    refused = engine.run("serve", check=False)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith("postrider: worker 1: event journal ")
    (engine.data / "events" / "1").unlink()
    engine.start()
    assert engine.stop() == 0


def test_an_address_that_is_taken_is_named(tmp_path: Path) -> None:
    """Also by a program that would share it."""
    engine = Daemon(tmp_path, workers=2)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", engine.port))
        other.listen()
        refused = engine.run("serve", check=False)
    assert refused.returncode == 1
    last = refused.stderr.splitlines()[-1]
    assert last == f"postrider: cannot listen on 127.0.0.1:{engine.port}: Address already in use"


def test_a_name_with_two_addresses(tmp_path: Path) -> None:
    """ "localhost" may be both 127.0.0.1 and ::1, as with one worker."""
    port = free_port()
    found = {info[4][0] for info in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)}
    engine = Daemon(tmp_path, workers=2)
    engine.config.write_text(engine.config.read_text().replace(f"127.0.0.1:{engine.port}", f"localhost:{port}"))
    engine.start()
    for host in found:
        with socket.create_connection((host, port), PATIENCE_S) as client:
            assert client.recv(3) == b"220"
    assert engine.stop() == 0


def test_the_watchdog_hears_of_all_workers(tmp_path: Path) -> None:
    """And of one that is stuck nothing more, once it has been silent for too long."""
    with daemon(tmp_path, workers=2, WATCHDOG_USEC="200000") as engine:
        for _ in range(5):
            assert engine.said("WATCHDOG=1") == "WATCHDOG=1"


def test_a_stop_ends_all_of_them(tmp_path: Path) -> None:
    with relayed(tmp_path, workers=2) as (engine, _):
        old = workers_of(engine)
        clients = [Client(engine.port) for _ in range(10)]
        engine.signal(signal.SIGTERM)
        for client in clients:
            assert client.smtp.getreply() == (421, b"4.3.2 mx.test Service shutting down")
            client.smtp.close()
        assert engine.process.wait(PATIENCE_S) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in old)
        last = [line.rpartition(": ")[2] for line in engine.log_text().splitlines()[-2:]]
        assert last == ["stopping", "stopped"] or last[-1] == "stopped"
        assert not list(engine.data.glob("admin*.sock"))
        engine.start()


def test_a_terminal_reaches_them_all_and_only_the_supervisor_acts(tmp_path: Path) -> None:
    """Ctrl-C, and systemd with KillMode=control-group, signal every process."""
    with daemon(tmp_path, workers=2) as engine:
        for pid in workers_of(engine):
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                os.kill(pid, number)
        assert health(engine) == 200
        spread(engine, 1)
        assert "has ended" not in engine.log_text()


def test_a_reload_that_one_worker_refuses_changes_none(tmp_path: Path) -> None:
    """The first has taken the new settings already when the second cannot: it goes back."""
    with relayed(tmp_path, workers=2) as (engine, receiver):
        password = tmp_path / "password"
        password.write_text("secret")
        password.chmod(0o644)
        more = route("127.0.0.1:9", "x.test", username="u", password_file=str(password))
        old = engine.config.read_text()
        engine.config.write_text(old.replace(receiver.address, f"127.0.0.1:{free_port()}") + more)
        engine.reload()
        assert "not reloaded" in engine.log_text()
        ids = spread(engine, 2)
        assert receiver.has(messages=sum(map(len, ids.values())))


def test_another_number_of_workers_needs_a_restart(tmp_path: Path) -> None:
    with daemon(tmp_path, workers=2) as engine:
        engine.config.write_text(engine.config.read_text().replace("workers = 2", "workers = 3"))
        engine.reload()
        assert "not reloaded: a new number of workers needs a restart" in engine.log_text()
        assert engine.alive()
