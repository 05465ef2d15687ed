"""Events of refused mail: bounded in number, and nothing that is left out is left untold."""

from engine.intake.admission import Submission
from engine.intake.untaken import MOST, UntakenMail
from engine.message.envelope import Recipient
from tests.support.clock import FakeClock


def test_of_a_flood_there_are_some_events_and_the_next_one_says_how_many_there_are_not() -> None:
    clock = FakeClock()
    mail, submission = UntakenMail("refused", clock), Submission()
    submission.recipients.append(Recipient("shop@reply.test"))
    made = [mail.event(submission, "550 5.6.0 no", "remote[192.0.2.1]") for _ in range(MOST + 40)]
    assert [event is not None for event in made] == [True] * MOST + [False] * 40
    clock.advance(60)
    later = mail.event(submission, "554 5.4.6 loop", "remote[192.0.2.1]")
    assert later is not None and later.text == "40 more were refused before"
    assert (later.type, later.destination, later.status, later.reply) == (
        "refused", "shop@reply.test", "5.4.6", "554 5.4.6 loop",
    )  # fmt: skip
    after = mail.event(submission, "554 5.4.6 loop", "remote[192.0.2.1]")
    assert after is not None and not after.text
