"""What stands around the engine to try it: a test MX and a load generator.

Beside `cli`: may import message, protocol, net and base, never the engine's own intake, queue or delivery, so
that a fault in those cannot hide in the tool that should show it. Read `sink_rules.py`, `sink.py`, `load.py`.
"""
