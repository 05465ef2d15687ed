"""The ten-minute tour in fifteen seconds: mail goes in over SMTP, comes out signed, waits, is refused, is reported; a
reader clicks and unsubscribes (demo_reader.py). SMS follow over SMPP (demo_sms.py).

Whatever is claimed here is read from what the parts wrote: the event journal, the messages at the test MX, the
signatures as dkimpy sees them. Nothing is taken from the engine's memory.
"""

import argparse
import json
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

import dkim  # type: ignore[import-untyped]  # dkimpy has no types

from engine.tools import demo_reader, demo_sms
from engine.tools.demo_stage import DemoFailed, Stage

Say = Callable[[str], None]

SENDER = "demo@sender.example"
#: subject, recipients, text
MAILS = (
    ("one recipient", ("ada@good.example",), "Hello Ada.\n"),
    ("two domains", ("ada@good.example", "bob@good.example", "carl@poor.example"), "One content, two deliveries.\n"),
    ("eight bits", ("bob@good.example",), "Grüße, 8BITMIME.\n.a line that begins with a dot\n"),
    ("not now", ("later@poor.example",), "The mailbox is busy at first.\n"),
    ("nobody there", ("nobody@poor.example",), "This one comes back.\n"),
)
#: Of those, the notification of the one refused, and two newsletters.
EXPECTED = {"received": 10, "delivered": 8, "deferred": 1, "failed": 1, **demo_reader.EXPECTED}
FINAL = ("delivered", "failed", "expired", "removed", "suppressed")


def run_demo(args: argparse.Namespace) -> int:
    """Exit status 0 only if everything expected happened and the tally balances."""
    stage = Stage(args.dir)
    signal.signal(signal.SIGTERM, _interrupt)
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:5.1f} s  {text}", flush=True)

    done = False
    try:
        say(f"everything of this demo is in {stage.folder}")
        _raise_curtain(stage, say)
        ids = _submit(stage, say)
        _watch(stage, ids, say)
        _verify(stage, say)
        _tally(stage, say)
        demo_sms.act(stage, say)
        _where_to_look(stage)
        done = True
        if args.stay:
            print("\nRunning until Ctrl-C.", flush=True)
            signal.pause()
    except DemoFailed as error:
        print(f"\nThe demo failed: {error}", flush=True)
        return 1
    except KeyboardInterrupt:
        print()
    finally:
        stage.stop()
    return 0 if done else 130


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _raise_curtain(stage: Stage, say: Say) -> None:
    stage.build()
    say("made settings and a DKIM key (RSA 2048)")
    stage.start_sink("good")
    stage.start_sink(
        "poor",
        "rcpt:later@*=451 4.2.1 mailbox busy, try again x1",
        "rcpt:nobody@*=550 5.1.1 no such user here",
    )
    say(f"test MX: good.example on port {stage.ports['good']}, poor.example on {stage.ports['poor']}")
    stage.start_smsc(*demo_sms.RULES)
    say(f"test SMSC on port {stage.ports['smsc']}")
    stage.start_engine()
    named = (("SMTP", "smtp"), ("SMPP", "smpp"), ("links", "click"), ("metrics", "http"))
    say("engine on 127.0.0.1: " + ", ".join(f"{name} {stage.ports[port]}" for name, port in named))


def _submit(stage: Stage, say: Say) -> list[str]:
    """Hand all mails in; their queue ids."""
    ids = []
    for subject, recipients, text in MAILS:
        content = f"From: Demo <{SENDER}>\nTo: {', '.join(recipients)}\nSubject: {subject}\n"
        content += (
            f"MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n{text}"
        )
        ids.append(stage.submit(SENDER, recipients, content.encode()))
        say(f"submitted {ids[-1]}: {subject}, to {', '.join(recipients)}")
    ids.append(demo_reader.send_newsletter(stage, "the newsletter of November", say))
    return ids


def _watch(stage: Stage, ids: list[str], say: Say) -> None:
    """Tell every event as it comes, until all is final, the report is where it belongs, and the reader is done."""
    told = 0
    reader = demo_reader.reader(stage, ids[-1], say)

    def finished() -> bool:
        nonlocal told
        next(reader, None)
        events = stage.events()
        for event in events[told:]:
            if event["type"] != "received" or event["recipient"] == SENDER:
                say(_event_line(event))
            if event["type"] == "deferred":
                _why(stage, event["recipient"], say)
        told = len(events)
        counts = Counter(event["type"] for event in events)
        final = sum(counts[name] for name in FINAL) >= counts["received"] >= EXPECTED["received"]
        return final and counts["verdict"] >= EXPECTED["verdict"]

    stage.wait(finished, 40, f"{EXPECTED['received']} recipients with a final outcome, and the verdict of a click")


def _why(stage: Stage, recipient: str, say: Say) -> None:
    """The question every operator asks, while there is something to ask about."""
    answer = stage.command("why", recipient, "-c", str(stage.settings))
    if answer.returncode == 0:
        say(f"postrider why {recipient}:")
        print("".join(f"           {line}\n" for line in answer.stdout.splitlines()[1:]), end="", flush=True)


