"""The spool: every accepted message and every state change, on disk before anyone is told.

Read segment.py (which files there are), frame.py (every byte of them), spool.py (what others ask for); then journal.py
for the young generation, backlog.py and mover.py for the old one, table.py for what memory keeps, opening.py for a
start, large.py for contents in files of their own. Invariants S1 to S5.
"""
