"""The ledger: what was sent, to be found again when something about it comes back: a click, a bounce, a reply.

Not the spool, which forgets what is delivered, and not the events, which are read in order. One writer in each worker
(writer.py), readers in any process (reader.py). Read sent.py, record.py (every byte of the files), segments.py (which
files there are) and index.py (how a file is searched), in this order.
"""
