"""How long a 250 takes while something else is going on: one message after the other, from a thread of its own."""

import contextlib
import smtplib
import threading
import time
from collections.abc import Iterator

_PAUSE_S = 0.005
_MESSAGE = b"Subject: how long does a 250 take?\r\n\r\nThat long.\r\n"


class Latencies:
    """Seconds from MAIL to the last 250 of a transaction of four round trips."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.refused = 0

    def ms(self, fraction: float) -> float:
        """So many took no longer; 0.0 if there was none."""
        ordered = sorted(self.seconds)
        return 1000 * ordered[min(len(ordered) - 1, int(len(ordered) * fraction))] if ordered else 0.0

    def __str__(self) -> str:
        figures = f"p50 {self.ms(0.5):.1f}, p99 {self.ms(0.99):.1f}, most {self.ms(1.0):.1f} ms"
        return f"{figures} ({len(self.seconds)} messages{f', {self.refused} refused' * bool(self.refused)})"


@contextlib.contextmanager
def probing(port: int) -> Iterator[Latencies]:
    """While inside, one session hands in messages, with a pause of 5 ms between two."""
    found = Latencies()
    ended = threading.Event()

    def probe() -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=120) as client:
            client.ehlo("bench.example")
            while not ended.wait(_PAUSE_S):
                began = time.perf_counter()
                try:
                    client.sendmail("probe@bench.example", ["probe@probe.example"], _MESSAGE)
                    found.seconds.append(time.perf_counter() - began)
                except smtplib.SMTPResponseException:
                    found.refused += 1

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()
