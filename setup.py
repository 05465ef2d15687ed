"""The build that is installed: what every message passes through, compiled by mypyc. The rest is in pyproject.toml.

    POSTRIDER_COMPILE=1 pip wheel --no-build-isolation --no-deps .

POSTRIDER_OPTIMIZE=1 has the compiler take less time, for a test.

Without the first, and so in `.venv`, everything is plain Python: the same files, which tests and debuggers want. A
compiled module takes no other object than its annotations say, and cannot be patched.

Two kinds of modules stay as they are. Those with msgspec structs: msgspec reads annotations, and mypyc leaves some of
them out. And those with a class whose base is not compiled, an exception of ours, say: mypyc 2.4 lays its instances out
as Python 3.11 does not, and the garbage collector reads what is not there.

In a compiled coroutine nothing is awaited in `except` and `finally`: mypyc 2.4 raises there once more what was handled
before.
"""

import os

from setuptools import Extension, setup

COMPILED = """
    base: clock
    protocol: smtp_client smtp_reply
    protocol: smpp_codec smpp_session smpp_tlv receipt_dates receipt_ids receipt_parts receipt_text
    message: content ids link_compile link_token
    net: outbox
    storage: inflight
    storage/spool: entry guards hands journal rows spool
    storage/tables: sent suppression_entries suppressions
    storage/events: journal
    storage/ledger: index reader record segment segments
    routing: plan router
    queue: budget larder manager ready shares stock throttle
    delivery: agent bouncer courier rendering settlement smtp_session
    delivery: account_agent carrier_agent carrier_link sms_agent sms_job sms_pace sms_render sms_reports sms_trouble
    delivery: sms_work
    delivery: underway waking
    feedback: matching outstanding parked receipts telling turn
    intake: acceptor smpp_requests sms_content
    tracking: clients judge
"""


def modules() -> list[str]:
    """Paths of what is compiled."""
    folders = (line.split(":") for line in COMPILED.strip().splitlines())
    return [f"engine/{folder.strip()}/{name}.py" for folder, names in folders for name in names.split()]


def extensions() -> list[Extension]:
    from mypyc.build import mypycify

    # No debug information: it would name the folder of the build.
    return mypycify(modules(), debug_level="0", opt_level=os.environ.get("POSTRIDER_OPTIMIZE", "2"))


if __name__ == "__main__":
    setup(ext_modules=extensions() if os.environ.get("POSTRIDER_COMPILE") == "1" else [])
