"""Metrics of several workers as one: counters, histograms and gauges are summed, but for the age of the oldest.

A sum must not fall when a worker is started again: Prometheus would take that for a restart of everything. What a
worker that is gone last counted is therefore kept and added, as far as it was asked: every few seconds, and at scrapes.
"""

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

#: name, help, type, [[name of the sample, labels, value], ...]; as it goes over a channel.
Family = list[Any]
_Key = tuple[str, tuple[tuple[str, str], ...]]

#: Gauges that are not summed: the oldest of all is the oldest.
_HIGHEST = frozenset({"postrider_queue_oldest_seconds", "postrider_webhook_lag_seconds"})
#: When a counter began; those of several workers are as old as the first.
_BEGINNING = "_created"
_COUNTING = frozenset({"counter", "histogram"})


def samples_of(registry: CollectorRegistry) -> list[Family]:
    """Everything a registry has now."""
    return [
        [
            family.name,
            family.documentation,
            family.type,
            [[sample.name, sorted(sample.labels.items()), sample.value] for sample in family.samples],
        ]
        for family in registry.collect()
    ]


class Sums(Collector):
    """A collector for the registry of a supervisor. fetch: the samples of each worker by its number, called by
    `collect`, in a thread of the HTTP listener; a worker that does not answer is left out."""

    def __init__(self, fetch: Callable[[], dict[int, list[Family]]]) -> None:
        self._fetch = fetch
        self._last: dict[int, list[Family]] = {}
        self._gone: list[list[Family]] = []

    def note(self, samples: dict[int, list[Family]]) -> None:
        """What workers have now; kept for when they are gone."""
        self._last.update(samples)

    def retire(self, worker: int) -> None:
        """This worker is gone: its next counts begin at zero."""
        families = self._last.pop(worker, None)
        if families is not None:
            self._gone = [_merged([*self._gone, [family for family in families if family[2] in _COUNTING]])]

    def collect(self) -> Iterable[Metric]:
        self.note(self._fetch())
        for name, text, kind, samples in _merged([*self._gone, *self._last.values()]):
            metric = Metric(name, text, kind)
            for sample, labels, value in samples:
                metric.add_sample(sample, dict(labels), value)
            yield metric

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not ask the workers."""
        return ()


def _merged(workers: Iterable[list[Family]]) -> list[Family]:
    """One list of families out of several, in the order they first come in."""
    families: dict[str, Family] = {}
    values: dict[str, dict[_Key, float]] = {}
    for worker in workers:
        for name, text, kind, samples in worker:
            families.setdefault(name, [name, text, kind, []])
            into = values.setdefault(name, {})
            for sample, labels, value in samples:
                key = sample, tuple((label, text) for label, text in labels)
                into[key] = _together(sample, into[key], value) if key in into else value
    for name, into in values.items():
        families[name][3] = [[sample, list(labels), value] for (sample, labels), value in into.items()]
    return list(families.values())


def _together(sample: str, one: float, other: float) -> float:
    if sample in _HIGHEST:
        return max(one, other)
    return min(one, other) if sample.endswith(_BEGINNING) else one + other
