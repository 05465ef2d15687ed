"""The spool: every accepted message and every state change, in order of arrival.

Read frame.py, then journal.py, then spool.py. Invariants S1 to S5.
"""
