"""The classifier as it is shipped, and what it makes of a message."""

from functools import cache
from pathlib import Path

from engine.base.settings_file import load_bounce_rules
from engine.message.bounce_rules import Classifier
from engine.message.bounce_verdict import Judged, judge_report
from engine.protocol.bounces import read_report
from tests.support.bounces import Sample

RULES = Path(__file__).parents[2] / "config" / "bounces.toml"


@cache
def shipped() -> Classifier:
    found: list[str] = []
    classifier = Classifier(load_bounce_rules(RULES, found))
    assert found == []
    return classifier


def judged(content: bytes) -> list[Judged]:
    return judge_report(read_report(content), shipped())


def faults(sample: Sample, rows: list[Judged]) -> list[str]:
    """In what these rows are not what the sample says; [] if all is right."""
    got = [(row.recipient, row.kind, row.status or None) for row in rows]
    found = [] if got == [tuple(want) for want in sample.want] else [f"rows {got}"]
    if sample.reply is not None and not rows[-1].reply.startswith(sample.reply):
        found.append(f"reply {rows[-1].reply!r}")
    if {row.original_message_id or None for row in rows} != {sample.original_message_id}:
        found.append(f"original message id {rows[0].original_message_id!r}")
    return found
