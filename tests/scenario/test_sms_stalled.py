"""A carrier that is bound and answers nothing but enquire_link, in the whole daemon: the next one has its messages."""

from pathlib import Path

from tests.support.engine import Load, daemon, sink, wait_until
from tests.support.ports import free_port

WINDOW = 5


def test_the_next_carrier_has_what_one_that_stalls_does_not_answer(tmp_path: Path) -> None:
    """None is lost; those that may come twice are the window of the first and what went to see whether it answers."""
    port = free_port()
    with (
        sink(tmp_path / "a", "--smpp", "--silent=*", save=False) as stalled,
        sink(tmp_path / "b", "--smpp", save=False) as there,
    ):
        carriers = "".join(
            f"""
[[carrier]]
name = "{name}"
host = "127.0.0.1"
port = {smsc.port}
system_id = "us"
password = "secret"
window = {WINDOW}
price = "{price}"
response_timeout = "500ms"
"""
            for name, smsc, price in (("cheap", stalled, "0.01"), ("dear", there, "0.02"))
        )
        listener = f"""
[[listener]]
kind = "smpp"
address = "127.0.0.1:{port}"

[[account]]
system_id = "load"
password = "secret"
{carriers}"""
        with daemon(tmp_path / "engine", listener) as engine:
            wait_until(lambda: all(row["state"] == "bound" for row in engine.ask("binds")), "both carriers")
            options = ("--password=secret", "-n", "300", "--rate=100/s", "--receipts=30s")
            with Load(port, tmp_path / "accepted", *options, smpp=True) as running:
                report = running.report()
            engine.empty()
            routes = engine.run("sms", "route", "+447700900123").stdout.splitlines()
            sent = engine.events("sent")
            unknown = engine.events("unknown")
            assert "Traceback" not in engine.log_text(), engine.log_text()
    assert (report["accepted"], report["missing_receipts"]) == (300, 0), report
    assert len({event["message"] for event in sent}) == len(sent) == 300
    assert {(event["destination"], event["price"]) for event in sent} == {("sms:dear", "0.02")}
    marked = {event["message"] for event in sent if "may have been sent before" in event["reply"]}
    assert marked == {event["message"] for event in unknown} and WINDOW <= len(marked) < 3 * WINDOW
    assert "1  dear" in routes[1] and "bound 1 of 1" in routes[1]
    assert "2  cheap" in routes[2] and "answers no submits" in routes[2]
