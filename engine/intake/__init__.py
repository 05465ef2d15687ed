"""How messages come in: the SMTP listener, admission. S1 holds here: no 250 before the spool says durable.

Read first: admission.py (any message's way to the spool), smtp.py (the commands), reader.py (framing), listener.py.
"""
