"""How much of the tests' corpus of bounces is read right, beside flufl.bounce, and how fast.

    make bench-bounces

A sample is right if every recipient, kind, status, the reply and the original Message-ID are what it says. flufl.bounce
knows recipients only, so beside it only those are compared, and of bounces only. Replies of the world
(tests/support/replies.txt) are right if their kind is. Rates are of a second of CPU: the best
of five runs over the corpus, made as long as bounces are in the field, and over replies of which no two are alike.
"""

import email
import itertools
import logging
import random
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from flufl.bounce import all_failures

from bench.bars import Bar, print_bars, print_machine
from bench.common import ROOT
from engine.base.settings_file import load_bounce_rules
from engine.message.bounce_rules import Classifier
from engine.message.bounce_verdict import judge_report
from engine.protocol.bounces import read_report
from tests.support.bounces import Sample, samples
from tests.support.judging import RULES, faults
from tests.support.replies import replies as worlds_replies

REPLIES = 200_000
_NO_BOUNCES = {"complaint", "auto-reply", "challenge"}


def by_flufl(content: bytes) -> set[str]:
    """The recipients it finds, in lower case."""
    try:
        temporary, permanent = all_failures(email.message_from_bytes(content))
    except Exception:  # of its own parsers, on a broken bounce
        return set()
    return {address.decode("utf-8", "replace").lower() for address in temporary | permanent}


def score(classifier: Classifier) -> tuple[float, float, float]:
    """(share right, share of bounces with the right recipients, the same of flufl.bounce); a line each family."""
    right: dict[str, list[bool]] = defaultdict(list)
    ours: dict[str, list[bool]] = defaultdict(list)
    theirs: dict[str, list[bool]] = defaultdict(list)
    for sample in samples():
        rows = judge_report(read_report(sample.content), classifier)
        right[sample.family].append(not faults(sample, rows))
        if is_bounce(sample):
            wanted = {want.recipient.lower() for want in sample.want if want.recipient}
            ours[sample.family].append({row.recipient.lower() for row in rows if row.recipient} == wanted)
            theirs[sample.family].append(by_flufl(sample.content) == wanted)
    print(f"\n{'family':<14}{'samples':>8}{'right':>8}   recipients: ours  flufl.bounce")
    for family, each in right.items():
        beside = f"{percent(ours[family]):>18}{percent(theirs[family]):>14}" if ours[family] else ""
        print(f"{family:<14}{len(each):>8}{percent(each):>8}{beside}")
    totals = [list(itertools.chain(*table.values())) for table in (right, ours, theirs)]
    shares = [sum(each) / len(each) for each in totals]
    print(
        f"{'all':<14}{len(totals[0]):>8}"
        + "".join(f"{100 * s:>{w}.0f}%" for s, w in zip(shares, (7, 17, 13), strict=True))
    )
    return shares[0], shares[1], shares[2]


def is_bounce(sample: Sample) -> bool:
    """Something that flufl.bounce is meant for: a failure or a delay, of a named recipient."""
    return sample.family not in ("people", "complaints", "automatic") and all(
        want.recipient and want.kind != "unknown" for want in sample.want
    )


def lengthened(content: bytes) -> bytes:
    """As it would have come from far: with the traces of ten hops, and a longer message that is returned."""
    hop = b"Received: from mx%d.example.net (mx%d.example.net [192.0.2.%d])\r\n"
    hop += b"\tby mx.example.org with ESMTPS id 4XkQ2b\r\n"
    hop += b"\tfor <return@shop.example.org>; Mon, 2 Nov 2026 09:05:00 +0000\r\n"
    text = b"Thank you for your order. It will be with you tomorrow.\r\n" * 30
    return b"".join(hop % (n, n, n) for n in range(10)) + content.replace(b"Thank you for your order.", text)


def percent(each: list[bool]) -> str:
    return f"{100 * sum(each) / len(each):.0f}%"


def rate(work: Callable[[], int]) -> float:
    """Units of work a second of CPU, the best of five runs: the machine has other work."""
    best = 0.0
    for _ in range(5):
        started = time.process_time()
        count = work()
        best = max(best, count / (time.process_time() - started))
    return best


def replies() -> list[str]:
    """The rules' own samples with names and numbers changed, so that no two are alike."""
    draw = random.Random(1)
    found = [sample for rule in load_bounce_rules(RULES, []) for sample in rule.matches + rule.misses]
    return [
        f"{draw.choice(found)} <u{number}@h{draw.randrange(10**6)}.example.net> [192.0.{draw.randrange(256)}.7]"
        for number in range(REPLIES)
    ]


def main() -> None:
    logging.getLogger("flufl.bounce").setLevel(logging.CRITICAL)
    print_machine(Path(ROOT))
    classifier = Classifier(load_bounce_rules(RULES, []))
    right, ours, theirs = score(classifier)
    contents = [lengthened(sample.content) for sample in samples() if is_bounce(sample)]
    size = sum(map(len, contents)) / len(contents)
    parsed = rate(lambda: len([read_report(content) for content in contents]))
    judged = rate(lambda: len([judge_report(read_report(content), classifier) for content in contents]))
    slow = rate(lambda: len([by_flufl(content) for content in contents]))
    known = worlds_replies()
    understood = sum(classifier.judge(each.reply).kind == each.kind for each in known) / len(known)
    texts = replies()
    classified = rate(lambda: len([classifier.judge(text) for text in texts]))
    print(
        f"\nbounces of {size:,.0f} bytes on average: read {parsed:,.0f}/s; flufl.bounce {slow:,.0f}/s, recipients only"
    )
    print_bars(
        [
            Bar("samples right", 100 * right, 97, "%"),
            Bar(f"replies of the world right, of {len(known)}", 100 * understood, 97, "%"),
            Bar("recipients of bounces right", 100 * ours, 100 * theirs, "%"),
            Bar("read and judged, one core", judged, 1500, "/s"),
            Bar("replies judged, no two alike, one core", classified, 100_000, "/s"),
        ]
    )


if __name__ == "__main__":
    main()
