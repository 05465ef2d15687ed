"""What a benchmark must show: figures beside their bars, and whether each is kept."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.common import machine


@dataclass(frozen=True, slots=True)
class Bar:
    """One figure and what it may be. at_most: the bar is a ceiling, else a floor. figure None: it could not be had."""

    what: str
    figure: float | None
    bar: float
    unit: str = ""
    at_most: bool = False

    @property
    def kept(self) -> bool | None:
        if self.figure is None:
            return None
        return self.figure <= self.bar if self.at_most else self.figure >= self.bar

    def __str__(self) -> str:
        word = {True: "kept", False: "MISSED", None: "not measured"}[self.kept]
        figure = "-" if self.figure is None else _short(self.figure)
        relation = "at most" if self.at_most else "at least"
        unit = f" {self.unit}" * bool(self.unit)
        return f"{self.what:54} {figure:>9}{unit}; {relation} {_short(self.bar)}: {word}"


def print_bars(bars: Iterable[Bar]) -> bool:
    """One line each; whether none was missed."""
    bars = list(bars)
    print("\nbars")
    for bar in bars:
        print(f"  {bar}")
    return all(bar.kept is not False for bar in bars)


def print_machine(folder: Path) -> dict[str, object]:
    """The facts that figures depend on, printed and given back. folder: where the queues will be."""
    facts = machine(folder)
    print("machine   " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items()))
    return facts


def _short(figure: float) -> str:
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:,.2f}".rstrip("0").rstrip(".")
