"""Measurements; each is a program: `python -m bench.relay`. Each prints the machine, the settings and the figures."""
