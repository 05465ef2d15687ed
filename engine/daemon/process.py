"""What every process of the daemon that carries mail sets up for itself: scheduling, threads, memory."""

import contextlib
import gc
import os
import sys

from engine.base.descriptors import allow_many_files
from engine.base.memory import keep_little

#: How long a thread may keep the interpreter while another wants it. The default of 5 ms is what every signature and
#: every commit would wait for the loop to let go.
_SWITCH_INTERVAL_S = 0.0005
#: Of what is delivered most is gone by then; to look takes some 15 ms.
_YOUNG = 50_000


def tune(young: int = _YOUNG) -> None:
    """Once, when everything is imported. young: objects that are made before it is looked for garbage among them."""
    allow_many_files()
    keep_little()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    # Objects of start-up live for ever, those of a message die young and without cycles: look at them seldom.
    gc.collect()
    gc.freeze()
    gc.set_threshold(young, 20, 50)


def schedule_in_batches() -> None:
    """The loop's thread, once the others run: it waits for them, and they must not wait.

    Whoever sends us something finishes its own turn before the loop wakes: fewer and larger turns, an eighth more
    messages where all cores are busy. An operator's choice stays, and that of a sandbox.
    """
    if os.sched_getscheduler(0) == os.SCHED_OTHER:
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
