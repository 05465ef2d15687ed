"""What a process of the daemon sets up for itself."""

import os
import subprocess
import sys

import pytest

_PROGRAM = """
import os, threading
from engine.daemon.process import schedule_in_batches
os.sched_setscheduler(0, {before}, os.sched_param(0))
scheduled = threading.Event()
other = threading.Thread(target=lambda: scheduled.wait() and print(os.sched_getscheduler(0)))
other.start()
schedule_in_batches()
print(os.sched_getscheduler(0))
scheduled.set()
other.join()
"""


@pytest.mark.parametrize(
    ("before", "loop"),
    [(os.SCHED_OTHER, os.SCHED_BATCH), (os.SCHED_IDLE, os.SCHED_IDLE)],
    ids=["ours", "operator's"],
)
def test_the_loop_is_scheduled_in_batches_unless_an_operator_chose_otherwise(before: int, loop: int) -> None:
    program = [sys.executable, "-c", _PROGRAM.format(before=before)]
    said = subprocess.run(program, check=True, capture_output=True).stdout
    assert list(map(int, said.split())) == [loop, before]
