"""The retry schedule, as written in settings: `1m, 5m, 15m, 30m, 1h, 2h, 4h*`.

Steps are the waits after the first failed attempt, the second, and so on. `*` on the last step repeats it until
`expire_after` ends the message; without it the schedule is over after the last step.
"""

from dataclasses import dataclass

from engine.base.units import parse_duration


@dataclass(frozen=True, slots=True)
class Schedule:
    """steps: seconds, one or more, each above zero. repeats: whether the last one goes on for ever."""

    steps: tuple[float, ...]
    repeats: bool

    def after(self, failed_attempts: int) -> float | None:
        """Seconds to wait after this many failed attempts (1 or more); None: the schedule is over."""
        if failed_attempts <= len(self.steps):
            return self.steps[failed_attempts - 1]
        return self.steps[-1] if self.repeats else None


def parse_schedule(text: str) -> Schedule:
    """The schedule written so. Raises ValueError."""
    words = [word.strip() for word in text.split(",")]
    if words == [""]:
        raise ValueError('"" is not a schedule, such as "1m, 5m, 15m, 1h*"')
    repeats = words[-1].endswith("*")
    if repeats:
        words[-1] = words[-1][:-1].rstrip()
    steps = []
    for word in words:
        if word.endswith("*"):
            raise ValueError(f'"{text}": only the last step can repeat, not "{word}"')
        try:
            step = parse_duration(word)
        except ValueError as error:
            raise ValueError(f'"{text}": {error}') from None
        if step <= 0:
            raise ValueError(f'"{text}": a step must be longer than zero')
        steps.append(float(step))
    return Schedule(tuple(steps), repeats)
