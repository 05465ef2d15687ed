"""Counters and histograms that cost an addition, shown by prometheus_client.

Its own take a lock for every number they change, half a microsecond each, because any thread may change any of them.
Here a child belongs to one thread, which counts with it; whoever scrapes reads along, and is a number late at most.
"""

import time
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric


class Count:
    """One number of a counter."""

    __slots__ = ("created", "value")

    def __init__(self) -> None:
        self.created = time.time()
        self.value = 0.0

    def inc(self, amount: float = 1.0) -> None:
        self.value += amount


class Spread:
    """One distribution of a histogram. counts: values up to each bound, and above the one before; last, the rest."""

    __slots__ = ("_bounds", "counts", "created", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.created = time.time()
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


Child = TypeVar("Child", Count, Spread)


class Instrument(ABC, Generic[Child]):
    """The children of one metric, by their label values."""

    def __init__(self, name: str, text: str, labelnames: Sequence[str], registry: CollectorRegistry) -> None:
        self.name, self.text, self.labelnames = name, text, tuple(labelnames)
        self._children: dict[tuple[str, ...], Child] = {}
        registry.register(self)

    def labels(self, *values: str) -> Child:
        """The child with these values, in the order of the label names; made when it is asked for first."""
        child = self._children.get(values)
        if child is None:
            if len(values) != len(self.labelnames):
                raise ValueError(f"{self.name}: the labels are {self.labelnames}")
            child = self._children[values] = self._make()
        return child

    def describe(self) -> list[Metric]:
        """For the registry, which lets no two metrics have one name."""
        return [self._family()]

    def collect(self) -> Iterator[Metric]:
        """For the registry, in the thread of a scrape."""
        family = self._family()
        for values, child in self._children.copy().items():
            self._show(family, values, child)
        yield family

    @abstractmethod
    def _make(self) -> Child: ...

    @abstractmethod
    def _family(self) -> Metric: ...

    @abstractmethod
    def _show(self, family: Metric, values: tuple[str, ...], child: Child) -> None: ...


class Counter(Instrument[Count]):
    """A number that grows. name: without the "_total" it is shown with."""

    def _make(self) -> Count:
        return Count()

    def _family(self) -> Metric:
        return CounterMetricFamily(self.name, self.text, labels=self.labelnames)

    def _show(self, family: Metric, values: tuple[str, ...], child: Count) -> None:
        assert isinstance(family, CounterMetricFamily)
        family.add_metric(values, child.value, created=child.created)


class Histogram(Instrument[Spread]):
    """How values are spread over buckets. bounds: their upper ends, rising; infinity is understood."""

    def __init__(
        self, name: str, text: str, bounds: Sequence[float], labelnames: Sequence[str], registry: CollectorRegistry
    ) -> None:
        self._bounds = tuple(bounds)
        self._ends = [*(str(float(bound)) for bound in bounds), "+Inf"]
        super().__init__(name, text, labelnames, registry)

    def _make(self) -> Spread:
        return Spread(self._bounds)

    def _family(self) -> Metric:
        return HistogramMetricFamily(self.name, self.text, labels=self.labelnames)

    def _show(self, family: Metric, values: tuple[str, ...], child: Spread) -> None:
        assert isinstance(family, HistogramMetricFamily)
        buckets = list(zip(self._ends, map(float, accumulate(child.counts)), strict=True))
        family.add_metric(values, buckets, child.total)
        labels = dict(zip(self.labelnames, values, strict=True))
        family.add_sample(f"{self.name}_created", labels, child.created)
