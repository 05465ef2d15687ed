"""What a reply means: the first of the rules (config/bounces.toml) that matches it.

Guards among them are asked only where that one is `hard`, and decide instead of it, wherever they stand: whatever makes
an address dead, words about the sender, about permission or about now do not.

The one judge of replies in a session, of delivery reports later and of what SMS carriers say. All texts of all rules
are one RE2 set: a reply is read once, in linear time, whatever the rules and whatever the reply.

`problems` finds rules that do not do what their samples say, which is what rules of other engines are known for.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import re2

from engine.base.errors import ConfigError
from engine.base.settings_bounces import BounceRule, Kind
from engine.base.settings_file import load_bounce_rules

#: Of a reply; what is behind it is not looked at. Postfix keeps 2,048 of a line.
MAX_TEXT = 2000
_SEEN = 4096
#: What is said here is about us or the host: no recipient has been named yet.
_BEFORE_RCPT = frozenset(("connect", "banner", "ehlo", "starttls", "auth", "mail"))

_HEAD = re.compile(r"\s*(?:([2-5]\d\d)(?=$|[^\d.])[ -]*[(\[#]{0,2})?(?:([245])\.(\d{1,3})\.(\d{1,3})(?![\d.]*\d))?")
_DOMAIN = re.compile(r"[^\s<>\"')@,;:]*")
_INNER = re.compile(r"#([245])\.(\d{1,3})\.(\d{1,3})\b")
_STATUS = re.compile(r"([245x])\.(\d{1,3}|x)\.(\d{1,3}|x)")


class Verdict(NamedTuple):
    """What a reply means. rule: the name of the one that said so, "" if none did."""

    kind: Kind
    rule: str


_NONE = Verdict("unknown", "")


class Classifier:
    """The rules, compiled. Immutable but for a memory of codes that were seen, which is bounded."""

    def __init__(self, rules: Sequence[BounceRule]) -> None:
        """Raises ValueError: a text is no pattern. `problems` says which."""
        self._rules = tuple(rules)
        self._verdicts = tuple(Verdict(rule.kind, rule.name) for rule in rules)
        self._set, self._of_pattern = _set_of(rules, guards=False)
        # A set of their own, for the few replies that are hard.
        self._guards, self._of_guard = _set_of(rules, guards=True)
        self._plain = tuple(index for index, rule in enumerate(rules) if not rule.text)
        self._by_code: dict[tuple[str, str], tuple[frozenset[int], tuple[int, ...]]] = {}

    def judge(self, reply: str, *, status: str = "", phase: str = "", provider: str = "") -> Verdict:
        """What this reply means. Never raises.

        reply: "550 5.1.1 no such user", or any words. status: of the report, where the reply has none. phase: as in
        message.outcome.PHASES, or "smpp" for statuses and receipts of carriers; "" if nobody knows. provider: of
        providers.toml.
        """
        text = reply[:MAX_TEXT]
        if "@" in text:
            text = _without_names(text)
        head = _HEAD.match(text)
        code, first, second, third = head.groups() if head else (None, None, None, None)
        if first:
            status = f"{first}.{second}.{third}"
        elif "#" in text and (inner := _INNER.search(text)):
            status = ".".join(inner.groups())
        allowed, plain = self._allowed(code or "", status)
        raw = text.encode("utf-8", "replace")
        found = self._set.Match(raw)
        best = len(self._rules)
        for each in found or ():
            index = self._of_pattern[each]
            if index < best and self._fits(index, allowed, phase, provider):
                best = index
        for index in plain:
            if index >= best:
                break
            if self._fits(index, allowed, phase, provider):
                best = index
                break
        if best == len(self._rules):
            return _NONE
        if self._verdicts[best].kind == "hard" and self._of_guard and (found := self._guards.Match(raw)):
            guards = (self._of_guard[each] for each in found)
            best = min((index for index in guards if self._fits(index, allowed, phase, provider)), default=best)
        return self._verdicts[best]

    def _fits(self, index: int, allowed: frozenset[int], phase: str, provider: str) -> bool:
        rule = self._rules[index]
        if index not in allowed or (rule.phase and phase not in rule.phase):
            return False
        if phase == "smpp" and "smpp" not in rule.phase:
            return False
        if rule.kind == "hard" and phase in _BEFORE_RCPT:
            return False
        return not rule.provider or provider in rule.provider

    def _allowed(self, code: str, status: str) -> tuple[frozenset[int], tuple[int, ...]]:
        """Rules whose codes and statuses permit these; and of them those without text, in order."""
        key = (code, status)
        known = self._by_code.get(key)
        if known is None:
            if len(self._by_code) >= _SEEN:
                self._by_code.clear()
            allowed = frozenset(index for index, rule in enumerate(self._rules) if _permits(rule, code, status))
            known = self._by_code[key] = (allowed, tuple(index for index in self._plain if index in allowed))
        return known


def problems(rules: Sequence[BounceRule]) -> list[str]:
    """Rules that cannot be meant, and samples that end elsewhere, one line each, in the order of the rules."""
    found = []
    names: set[str] = set()
    for number, rule in enumerate(rules, 1):
        label = f'[[rule]] {number} "{rule.name}"'
        found += [f"{label}: {text}" for text in _rule_problems(rule, names)]
        names.add(rule.name)
    if not found:
        classifier = Classifier(rules)
        found = [f'[[rule]] {number} "{rule.name}": {text}' for number, rule in enumerate(rules, 1)
                 for text in _sample_problems(classifier, rule)]  # fmt: skip
    return found


def _set_of(rules: Sequence[BounceRule], *, guards: bool) -> "tuple[re2.Set, list[int]]":
    """The texts of all rules that are guards, or are not, and the rule of each. Raises ValueError."""
    patterns, of_pattern = re2.Set.SearchSet(_options()), []
    for index, rule in enumerate(rules):
        for text in rule.text if rule.guard is guards else ():
            if patterns.Add(_pattern(text)) < 0:
                raise ValueError(f"{text!r} is not a pattern")
            of_pattern.append(index)
    patterns.Compile()
    return patterns, of_pattern


def _options() -> "re2.Options":
    options = re2.Options()
    options.case_sensitive = False
    options.log_errors = False
    options.max_mem = 256 << 20
    return options


def _without_names(text: str) -> str:
    """With every address as "@": what people call mailboxes is no evidence, spam@quota.example may be just unknown.

    Three times as fast as one pattern, which would try again at each character.
    """
    kept, *rest = text.split("@", 20)
    pieces = []
    for piece in rest:
        start = max(kept.rfind(" "), kept.rfind("<"), kept.rfind("("), kept.rfind('"'), kept.rfind("'")) + 1
        pieces.append(kept[:start])
        domain = _DOMAIN.match(piece)
        kept = piece[domain.end() :] if domain else piece
    return "@".join((*pieces, kept))


def _pattern(text: str) -> str:
    """In RE2's own terms."""
    return text.replace(" ?", r"\s*").replace(" ", r"\s+")


