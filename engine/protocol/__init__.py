"""Wire formats, sans-IO: bytes in, events out.

P1: any bytes give events or a protocol error, nothing else.  P2: how they are cut into chunks does not matter.
"""
