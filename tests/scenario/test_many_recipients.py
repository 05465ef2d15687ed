"""One message for many recipients of one domain: recorded transaction by transaction, at most once in doubt."""

from collections import Counter
from pathlib import Path

from tests.support.client import Client, letter
from tests.support.engine import Daemon, sink, wait_until
from tests.support.relay import relayed, route

RECIPIENTS = [f"r{number:03}@crowd.test" for number in range(130)]


def test_a_crash_in_the_middle_doubles_no_transaction_that_was_recorded(tmp_path: Path) -> None:
    with sink(tmp_path / "sink", "--delay", "end-of-data=0.4") as receiver:
        engine = Daemon(tmp_path, route(receiver.address)).start()
        with Client(engine.port) as client:
            client.submit("ada@home.test", RECIPIENTS, letter())
        wait_until(lambda: engine.tally()["delivered"] >= 50, "the first transaction")
        engine.kill()
        recorded = {event["recipient"] for event in engine.events("delivered")}
        engine.start()
        engine.empty()
        assert engine.stop() == 0
        taken = Counter(name for envelope, _ in receiver.messages() for name in envelope["recipients"])
    assert set(taken) == set(RECIPIENTS)
    doubled = {name for name, count in taken.items() if count > 1}
    assert not doubled & recorded
    assert len(doubled) <= 50, "the transaction that was under way, and no other"


def test_a_server_that_takes_a_few_at_a_time_gets_the_rest_at_once(tmp_path: Path) -> None:
    """RFC 5321 4.5.3.1.10: 452 4.5.3 to a RCPT means another transaction, not another hour."""
    full = [f"--reply=rcpt:r{digit}*@*=452 4.5.3 too many recipients x1" for digit in "1"]
    with relayed(tmp_path, *full) as (engine, receiver):
        with Client(engine.port) as client:
            client.submit("ada@home.test", [f"r{digit}@crowd.test" for digit in "012"], letter())
        engine.until(delivered=3)
        assert engine.books() == {"received": 3, "delivered": 3}
        assert [len(envelope["recipients"]) for envelope, _ in receiver.messages()] == [2, 1]