def _permits(rule: BounceRule, code: str, status: str) -> bool:
    if rule.code:
        # Prose has no code; the class of its status must do, and where there is neither nothing speaks against.
        said = code or status[:1]
        if said and not any(said.startswith(each) or (not code and each.startswith(said)) for each in rule.code):
            return False
        if not said and not rule.text:
            return False
    if not rule.status:
        return True
    parts = status.split(".")
    return any(
        all(one in ("x", other) for one, other in zip(each.split("."), parts, strict=False))
        for each in rule.status
        if len(parts) == 3
    )


def _rule_problems(rule: BounceRule, names: set[str]) -> Iterator[str]:
    if rule.name in names:
        yield "the name is there already"
    if not (rule.text or rule.code or rule.status or rule.phase or rule.provider):
        yield "without text, code, status, phase or provider it would take everything"
    if rule.guard and (rule.kind == "hard" or not rule.text):
        yield "guard: is for rules that are not hard and have texts"
    for text in rule.text:
        if not text.strip():
            yield "text: an empty one is in every reply"
            continue
        try:
            if re2.compile(_pattern(text), _options()).search("") is not None:
                yield f"text '{text}' matches a reply without words"
        except re2.error:
            yield f"text '{text}' is not a pattern that RE2 knows"
        if "\\\\" in text:
            yield f"text '{text}': a doubled backslash; in single quotes one is enough"
    for code in rule.code:
        if not (code.isascii() and code.isdecimal() and len(code) <= 3 and code[0] in "245"):
            yield f'code "{code}" is not the beginning of a code, such as "5" or "550"'
    for status in rule.status:
        if not _STATUS.fullmatch(status):
            yield f'status "{status}" is not an enhanced code, such as "5.1.1" or "x.7.x"'
    if not rule.matches or not rule.misses:
        yield "samples are missing: matches and misses, one at least of each"


def _sample_problems(classifier: Classifier, rule: BounceRule) -> Iterator[str]:
    phase, provider = rule.phase[0] if rule.phase else "", rule.provider[0] if rule.provider else ""
    for sample in rule.matches:
        verdict = classifier.judge(sample, phase=phase, provider=provider)
        if verdict.rule != rule.name:
            yield f'matches "{sample}": {_taken(verdict)}'
    for sample in rule.misses:
        if classifier.judge(sample, phase=phase, provider=provider).rule == rule.name:
            yield f'misses "{sample}": it matches'


def _taken(verdict: Verdict) -> str:
    return f'"{verdict.rule}" takes it' if verdict.rule else "no rule takes it"


def load_classifier(file: Path, *, samples: bool = False) -> Classifier:
    """With the rules of a bounces.toml. Raises ConfigError: they are none, or (samples) do not do what those say."""
    found: list[str] = []
    rules = load_bounce_rules(file, found)
    if samples and not found:
        found = [f"{file.name}: {text}" for text in problems(rules)]
    if found:
        raise ConfigError(found)
    try:
        return Classifier(rules)
    except ValueError as exc:
        raise ConfigError([f"{file.name}: {exc}"]) from exc
