"""What the test MX answers: rules by stage and pattern, delays, a rate.

    STAGE:PATTERN=REPLY [xN]     rcpt:defer*@*=451 4.2.1 try later x2      the first 2 times for each address
    STAGE[:PATTERN] [xN]         end-of-data:lost*@* x1                    (drop) close without a reply, once

Stages: connect (pattern: the client's address), ehlo (its name), starttls, mail (sender), rcpt (recipient), data,
end-of-data and taken (any accepted recipient of the transaction). At `taken` the message is kept and counted
whatever the reply: what a client sees when a server dies between taking a message and saying so. Patterns are
shell patterns; case does not matter. The first rule that matches wins. Pure: time and subject come in.
"""

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from engine.base.errors import ConfigError
from engine.base.units import parse_duration, parse_rate

STAGES = ("connect", "ehlo", "starttls", "mail", "rcpt", "data", "end-of-data", "taken")

#: What a rule says when the connection is to be closed without a word.
DROP = b""

_REPLY = re.compile(r"(?P<stage>[a-z-]+):(?P<pattern>.*?)=(?P<reply>[2-5][0-9]{2}(?: .*)?)", re.DOTALL)
_DROP = re.compile(r"(?P<stage>[a-z-]+)(?::(?P<pattern>.*))?", re.DOTALL)
_TIMES = re.compile(r"\s+x([0-9]+)$")


@dataclass(slots=True)
class Rule:
    """One rule. times: how often for each subject, None without end. reply: complete with CRLF, or DROP."""

    stage: str
    pattern: re.Pattern[str]
    reply: bytes
    times: int | None = None
    used: dict[str, int] = field(default_factory=dict)

    def applies(self, subject: str) -> bool:
        """True if this rule answers now; counts the use."""
        if not self.pattern.match(subject):
            return False
        if self.times is None:
            return True
        used = self.used.get(subject, 0)
        if used >= self.times:
            return False
        self.used[subject] = used + 1
        return True


def parse_reply_rule(text: str) -> Rule:
    """`STAGE:PATTERN=REPLY [xN]`; a newline in REPLY makes a reply of several lines. Raises ConfigError."""
    body, times = split_times(text)
    match = _REPLY.fullmatch(body)
    if match is None:
        raise ConfigError([f'"{text}" is not a reply rule, such as "rcpt:bad*@*=550 5.1.1 no such user"'])
    lines = match["reply"].split("\n")
    code, lines[0] = lines[0][:3], lines[0][4:]
    head = "".join(f"{code}-{line}\r\n" for line in lines[:-1])
    return _rule(text, match["stage"], match["pattern"], f"{head}{code} {lines[-1]}\r\n".encode(), times)


def parse_drop_rule(text: str) -> Rule:
    """`STAGE[:PATTERN] [xN]`. Raises ConfigError."""
    body, times = split_times(text)
    match = _DROP.fullmatch(body)
    if match is None:
        raise ConfigError([f'"{text}" is not a stage to drop at, such as "end-of-data:lost*@* x1"'])
    return _rule(text, match["stage"], match["pattern"] or "*", DROP, times)


def parse_delay(text: str) -> tuple[str, float]:
    """`STAGE=SECONDS` or `STAGE=200ms`. Raises ConfigError."""
    stage, _, written = text.partition("=")
    _check_stage(text, stage)
    try:
        seconds = float(written) if written.replace(".", "", 1).isdigit() else float(parse_duration(written))
    except ValueError as error:
        raise ConfigError([f"{text}: {error}"]) from error
    return stage, seconds


def parse_sink_rate(text: str) -> float:
    """Messages a second, as `20/s`. Raises ConfigError."""
    try:
        return float(parse_rate(text))
    except ValueError as error:
        raise ConfigError([str(error)]) from error


def split_times(text: str) -> tuple[str, int | None]:
    """A rule without its ` xN`, and N."""
    match = _TIMES.search(text)
    return (text[: match.start()], int(match[1])) if match else (text, None)


def _check_stage(text: str, stage: str) -> None:
    if stage not in STAGES:
        raise ConfigError([f'"{text}": "{stage}" is not one of {", ".join(STAGES)}'])


def _rule(text: str, stage: str, pattern: str, reply: bytes, times: int | None) -> Rule:
    _check_stage(text, stage)
    return Rule(stage, re.compile(fnmatch.translate(pattern.lower())), reply, times)


class Script:
    """All rules and delays of a sink. A stage without rules costs one dictionary look-up."""

    def __init__(self, rules: Iterable[Rule] = (), delays: Iterable[tuple[str, float]] = ()) -> None:
        self.delays = dict(delays)
        self._rules: dict[str, list[Rule]] = {}
        for rule in rules:
            self._rules.setdefault(rule.stage, []).append(rule)

    def answer(self, stage: str, subjects: Iterable[str]) -> bytes | None:
        """The reply some rule gives to one of these subjects; DROP; or None: go on as usual."""
        rules = self._rules.get(stage)
        if rules is None:
            return None
        for subject in subjects:
            folded = subject.lower()
            for rule in rules:
                if rule.applies(folded):
                    return rule.reply
        return None


class Pace:
    """At most `rate` messages a second, with a burst of one second."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._tokens = max(1.0, rate)
        self._at: float | None = None

    def take(self, now: float) -> bool:
        """True if one more message is allowed at `now` (monotonic)."""
        if self._at is not None:
            self._tokens = min(max(1.0, self._rate), self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
