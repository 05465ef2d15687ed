"""Counters and histograms of our own: what a scrape shows of them is what prometheus_client would show of its own."""

import re

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import DuplicateTimeseries

from engine.base.instruments import Counter, Histogram

BOUNDS = (0.005, 1, 30, 4 * 3600)
VALUES = (0.0, 0.005, 0.0050001, 1.0, 29.9, 86400.0)


def shown(registry: CollectorRegistry) -> list[str]:
    """Both formats, without the moments at which the children were made."""
    texts = (generate_latest(registry), generate_openmetrics(registry))
    return [re.sub(r"(?m)^(\w+_created\b.*) \S+$", r"\1", text.decode()) for text in texts]


def test_they_are_shown_as_prometheus_client_shows_its_own() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counter = Counter("sent", "Sent", ("provider", "class"), ours)
    its_counter = prometheus_client.Counter("sent", "Sent", ("provider", "class"), registry=theirs)
    spread = Histogram("took_seconds", "Took", BOUNDS, ("provider",), ours)
    its_spread = prometheus_client.Histogram("took_seconds", "Took", ("provider",), buckets=BOUNDS, registry=theirs)
    for provider in ("relay", 'a "b"\n\\'):
        counter.labels(provider, "bulk").inc()
        counter.labels(provider, "bulk").inc(2)
        its_counter.labels(provider, "bulk").inc(3)
        for value in VALUES:
            spread.labels(provider).observe(value)
            its_spread.labels(provider).observe(value)
    assert shown(ours) == shown(theirs)


def test_without_labels_there_is_one_child_and_it_starts_at_nothing() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    Histogram("frames", "Frames", BOUNDS, (), ours).labels()
    prometheus_client.Histogram("frames", "Frames", buckets=BOUNDS, registry=theirs)
    assert shown(ours) == shown(theirs)


def test_a_child_is_made_when_it_is_asked_for_and_stays_the_same() -> None:
    registry = CollectorRegistry()
    counter = Counter("sent", "Sent", ("class",), registry)
    assert registry.get_sample_value("sent_total", {"class": "bulk"}) is None
    assert counter.labels("bulk") is counter.labels("bulk")
    assert registry.get_sample_value("sent_total", {"class": "bulk"}) == 0


def test_a_label_too_many_or_too_few_is_refused() -> None:
    counter = Counter("sent", "Sent", ("class",), CollectorRegistry())
    for values in ((), ("bulk", "relay")):
        with pytest.raises(ValueError, match="sent"):
            counter.labels(*values)


def test_no_two_metrics_have_one_name() -> None:
    registry = CollectorRegistry()
    Counter("sent", "Sent", (), registry)
    with pytest.raises(DuplicateTimeseries):
        prometheus_client.Gauge("sent_total", "Sent", registry=registry)
