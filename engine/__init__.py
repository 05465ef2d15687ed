"""Postrider: a self-hosted delivery engine.

Layers, top to bottom. Each may import from itself and from those below, never from above, and modules never import
each other in a circle (tests/unit/test_layers.py holds us to it):

    cli             the commands; on top because `serve` starts the daemon, and nothing imports it
    daemon          builds every object once, knows all
    admin, tools    the operator's door; a test MX and a load generator (tools sees message and below only)
    tracking        links that tell of clicks, and unsubscribes: the HTTP side of them
    feedback, feed  what comes back: receipts of carriers; what is told: events, posted to webhooks
    intake, delivery, queue, routing, storage, net, message, protocol, base

Upward calls go through small `typing.Protocol`s declared in the lower layer and handed down by the daemon.

Read first: the way of a message, in README.md; then `daemon/worker.py`, which builds every object once. With several
workers each has all of this in a process of its own, and `daemon/supervisor.py` is around them.
"""

__version__ = "0.1.0"
