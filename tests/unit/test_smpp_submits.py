"""Submits wait for their turn: some in each turn of the loop, of one client after the other."""

import asyncio
from collections import deque

from engine.intake.smpp_submits import Submits


class Client:
    def __init__(self, name: str, log: list[str]) -> None:
        self.waiting: deque[int] = deque()
        self._name, self._log = name, log

    def admit(self, most: int) -> bool:
        for _ in range(min(most, len(self.waiting))):
            self._log.append(f"{self._name}{self.waiting.popleft()}")
        return bool(self.waiting)


def test_each_has_its_share_and_none_holds_up_the_loop() -> None:
    async def story() -> None:
        log: list[str] = []
        submits, greedy, modest = Submits(), Client("g", log), Client("m", log)
        greedy.waiting.extend(range(200))
        submits.join(greedy)
        modest.waiting.extend(range(3))
        submits.join(modest)
        turns = []
        for _ in range(5):
            await asyncio.sleep(0)
            turns.append(len(log))
        assert turns[0] == 8 * 7 + 3, "of so many shares of a turn one was for the other"
        assert turns[1:] == [123, 187, 203, 203]
        assert log[:11] == [f"g{n}" for n in range(8)] + ["m0", "m1", "m2"]
        assert [one for one in log if one[0] == "g"] == [f"g{n}" for n in range(200)]
        modest.waiting.append(3)
        submits.join(modest)
        await asyncio.sleep(0)
        assert log[-1] == "m3"

    asyncio.run(story())
