"""Metrics of several workers as one: sums that never fall, and the oldest of all."""

from prometheus_client import CollectorRegistry, generate_latest

from engine.base.metrics import Metrics
from engine.daemon.samples import Family, Sums, samples_of


class Node:
    """Workers whose metrics a test moves, and what a scrape of all of them says."""

    def __init__(self, workers: int) -> None:
        self.workers = {number: Metrics() for number in range(workers)}
        self.sums = Sums(self.fetch)
        self.registry = CollectorRegistry()
        self.registry.register(self.sums)

    def fetch(self) -> dict[int, list[Family]]:
        return {number: samples_of(metrics.registry) for number, metrics in self.workers.items()}

    def says(self, name: str) -> list[float]:
        lines = generate_latest(self.registry).decode().splitlines()
        return [float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"postrider_{name}")]


def test_counters_histograms_and_gauges_are_summed_and_ages_are_not() -> None:
    node = Node(2)
    for number, metrics in node.workers.items():
        metrics.delivered.labels("relay", "bulk").inc(number + 1)
        metrics.fsync.observe(0.5)
        metrics.spool_bytes.set(10)
        metrics.oldest.set(number * 100)
    node.workers[0].delivered.labels("other", "bulk").inc(7)
    assert node.says('delivered_total{class="bulk",provider="relay"}') == [3]
    assert node.says('delivered_total{class="bulk",provider="other"}') == [7]
    assert node.says("spool_fsync_seconds_count") == [2]
    assert node.says("spool_fsync_seconds_sum") == [1.0]
    assert node.says('spool_fsync_seconds_bucket{le="0.25"}') == [0]
    assert node.says('spool_fsync_seconds_bucket{le="1.0"}') == [2]
    assert node.says("spool_bytes") == [20]
    assert node.says("queue_oldest_seconds") == [100]


def test_one_worker_says_the_same_through_the_sums() -> None:
    node = Node(1)
    node.workers[0].accepted.labels("bulk").inc()
    assert generate_latest(node.registry) == generate_latest(node.workers[0].registry)


def test_a_sum_does_not_fall_when_a_worker_is_started_again() -> None:
    node = Node(2)
    for _ in range(3):
        for metrics in node.workers.values():
            metrics.accepted.labels("bulk").inc(5)
            metrics.spool_bytes.set(10)
        counted = node.says("accepted_total")
        node.sums.retire(1)
        node.workers[1] = Metrics()
        assert node.says("accepted_total") == counted
        assert node.says("spool_bytes") == [10], "a gauge is what is there now"


def test_a_worker_that_does_not_answer_counts_as_it_last_did() -> None:
    node = Node(2)
    for metrics in node.workers.values():
        metrics.accepted.labels("bulk").inc(5)
    assert node.says("accepted_total") == [10]
    silent = node.workers.pop(1)
    assert node.says("accepted_total") == [10]
    node.workers[1] = silent
    silent.accepted.labels("bulk").inc()
    assert node.says("accepted_total") == [11]


def test_a_worker_that_nobody_scraped_is_in_the_sums_as_it_was_last_asked() -> None:
    node = Node(2)
    node.workers[1].accepted.labels("bulk").inc(5)
    node.sums.note(node.fetch())
    node.sums.retire(1)
    node.workers[1] = Metrics()
    assert node.says("accepted_total") == [5]
