"""The second act of the demo: SMS. Four numbers: one that takes it, one at which the carrier is too busy at first, one
that is none, and one that answers STOP."""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from engine.tools.demo_stage import DemoFailed, Stage

#: The last digit says what becomes of it; see Stage.start_smsc.
_NUMBERS = "44770090000#"
GOOD, BUSY, NOBODY, STOPS = (f"+44770090000{digit}" for digit in range(4))
SENDER = "447700900999"
#: What the test SMSC does.
RULES = (
    "--reply", "447700900001=ESME_RTHROTTLED x1", "--reply", "447700900002=ESME_RINVDSTADR",
    "--answer", "447700900003=STOP x1",
)  # fmt: skip
#: Events of the four, and of the confirmation of the stop.
EXPECTED = {"received": 5, "sent": 4, "failed": 1, "delivered": 4, "opted-out": 1}
_FINAL = ("sent", "failed", "expired", "removed", "suppressed")


def act(stage: Stage, say: Callable[[str], None]) -> None:
    """Raises DemoFailed: something expected did not happen."""
    told = _submit(stage, say)
    _watch(stage, say)
    if told["receipts"] != {"DELIVRD": 3, "REJECTD": 1}:
        raise DemoFailed(f"the application has other receipts: {told['receipts']}")
    say("the application has a receipt for each: 3 delivered, 1 rejected")
    _stays_out(stage, say)


def _submit(stage: Stage, say: Callable[[str], None]) -> dict[str, Any]:
    """As an application does, over SMPP; its own count."""
    answer = stage.command(
        "load", "--smpp", f"127.0.0.1:{stage.ports['smpp']}", "--system-id", "shop", "--password", "demo", "-n", "4",
        "--from", SENDER, "--destination", _NUMBERS, "--text", "Your order is ready. Reply STOP to hear no more.",
        "--receipts", "20s", "--json",
    )  # fmt: skip
    if not answer.stdout.startswith("{"):
        raise DemoFailed(f"submitting SMS: {answer.stderr.strip()}")
    told: dict[str, Any] = json.loads(answer.stdout)
    say(f"submitted {told['accepted']} SMS over SMPP to +{_NUMBERS}")
    return told


def _watch(stage: Stage, say: Callable[[str], None]) -> None:
    def events() -> list[dict[str, Any]]:
        return [event for event in stage.events() if _is_sms(event)]

    stage.wait(lambda: _reached(Counter(event["type"] for event in events())), 20, f"{EXPECTED}")
    found = events()
    for event in found:
        if event["type"] != "received":
            say(f"{event['message']}: {event['type']}, to {event['recipient']}: {event.get('reply') or event['text']}")
    counts = Counter(event["type"] for event in found)
    if {name: counts[name] for name in EXPECTED} != EXPECTED:
        raise DemoFailed(f"expected {EXPECTED}, counted {dict(counts)}")
    parts = ", ".join(f"{counts[name]} {name}" for name in _FINAL if counts[name])
    say(f"tally: {counts['received']} SMS accepted = {parts}, 0 queued; {counts['delivered']} delivered by receipt")
    refused = json.loads((stage.folder / "smsc.json").read_text())["refused"]
    if refused.get("ESME_RTHROTTLED") != 1:
        raise DemoFailed(f"the carrier throttled nothing: {refused}")
    say("the carrier was too busy for one of them (ESME_RTHROTTLED); it went again, first of all")


def _is_sms(event: dict[str, Any]) -> bool:
    return event["destination"].startswith("sms:") or event["type"] in ("opted-out", "answered")


def _reached(counts: "Counter[str]") -> bool:
    return all(counts[name] >= count for name, count in EXPECTED.items())


def _stays_out(stage: Stage, say: Callable[[str], None]) -> None:
    """Whoever opted out is on the list, and has had the confirmation."""
    answer = stage.command("sms", "optout", "list", "--json", "-c", str(stage.settings))
    rows = [json.loads(line) for line in answer.stdout.splitlines()]
    if [f"+{row['recipient']}" for row in rows] != [STOPS]:
        raise DemoFailed(f"opted out: {rows or answer.stderr.strip()}")
    say(f"{STOPS} has opted out of {SENDER}, and got one confirmation")
