"""Events posted to a webhook, with the whole daemon and a real HTTP server: down, killed, moved, two workers (E1)."""

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.cli.main import main
from tests.support.client import letter, submit
from tests.support.engine import load, wait_until
from tests.support.feed import SMALL_FILES, Receiver, consumers, each_once_in_order, webhook, worker_of
from tests.support.ports import free_port
from tests.support.relay import relayed, route


def test_down_for_ten_thousand_events_then_each_once_in_order(tmp_path: Path) -> None:
    """And mail goes on meanwhile, faster than the webhook could be told."""
    port = free_port()
    more = SMALL_FILES + webhook(f"http://127.0.0.1:{port}/hook", longest_pause="200ms")
    with relayed(tmp_path, more=more) as (engine, mx):
        load(engine.port, tmp_path / "accepted", "-n", "5100", "--sessions", "20", "--size", "1KiB")
        assert engine.books() == {"received": 5100, "delivered": 5100}
        assert mx.has(messages=5100)["duplicates"] == 0
        [row] = consumers(engine)
        assert (row["lag_events"], row["cursor"]) == (10_200, "0.0")
        assert "Cannot connect" in str(row["last_error"])
        with Receiver(port=port) as receiver:
            each_once_in_order(engine, receiver)
            assert len(receiver.ids()) == 10_200
            assert receiver.most_at_once == 1
            submit(engine.port, "ada@home.test", "bob@one.test", letter())
            each_once_in_order(engine, receiver)
            assert receiver.bodies[-1].keys() == {"webhook", "node", "worker", "events"}
            wait_until(lambda: consumers(engine)[0]["lag_events"] == 0, "no lag")
        assert engine.metrics()["webhook_events"] == 10_202
        assert engine.books() == {"received": 5101, "delivered": 5101}
        wait_until(lambda: list((engine.data / "events" / "0").glob("*.zst")), "a compressed file")


def test_files_that_are_damaged_and_missing_are_told(tmp_path: Path) -> None:
    """While nobody takes events: those that can still be read come, and what does not come is said (E1, S5)."""
    port = free_port()
    more = '[events]\nsegment_bytes = "64KiB"\n' + webhook(
        f"http://127.0.0.1:{port}/hook", longest_pause="200ms", batch_events=100
    )
    with relayed(tmp_path, more=more) as (engine, _):
        load(engine.port, tmp_path / "accepted", "-n", "1200", "--sessions", "10", "--size", "1KiB")
        engine.until(delivered=1200)
        folder = engine.data / "events" / "0"
        wait_until(lambda: len(files := sorted(folder.glob("*.zst"))) > 5 and files, "compressed files")
        damaged, missing = sorted(folder.glob("*.zst"))[2:5:2]
        damaged.write_bytes(damaged.read_bytes()[:-100])
        missing.unlink()
        left = len(engine.events())
        with Receiver(port=port) as receiver:
            wait_until(lambda: len(receiver.ids()) == left, "all that is left")
            told = [body["missed"] for body in receiver.bodies if "missed" in body]
            assert [(each["events"] > 0, each["exact"]) for each in told] == [(True, True), (False, False)]
            for each in told:
                ids = receiver.ids()
                assert ids.index(each["last"]) == ids.index(each["after"]) + 1
        assert engine.metrics()["webhook_gaps"] == 2
        assert engine.metrics()["webhook_missed"] == told[0]["events"] == 2400 - left - _of_missing(told[1])
        assert "were in files that are missing before" in engine.log_text()


def _of_missing(told: dict[str, str]) -> int:
    """Each event of this story has a frame of its own."""
    return int(told["last"].partition(".")[0]) - int(told["after"].partition(".")[0]) - 1


def test_two_workers_and_a_restart(tmp_path: Path) -> None:
    """Each posts its own journal; after a stop in order nothing comes twice; with one worker left, the other's rest."""
    with contextlib.ExitStack() as stack:
        receiver = stack.enter_context(Receiver())
        more = webhook(receiver.url)
        engine, mx = stack.enter_context(relayed(tmp_path, more=more, workers=2))
        load(engine.port, tmp_path / "accepted", "-n", "500", "--sessions", "20")
        engine.until(delivered=500)
        each_once_in_order(engine, receiver)
        assert {worker_of(each) for each in receiver.ids()} == {"", "1"}
        assert {body["worker"] for body in receiver.bodies} == {0, 1}
        assert sorted(row["worker"] for row in consumers(engine)) == [0, 1]
        engine.run("events", "consumers", "pause", "shop")
        load(engine.port, tmp_path / "accepted", "-n", "300", "--sessions", "20")
        engine.until(delivered=800)
        assert len(receiver.ids()) == 1000
        assert engine.stop() == 0
        engine.workers = 1
        engine.write_config(more + route(mx.address))
        engine.start()
        assert {row["state"] for row in consumers(engine)} == {"paused by an operator"}
        assert "2 streams" in engine.run("events", "consumers", "resume", "shop").stdout
        each_once_in_order(engine, receiver)
        assert len(receiver.ids()) == 1600


