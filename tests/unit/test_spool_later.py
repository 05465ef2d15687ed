"""A message that is accepted for later waits for its time, over a restart, and through a hold that ends before."""

from pathlib import Path

from engine.base.settings import Carrier
from engine.message.envelope import Envelope, Recipient
from engine.queue.scope import Scope
from engine.storage.spool.entry import State
from tests.support.sms_stage import SmsStage, play, sms_stage

NOWHERE = Carrier(name="one", host="127.0.0.1", port=1, system_id="x")


async def put_later(stage: SmsStage, seconds: float) -> float:
    now = stage.clock.time()
    envelope = Envelope(stage.ids.next(), "A", (Recipient("+1"),), now, now + 9000, 1, channel="sms")
    await stage.spool.accept(envelope, b"x", [("sms:one", (0,))], due_at=now + seconds)
    return now + seconds


def states(stage: SmsStage) -> list[State]:
    table = stage.spool.table
    return [State(state) for rows in table.select() for state in table.columns(rows, ("state",))["state"].tolist()]


def test_it_waits_and_a_restart_does_not_change_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with sms_stage(tmp_path, NOWHERE) as stage:
            due_at = await put_later(stage, 3600)
            assert states(stage) == [State.WAITING]
        async with sms_stage(tmp_path, NOWHERE) as stage:
            assert states(stage) == [State.WAITING]
            [delivery] = await stage.rows()
            assert abs(delivery.due_at - due_at) <= 1

    play(story)


def test_the_end_of_a_hold_is_not_its_time(tmp_path: Path) -> None:
    async def story() -> None:
        async with sms_stage(tmp_path, NOWHERE) as stage:
            stage.state.hold("*", 1.0)
            stage.manager.standing.holds_changed()
            due_at = await put_later(stage, 3600)
            assert states(stage) == [State.HELD]
            stage.state.resume("*")
            stage.manager.standing.holds_changed()
            for rows in Scope("all").rows(stage.spool, state=State.HELD):
                stage.manager.release(rows, now=False)
            assert states(stage) == [State.WAITING]
            assert stage.spool.table.next_due is not None and stage.spool.table.next_due >= due_at

    play(story)
