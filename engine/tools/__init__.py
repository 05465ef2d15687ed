"""What stands around the engine to try it: a test MX, a test SMSC, and load generators over SMTP and SMPP.

Beside `cli`: may import message, protocol, net and base, never the engine's own intake, queue or delivery, so
that a fault in those cannot hide in the tool that should show it. Read `sink_rules.py`, `sink.py`, `load.py`;
`smpp_sink_smsc.py`, `smpp_load_ledger.py`.
"""
