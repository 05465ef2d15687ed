"""Each way that mail comes back, with the full tally: a refusal, a report later, a complaint, a vacation, a reply, and
a forged report.
"""

from pathlib import Path

from tests.support.client import letter, submit
from tests.support.engine import daemon, sink
from tests.support.inbound import (
    ANSWERS,
    COMPLAINTS,
    FEEDBACK,
    REPLIES,
    RETURN_PATH,
    Stage,
    complaint,
    listens,
    report,
)
from tests.support.ports import free_port
from tests.support.relay import route

SHOP = "shop@news.test"
VACATION = "From: {0}\nAuto-Submitted: auto-replied\nSubject: Away\n\nI am away until Monday.\n"
REPLY = "From: {0}\nSubject: Re: hello\nIn-Reply-To: <{1}@mx.test>\n\nWhere is my parcel?\n"


def test_each_way_and_the_whole_tally(tmp_path: Path) -> None:
    port = free_port()
    with sink(tmp_path / "receiver", "--reply", "rcpt:gone*=550 5.1.1 no such user") as receiver:
        settings = listens(port, RETURN_PATH, COMPLAINTS, ANSWERS) + route(receiver.address)
        with daemon(tmp_path / "engine", settings) as engine:
            stage = Stage(engine, receiver, port)
            submit(engine.port, SHOP, "gone@far.test", letter("hello", SHOP))
            # The refused one, and the report of it to the shop.
            assert engine.books() == {"received": 2, "delivered": 1, "failed": 1}

            sent = {name: stage.sent(f"{name}@far.test") for name in ("late", "angry", "away", "writes", "forged")}
            assert engine.books() == {"received": 7, "delivered": 6, "failed": 1}

            stage.returns(sent["late"][1], report("late@far.test", "5.1.1", "550 5.1.1 no such user"))
            stage.returns(f"fbl@{FEEDBACK}", complaint(sent["angry"][2]), sender="fbl@provider.test")
            stage.returns(sent["away"][1], VACATION.format("away@far.test"))
            stage.returns(f"x@{REPLIES}", REPLY.format("writes@far.test", sent["writes"][0]), sender="writes@far.test")
            forged = sent["forged"][1].replace("=forged=", "=writes=")
            stage.returns(forged, report("writes@far.test", "5.1.1", "550 5.1.1 no such user"))
            # The reply is forwarded.
            tally = {"received": 8, "delivered": 7, "failed": 1}
            back = {"bounced": 2, "complained": 1, "auto-replied": 1, "replied": 1}
            assert engine.books() == tally | back
            proofs = {(event["recipient"], event["type"]): event.get("proof", "") for event in engine.events()}
            assert proofs["late@far.test", "bounced"] == proofs["angry@far.test", "complained"] == "token"
            assert not proofs["writes@far.test", "bounced"]

            for name in ("gone", "late", "angry", "away", "writes", "forged"):
                assert stage.is_suppressed(f"{name}@far.test") is (name in ("gone", "late", "angry"))
            # Six more; the shop is told of three.
            assert engine.books() == {"received": 17, "delivered": 13, "failed": 1, "suppressed": 3} | back
