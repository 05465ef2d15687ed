"""SQLite tables: credentials, holds, throttle state, suppressions, sent SMS.

What is written for every message (sent.py) survives in memory first, and no message waits for SQLite.
"""
