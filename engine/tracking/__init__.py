"""Tracking: the HTTP side of links. A click is verified, answered, and only then recorded; an unsubscribe acts at once.

Rule of the layer: nothing a request waits for is looked up in a database. What must be known (ledger, withdrawn links)
is in memory or mapped; what must be kept (hits) is written in groups behind the answers. Read first: app.py.
"""
