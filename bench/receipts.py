"""What reading a delivery receipt costs, and what the forms of its id do.

    .venv/bin/python -m bench.receipts

Prints the best of several runs in microseconds of one core, and in milliseconds for 64 KiB made to be slow.
"""

import time
from collections.abc import Callable
from functools import partial

from engine.protocol.receipt import MESSAGE_STATE, RECEIPTED_MESSAGE_ID, parse_receipt
from engine.protocol.receipt_ids import forms

TEXT = (
    b"id:0712345678 sub:001 dlvrd:001 submit date:2503141015 done date:2503141016 stat:DELIVRD err:000 "
    b"text:Hello from engine"
)
WIDE = TEXT.decode().encode("utf-16-be")
TLVS = {RECEIPTED_MESSAGE_ID: b"0712345678\0", MESSAGE_STATE: b"\x02"}
ANSWER = b"Stop. Thank you, and see you tomorrow at the usual place; bring the papers."
ORDINARY: dict[str, Callable[[], object]] = {
    "text": lambda: parse_receipt(TEXT, esm_class=4),
    "text and TLVs": lambda: parse_receipt(TEXT, esm_class=4, tlvs=TLVS),
    "UCS-2": lambda: parse_receipt(WIDE, esm_class=4, data_coding=8),
    "no receipt": lambda: parse_receipt(ANSWER),
    "forms of an id": lambda: forms("b39e7745c0ff4713ae5c8f3b817f2c9a"),
}
SLOW = (b"id", b"id    ", b"id:", b"message ", b"submit - ", b" ", b"stat:x id:1 ", b"id:1 stat:a ", b"\0 ", b"9")


def seconds(work: Callable[[], object], times: int) -> float:
    """The best of seven runs, for one call."""
    runs = []
    for _ in range(7):
        started = time.perf_counter()
        for _ in range(times):
            work()
        runs.append((time.perf_counter() - started) / times)
    return min(runs)


def main() -> None:
    for name, work in ORDINARY.items():
        print(f"{name:<20} {seconds(work, 2000) * 1e6:6.1f} us")
    for piece in SLOW:
        message = piece * ((64 << 10) // len(piece))
        print(f"64 KiB of {piece!r:<16} {seconds(partial(parse_receipt, message), 2) * 1e3:4.1f} ms")


if __name__ == "__main__":
    main()
