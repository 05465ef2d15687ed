"""The build that is installed: what every message passes through, compiled by mypyc. The rest is in pyproject.toml.

    POSTRIDER_COMPILE=1 pip wheel --no-build-isolation --no-deps .

POSTRIDER_OPTIMIZE=1 has the compiler take less time, for a test.

Without the first, and so in `.venv`, everything is plain Python: the same files, which tests and debuggers want. A
compiled module takes no other object than its annotations say, and cannot be patched.

Modules with msgspec structs stay as they are: msgspec reads annotations, and mypyc leaves some of them out. A field
that is a memoryview names it as a string: mypyc would look for the class among the names of the module. A class
whose base is not compiled, an exception of ours, say, is marked `mypyc_attr(native_class=False)`, an ordinary class:
mypyc 2.4 would lay its instances out as Python 3.11 does not, and the garbage collector would read what is not there.

Constants are `Final`: those of a compiled module are then read without a look-up. A tuple that begins with a float is
not: mypyc 2.4 says that it was never set.

In a compiled coroutine nothing is awaited in `except` and `finally`: mypyc 2.4 raises there once more what was handled
before.
"""

import os
from pathlib import Path

from setuptools import Extension, setup

COMPILED = """
    base: clock instruments log serial_thread stored
    protocol: smtp_client smtp_reply smtp_commands smtp_content smpp_frames
    protocol: smpp_codec smpp_fields smpp_session smpp_tlv sms_alphabets sms_coding sms_data_coding sms_rules sms_text
    protocol: receipt receipt_dates receipt_ids receipt_parts receipt_states receipt_text receipt_write
    message: address channels content headers ids link_compile link_token number
    net: outbox smpp_wire stream
    storage: inflight ring
    storage/spool: entry frame guards hands journal names records rows segment spool
    storage/tables: sent suppression_entries suppressions
    storage/events: journal lines
    storage/ledger: index reader record segment segments
    routing: plan router sms_plans sms_routes
    queue: budget holdings larder manager ready shares sites standing stock tally throttle
    delivery: agent bouncer courier gathering kinds rendering report screen settlement smtp_session tracker trouble
    delivery: account_agent carrier_agent carrier_link sms_agent sms_job sms_pace sms_render sms_reports sms_trouble
    delivery: sms_partial sms_work verdicts
    delivery: underway waking
    feedback: direct matching outstanding own parked receipts telling turn
    intake: acceptor admission smpp smpp_binds smpp_connection smpp_opening smpp_requests
    intake: sms_admission sms_content sms_links
    tools: smpp_load_ledger smpp_load_link smpp_load_message
    tracking: clients judge
"""


def modules() -> list[str]:
    """Paths of what is compiled."""
    folders = (line.split(":") for line in COMPILED.strip().splitlines())
    return [f"engine/{folder.strip()}/{name}.py" for folder, names in folders for name in names.split()]


#: Seven megabytes of code, of which most handles errors: the compiler is to keep that apart from what runs.
COLD = """
#include <Python.h>
__attribute__((cold)) void CPy_AddTraceback(const char *, const char *, int, PyObject *);
"""
#: Nobody replaces functions inside of a module, and they have no buffers that could overflow.
FLAGS = ["-fno-semantic-interposition", "-fno-plt", "-fno-stack-protector"]


def extensions() -> list[Extension]:
    from mypyc.build import mypycify

    header = Path("build/cold.h").absolute()
    header.parent.mkdir(exist_ok=True)
    header.write_text(COLD)
    # No debug information: it would name the folder of the build.
    made = mypycify(modules(), debug_level="0", opt_level=os.environ.get("POSTRIDER_OPTIMIZE", "2"))
    for extension in made:
        extension.extra_compile_args = [*extension.extra_compile_args, *FLAGS, "-include", str(header)]
    return made


if __name__ == "__main__":
    setup(ext_modules=extensions() if os.environ.get("POSTRIDER_COMPILE") == "1" else [])
