"""The spool against a model: whatever is asked of it in whatever order, with restarts, kills and power cuts between.

The model is the ledger of tests/support/spooler.py; hypothesis looks for the shortest story that breaks it. The seed is
printed; POSTRIDER_SEED=N repeats the stories.
"""

import asyncio
import random

from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.support.clock import FakeClock
from tests.support.disk import Disk, MemoryFiles
from tests.support.seed import rounds, seeded
from tests.support.spooler import Ledger, Player, end, examine, small_scale

EXAMPLES = settings(
    max_examples=30, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # fmt: skip
small = st.integers(1, 8)
likely = st.sampled_from([0.0, 0.5, 1.0])


class SpoolMachine(RuleBasedStateMachine):
    """Each rule is a call that somebody makes of a spool."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = small_scale()
        self.scale.__enter__()
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.ledger = Ledger()
        self.chance = random.Random(1)
        self.player = Player(MemoryFiles(Disk()), self.ledger, self.chance, self.clock)
        self.loop.run_until_complete(self.player.begin())

    @rule(count=small, size=st.sampled_from([0, 100, 3000, 9000]), shares=st.booleans())
    def accept(self, count: int, size: int, shares: bool) -> None:
        self.loop.run_until_complete(self.player.accept(count, (size,), shares))

    @rule(count=small, final=likely)
    def settle(self, count: int, final: float) -> None:
        self.loop.run_until_complete(self.player.settle(count, final))

    @rule(count=small)
    def cool(self, count: int) -> None:
        self.player.cool(count)

    @rule(count=small)
    def read(self, count: int) -> None:
        self.loop.run_until_complete(self.player.read(count))

    @rule()
    def work(self) -> None:
        self.loop.run_until_complete(self.player.work())

    @rule(seconds=st.sampled_from([0.001, 1.0, 3600.0, -60.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(how=st.sampled_from(["stop", "kill", "cut"]), seed=st.integers(0, 1 << 16))
    def start_again(self, how: str, seed: int) -> None:
        async def again() -> None:
            player = self.player
            if how == "stop":
                await player.close()
            await end(player.spool, player.files)
            disk = player.files.disk.cut(random.Random(seed)) if how == "cut" else player.files.disk
            disk.now += 1
            player.take_over(await examine(disk, self.ledger, disk.now))

        self.loop.run_until_complete(again())

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        player = self.player
        assert not player.troubles
        assert not set(player.hands) & set(player.rows)
        assert {*player.hands, *player.rows} == player.alive()
        assert len(player.spool.table) == len(player.rows)
        assert len(player.spool.in_hand) == len(player.hands)

    def teardown(self) -> None:
        self.loop.run_until_complete(end(self.player.spool, self.player.files))
        self.loop.close()
        self.scale.__exit__(None, None, None)


def test_the_spool_does_what_the_model_does() -> None:
    chance = seeded()
    for _ in rounds(1):
        seed(chance.randrange(1 << 32))(SpoolMachine)
        run_state_machine_as_test(SpoolMachine, settings=EXAMPLES)
