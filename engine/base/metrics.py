"""Every metric the engine exports, in one place; no label takes unbounded values.

`provider` is a name from the provider table, "relay" for static routes, or "other"; `class` is transactional or bulk;
`carrier` and `webhook` are names from the settings.
Recipients are accepted before their route is looked up: their provider is that of the last mail to their destination,
"unresolved" if there was none lately.
Q2, in each class: accepted_recipients + own_recipients, and what was queued at the start, are delivered + failed +
expired + suppressed + removed, and what is queued.
One `Metrics` per worker, made by the daemon and handed down; hot paths keep the labelled child, not the parent.
`fsync` and `batch` belong to the journal's thread, gauges to whoever sets them, all others to the loop.
"""

from prometheus_client import CollectorRegistry, Gauge

from engine.base.instruments import Counter, Histogram

_FAST = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_SLOW = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600)
_QUEUE = (0.01, 0.05, 0.1, 0.5, 1, 5, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600, 72 * 3600)
_FRAMES = (1, 2, 5, 10, 20, 50, 100, 200, 500)


class Metrics:
    """The instruments, on a registry of their own (no module state: two engines in one process do not mix)."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"postrider_{name}", text, labels, registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"postrider_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"postrider_{name}_seconds", text, buckets, labels, registry)

        self.connections = counter("intake_connections", "Client connections accepted", "result")
        self.rejected = counter("intake_rejected", "Commands and messages refused at intake", "reason")
        self.accepted = counter("accepted", "Messages accepted (250 sent after fdatasync)", "class")
        self.accepted_recipients = counter("accepted_recipients", "Recipients accepted", "provider", "class")
        self.own_recipients = counter(
            "own_recipients",
            "Recipients of the engine's own messages: notifications, receipts, answers and what else is handed on",
            "class",
        )
        self.delivered = counter("delivered", "Recipients delivered", "provider", "class")
        self.deferred = counter("deferred", "Recipients deferred by an attempt", "provider", "class")
        self.failed = counter("failed", "Recipients failed for good", "provider", "class")
        self.expired = counter("expired", "Recipients given up after expire_after", "provider", "class")
        self.unknown = counter("unknown", "Recipients with no reply after end of data", "provider", "class")
        self.removed = counter("removed", "Recipients purged by an operator", "provider", "class")
        self.suppressed = counter("suppressed", "Recipients not sent to: they are suppressed", "provider", "class")
        self.answers = counter("answers", "Messages from phones, by what became of them", "result")
        self.inbound = counter("inbound", "What came back by mail, for each recipient it is about", "type", "kind")
        self.forwarded = counter("inbound_forwarded", "Messages that came back and were queued for people")
        self.links_rendered = counter("links_rendered", "Deliveries prepared with tracked links", "level")
        self.links_left = counter(
            "links_left", "Messages whose links were asked to be tracked and are not, or not all of them", "reason"
        )
        self.dsn_sent = counter("dsn", "Delivery status notifications queued", "action")
        self.sms_receipts = counter("sms_receipts", "Receipts of known messages", "carrier", "state")
        self.sms_odd_receipts = counter(
            "sms_odd_receipts",
            "Receipts that were early, guessed (of several messages), duplicate, unmatched, unreadable or missing",
            "carrier",
            "what",
        )
        self.sms_owed = counter("sms_receipts_owed", "Receipts queued for applications", "state")
        self.sms_response = histogram("sms_response", "From a submit to its response", _SLOW, "carrier")
        self.sms_receipt = histogram("sms_receipt", "From the response to the receipt that decides", _QUEUE, "carrier")
        self.sms_throttled = counter("sms_throttled", "Submits that a carrier refused for now: too many", "carrier")
        self.sms_rate = gauge("sms_carrier_rate", "Parts a second to a carrier, now that it may be slowed", "carrier")
        self.sms_pause = gauge("sms_carrier_pause_seconds", "What is left of the longest pause of its binds", "carrier")
        self.tracking_hits = counter("tracking_hits", "Hits of links, by their first verdict", "kind", "verdict")
        self.tracking_verdicts = counter("tracking_verdicts", "Hits whose verdict became another one", "verdict")
        self.tracking_refused = counter("tracking_refused", "Requests that led nowhere", "reason")
        self.tracking_lost = counter("tracking_hits_lost", "Hits that a full buffer or a bad disk lost").labels()
        self.tracking_waiting = gauge("tracking_hits_waiting", "Hits that are answered and not on disk yet")
        self.unsubscribes = counter("unsubscribes", "Unsubscribes that were asked for", "kind", "result")
        self.queued = gauge("queue_deliveries", "Deliveries queued", "state")
        self.oldest = gauge("queue_oldest_seconds", "Age of the oldest queued delivery")
        self.orphans = gauge("queue_orphans", "Live deliveries without an owner or a next time; 0 or a bug")
        self.outgoing = gauge("delivery_connections", "Open outgoing connections")
        self.spool_bytes = gauge("spool_bytes", "Bytes of journal segments on disk")
        self.sms_binds = gauge("sms_application_binds", "Binds of applications to us", "type")
        self.sms_requests = counter("sms_requests", "Requests of applications, answered", "command", "status")
        self.webhook_posts = counter("webhook_posts", "Batches of events posted", "webhook", "result")
        self.webhook_events = counter("webhook_events", "Events that were taken", "webhook")
        self.webhook_missed = counter("webhook_missed", "Events deleted or damaged before they were taken", "webhook")
        self.webhook_gaps = counter("webhook_gaps", "How often some were, or a file of them was missing", "webhook")
        self.webhook_lag = gauge("webhook_lag_events", "Events that are not taken yet", "webhook")
        self.webhook_lag_seconds = gauge("webhook_lag_seconds", "Age of the oldest event not taken", "webhook")
        self.event_pulls = counter("event_pulls", "Requests for events, by what became of them", "result")
        self.event_pulls_told = counter("event_pulls_told", "Events that were pulled").labels()
        self.event_readers = gauge("event_readers", "Requests for events that wait, or are being answered")
        self.internal_errors = counter(
            "internal_errors", "Faults of the engine itself; each has a trace in the log", "where"
        )
        self.fsync = histogram("spool_fsync", "Duration of one durable write of the journal", _FAST).labels()
        frames = Histogram("postrider_spool_batch_frames", "Frames per group commit", _FRAMES, (), registry)
        self.batch = frames.labels()
        self.sign = histogram("dkim_sign", "From asking for a signature to having it", _FAST).labels()
        self.dns = histogram("dns_query", "Duration of one DNS query", _SLOW, "result")
        self.attempt = histogram("attempt", "Duration of one transaction", _SLOW, "provider")
        self.time_to_deliver = histogram("time_to_deliver", "From acceptance to delivery", _QUEUE, "provider", "class")