def test_a_reload_adds_changes_and_removes(tmp_path: Path) -> None:
    with Receiver() as one, Receiver() as two, relayed(tmp_path) as (engine, mx):
        submit(engine.port, "ada@home.test", "bob@one.test", letter())
        engine.until(delivered=1)

        def reload(*webhooks: str) -> None:
            engine.write_config("".join(webhooks) + route(mx.address))
            engine.signal(signal.SIGHUP)
            names = sorted(json.loads(line)["name"] for line in webhooks_of(webhooks))
            wait_until(lambda: sorted(str(row["name"]) for row in consumers(engine)) == names, names)

        reload(webhook(one.url, types=["delivered"]), webhook(two.url, "other"))
        submit(engine.port, "ada@home.test", "bob@one.test", letter())
        engine.until(delivered=2)
        wait_until(lambda: len(one.ids()) == 1 and len(two.ids()) == 2, "what is new")
        reload(webhook(two.url, "other"))
        submit(engine.port, "ada@home.test", "bob@one.test", letter())
        wait_until(lambda: len(two.ids()) == 4, "the next")
        assert len(one.ids()) == 1
        reload(webhook(one.url), webhook(two.url, "other", types=["deferred"]))
        wait_until(lambda: len(one.ids()) == 3, "what happened while it was not there")
        assert one.ids()[1:] == two.ids()[2:]
        submit(engine.port, "ada@home.test", "bob@one.test", letter())
        wait_until(lambda: len(one.ids()) == 5, "the next")
        assert len(two.ids()) == 4


def webhooks_of(texts: tuple[str, ...]) -> Iterator[str]:
    """Each as a line of JSON."""
    import tomllib

    for row in tomllib.loads("".join(texts)).get("webhook", []):
        yield json.dumps(row)


def test_an_operators_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """410 stops it; resume, seek, replay, tail."""
    with Receiver(410, 200) as receiver, relayed(tmp_path, more=webhook(receiver.url)) as (engine, _):

        def events(*words: str, status: int = 0) -> str:
            assert main(["events", *words, "-c", str(engine.config)]) == status
            said = capsys.readouterr()
            assert bool(said.err) is bool(status)
            return said.err or said.out

        submit(engine.port, "ada@home.test", "bob@one.test", letter())
        engine.until(delivered=1)
        wait_until(lambda: consumers(engine)[0]["state"] == "paused by 410 Gone", "a pause")
        assert "status 410" in events("consumers")
        events("consumers", "resume", "shop")
        each_once_in_order(engine, receiver)
        ids = receiver.ids()
        events("consumers", "seek", "shop", ids[0])
        wait_until(lambda: receiver.ids() == [*ids, ids[1]], "one again")
        events("consumers", "seek", "shop", "1h")
        wait_until(lambda: receiver.ids() == [*ids, ids[1], *ids], "all again")
        assert "2 events taken" in events("replay", "--from", "oldest", "--webhook", "shop")
        assert receiver.ids()[5:] == ids
        assert receiver.headers[-1]["Postrider-Replay"] == "1"
        receiver.says = [503]
        assert "status 503; 0 events taken before" in events("replay", "--from", "1h", "--webhook", "shop", status=1)
        out = events("replay", "--from", ids[0], "--to", ids[1])
        assert [json.loads(line)["id"] for line in out.splitlines()] == [ids[1]]
        out = events("tail", "--from", "oldest", "--type", "delivered", "--json")
        assert [json.loads(line)["type"] for line in out.splitlines()] == ["delivered"]
        assert "no [[webhook]] of that name" in events("consumers", "pause", "nobody", status=1)
        assert "is not a place among events" in events("consumers", "seek", "shop", "x", status=1)
        newest = receiver.ids()[-1]
        assert f"99999.0: is not written yet, the newest is {newest}\n" in events(
            "consumers", "seek", "shop", "99999.0", status=1
        )
        assert "1:3.0: there is no worker 1" in events("consumers", "seek", "shop", f"{ids[0]},1:3.0", status=1)
        assert consumers(engine)[0]["cursor"] == newest, "nothing has moved"
        assert "needs NAME and PLACE" in events("consumers", "seek", "shop", status=2)
        assert "is not a place among events" in events("list", "--from", "x", status=2)
        assert "no [[webhook]] of that name" in events("replay", "--from", "1h", "--webhook", "x", status=2)
    assert main(["events", "types"]) == 0
    assert "delivered" in capsys.readouterr().out