def _event_line(event: dict[str, Any]) -> str:
    if event["type"] == "received":
        return f"{event['message']}: a notification for <{event['recipient']}>, the sender of the one refused"
    what = event.get("reply", "")
    if event["type"] in ("clicked", "verdict"):
        what = ", ".join([f"link {event['link']}", event["verdict"], *event.get("reasons", ())])
    elif event["type"] in ("unsubscribed", "suppressed"):
        what = f"{event.get('kind') or what}, stream {event['stream']}"
    return f"{event['message']}: {event['type']}, to {event['recipient']}: {what}"


def _verify(stage: Stage, say: Say) -> None:
    """Signatures of everything that arrived, and the notification's parts."""
    arrived = stage.received("good") + stage.received("poor")
    if len(arrived) != 8:  # each recipient has a copy of his own, which says how he can leave
        raise DemoFailed(f"{len(arrived)} messages at the test MX, 8 expected")
    for envelope, content in arrived:
        if not dkim.verify(
            content, dnsfunc=lambda name, timeout=5: stage.txt if b"demo._domainkey" in _raw(name) else b""
        ):
            raise DemoFailed(f"the signature of the mail to {envelope['recipients']} is not valid")
    say(f"{len(arrived)} messages arrived, each with a DKIM signature that dkimpy verifies (d=sender.example, s=demo)")
    reports = [content for envelope, content in arrived if envelope["recipients"] == [SENDER]]
    if len(reports) != 1 or b"report-type=delivery-status" not in reports[0] or b"5.1.1" not in reports[0]:
        raise DemoFailed("no delivery status notification with status 5.1.1 came back to the sender")
    say("the sender has a delivery status notification: status 5.1.1, no such user here")


def _raw(name: bytes | str) -> bytes:
    return name if isinstance(name, bytes) else name.encode()


def _tally(stage: Stage, say: Say) -> None:
    """Q2, from the events: accepted = delivered + failed + ... + still queued."""
    events = stage.events()
    counts = Counter(event["type"] for event in events)
    final = Counter((event["message"], event["recipient"]) for event in events if event["type"] in FINAL)
    received = {(event["message"], event["recipient"]) for event in events if event["type"] == "received"}
    queued = len(received - set(final))
    parts = ", ".join(f"{counts[name]} {name}" for name in FINAL if counts[name])
    say(f"tally: {counts['received']} recipients accepted = {parts}, {queued} queued ({counts['deferred']} waited)")
    _tally_of_readers(events, say)
    if set(final) - received or max(final.values()) > 1 or len(received) != sum(final.values()) + queued:
        raise DemoFailed("the tally does not balance")
    if {name: counts[name] for name in EXPECTED} != EXPECTED:
        raise DemoFailed(f"expected {EXPECTED}, counted {dict(counts)}")
    _compare(stage, counts, say)


def _tally_of_readers(events: list[dict[str, Any]], say: Say) -> None:
    """Of the verdicts of a hit the last one counts."""
    verdicts = {event["id"]: event["verdict"] for event in events if event["type"] == "clicked"}
    verdicts |= {event["hit"]: event["verdict"] for event in events if event["type"] == "verdict"}
    people = sum(verdict == "human" for verdict in verdicts.values())
    left = sum(event["type"] == "unsubscribed" for event in events)
    say(f"tally: clicks: {len(verdicts)}, of people: {people}; unsubscribed: {left}")
    if people != 1:
        raise DemoFailed(f"one click of a person expected, counted {verdicts}")


def _compare(stage: Stage, counts: Counter[str], say: Say) -> None:
    """The engine's own figures must be those of its events."""
    answer = stage.command("status", "--json", "-c", str(stage.settings))
    if answer.returncode:
        raise DemoFailed(f"postrider status: {answer.stderr.strip()}")
    status = json.loads(answer.stdout)
    if not status["balanced"] or status["accepted"] != counts["received"] or status["queued"] or status["orphans"]:
        raise DemoFailed(f"postrider status says otherwise: {status}")
    delivered = sum(value for name, value in _metrics(stage).items() if name.startswith("postrider_delivered_total{"))
    if delivered != counts["delivered"] or status["delivered"] != counts["delivered"]:
        raise DemoFailed(
            f"delivered: {counts['delivered']} events, {status['delivered']} in status, {delivered} in metrics"
        )
    say("postrider status and the metrics say the same")


def _metrics(stage: Stage) -> dict[str, float]:
    url = f"http://127.0.0.1:{stage.ports['http']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line and line[0] != "#"}


def _where_to_look(stage: Stage) -> None:
    settings = stage.settings
    print(f"""
Where to look
  settings   {settings}
  log        {stage.folder}/engine.log
  mail       {stage.folder}/good/*.eml and {stage.folder}/poor/*.eml
  events     postrider events list -c {settings}
With the engine running (postrider demo --stay, or postrider serve -c {settings})
  metrics    http://127.0.0.1:{stage.ports["http"]}/metrics
  try        postrider status -c {settings}
             postrider route ada@good.example -c {settings}
             postrider sms binds -c {settings}
             postrider suppress find {demo_reader.READER} -c {settings}
             postrider send MESSAGE --from {SENDER} --to ada@good.example -c {settings}""")
