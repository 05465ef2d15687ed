"""kill -9 while events are compressed and while they are posted: nothing is lost, and the order is kept (E1)."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.storage.events.journal import EventJournal
from engine.storage.events.reader import read_events
from tests.support.engine import Daemon, load, sink, wait_until
from tests.support.feed import SMALL_FILES, Receiver, caught_up, compact, event_lines, webhook
from tests.support.relay import route

_COMPACT = """
import sys
from pathlib import Path
from tests.support.feed import compact
print("now", flush=True)
compact(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("moment", range(6))
def test_kill_9_while_it_compresses(tmp_path: Path, moment: int) -> None:
    """At any moment there is the old file or the new one."""
    events = EventJournal(tmp_path, 20_000, 1000.0)
    for seq in range(1, 2500):
        events.write(event_lines(seq))
    events.close()
    running = subprocess.Popen([sys.executable, "-c", _COMPACT, str(tmp_path)], stdout=subprocess.PIPE)
    assert running.stdout is not None
    running.stdout.readline()
    time.sleep(moment * 0.01)
    running.kill()
    running.communicate()
    assert [event["id"] for event in read_events(tmp_path)] == [f"{n}.0" for n in range(1, 2500)]
    compact(tmp_path)
    assert [event["id"] for event in read_events(tmp_path)] == [f"{n}.0" for n in range(1, 2500)]
    assert not list(tmp_path.glob("*.tmp"))
    assert len(list(tmp_path.glob("*.log"))) == 1


@contextlib.contextmanager
def killed(engine: Daemon) -> Iterator[Daemon]:
    engine.start()
    try:
        yield engine
    finally:
        engine.kill()


def test_kill_9_while_it_posts_loses_nothing_and_keeps_the_order(tmp_path: Path) -> None:
    """What was on its way comes again, and nothing else: at most a batch for each kill."""
    with sink(tmp_path / "mx", save=False) as mx, Receiver() as receiver:
        receiver.before = lambda: time.sleep(0.01)
        engine = Daemon(tmp_path, SMALL_FILES + webhook(receiver.url, batch_events=20) + route(mx.address))
        kills = 3
        for _ in range(kills):
            with killed(engine):
                seen = len(receiver.ids())
                load(engine.port, tmp_path / "accepted", "-n", "100", "--sessions", "10")
                wait_until(lambda seen=seen: len(receiver.ids()) > seen + 50, "some events")
        with killed(engine):
            engine.empty()
            wanted = caught_up(engine, receiver)
            got = receiver.ids()
        assert list(dict.fromkeys(got)) == wanted
        assert len(got) - len(wanted) <= kills * 20
        assert receiver.forged == 0
