"""The spool: every accepted message and every state change, in order of arrival.

Read frame.py, then journal.py, then spool.py; large.py is about contents in files of their own. Invariants S1 to S5.
"""
