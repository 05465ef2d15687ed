"""What every process of the daemon that carries mail sets up for itself: how threads and memory are looked after."""

import gc
import sys

#: How long a thread may keep the interpreter while another wants it. The default of 5 ms is what every signature and
#: every commit would wait for the loop to let go.
_SWITCH_INTERVAL_S = 0.0005


def tune() -> None:
    """Once, when everything is imported."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    # Objects of start-up live for ever, those of a message die young and without cycles: look at them seldom.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
