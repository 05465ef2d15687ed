"""What a process of the daemon sets up for itself."""

import os
import subprocess
import sys

import pytest

_TUNE = """
import os
from engine.daemon.process import tune
os.sched_setscheduler(0, {before}, os.sched_param(0))
tune()
print(os.sched_getscheduler(0))
"""


@pytest.mark.parametrize(
    ("before", "after"), [(os.SCHED_OTHER, os.SCHED_BATCH), (os.SCHED_IDLE, os.SCHED_IDLE)], ids=["ours", "operator's"]
)
def test_scheduled_in_batches_unless_an_operator_chose_otherwise(before: int, after: int) -> None:
    program = [sys.executable, "-c", _TUNE.format(before=before)]
    assert int(subprocess.run(program, check=True, capture_output=True).stdout) == after
