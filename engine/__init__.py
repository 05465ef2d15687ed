"""Postrider: a self-hosted delivery engine.

Layers, top to bottom; each may import from itself and from those below, never from above
(tests/unit/test_layers.py holds us to it):

    daemon, cli, admin, intake, delivery, queue, routing, storage, net, message, protocol, base

Read first: the way of a message, in README.md; then `daemon/worker.py`, which builds every object once.
"""

__version__ = "0.1.0"
