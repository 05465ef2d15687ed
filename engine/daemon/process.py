"""What every process of the daemon that carries mail sets up for itself: scheduling, threads, memory."""

import contextlib
import gc
import logging
import os
import resource
import sys

from engine.base.descriptors import allow_many_files
from engine.base.errors import ConfigError
from engine.base.memory import keep_little
from engine.base.settings import Settings
from engine.intake.doors import client_limit

log = logging.getLogger(__name__)

#: How long a thread may keep the interpreter while another wants it. The default of 5 ms is what every signature and
#: every commit would wait for the loop to let go.
_SWITCH_INTERVAL_S = 0.0005
#: Of what is delivered most is gone by then; to look takes some 15 ms.
_YOUNG = 50_000
#: What a daemon with two listeners has open when it is idle; and with fewer places for clients it is of no use.
_OWN_FILES, _LEAST_CLIENTS = 49, 10


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


def require_files() -> int:
    """How many of the open files that a process may have are left for clients. Raises ConfigError: too few.

    Before the daemon has opened its own, those are estimated; afterwards they are what they are.
    """
    held = max(_held_files(), _OWN_FILES)
    places = client_limit() - held
    if places < _LEAST_CLIENTS:
        limit, least = resource.getrlimit(resource.RLIMIT_NOFILE)[0], 2 * (held + _LEAST_CLIENTS)
        raise ConfigError([
            f"the limit of open files is {limit}, of which the daemon takes {held} for itself and half for delivery: "
            f"it must be {least} or more (ulimit -n, LimitNOFILE=)"
        ])  # fmt: skip
    return places


def warn_of_few_files(settings: Settings) -> None:
    """Once all is open. Raises ConfigError, as `require_files`."""
    places, wanted = require_files(), settings.intake.max_connections
    if places < wanted:
        log.warning("the limit of open files leaves %d for clients, of [intake] max_connections = %d", places, wanted)


def _held_files() -> int:
    """The lowest descriptor that is free: what `client_limit` is compared with when a client comes."""
    try:
        descriptor = os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    os.close(descriptor)
    return descriptor
