"""A router over a small zone, without a network: for tests of routing."""

import asyncio
from typing import Any

from engine.base.settings import Node, Settings
from engine.message.outcome import Status
from engine.routing.plan import NoRoute, Plan
from engine.routing.router import Router
from tests.support.clock import FakeClock
from tests.support.lookup import ZoneLookup

ZONE = """
example.net.       300 MX 20 mx2.example.net.
example.net.       300 MX 10 mx1.example.net.
twin.test.         300 MX 5 mx2.example.net.
twin.test.         300 MX 5 mx1.example.net.
mx1.example.net.   200 A 11.0.0.1
mx1.example.net.   200 AAAA 2600::1
mx2.example.net.   200 A 11.0.0.2
plain.test.        300 A 11.0.0.3
empty.test.        300 TXT nothing
null.test.         300 MX 0 .
hosted.test.       300 MX 10 in.big.test.
hosted.test.       300 MX 20 backup.elsewhere.test.
in.big.test.       300 A 11.0.0.4
backup.elsewhere.test. 300 A 11.0.0.5
hosted2.test.      300 MX 10 in2.big.test.
in2.big.test.      300 A 11.0.0.6
six.test.          300 MX 10 mx.six.test.
mx.six.test.       300 AAAA 2600::6
relay.test.        100 A 10.1.2.3
relay.test.        100 AAAA 2600::7
"""


class House:
    """A router over ZONE, with settings by keyword."""

    def __init__(self, zone: str = ZONE, troubled: tuple[str, ...] = (), **tables: Any) -> None:
        self.clock = FakeClock()
        self.dns = ZoneLookup(zone, self.clock, frozenset(troubled))
        self.settings = Settings(**{"node": Node(name="out.example.org")} | tables)
        self.router = Router(self.settings, self.dns, self.clock)

    def find(self, destination: str) -> Plan | NoRoute:
        return asyncio.run(self.router.resolve(destination))

    def plan(self, destination: str) -> Plan:
        found = self.find(destination)
        assert isinstance(found, Plan), found
        return found

    def refusal(self, destination: str) -> tuple[Status, str]:
        found = self.find(destination)
        assert isinstance(found, NoRoute), found
        return found.status, found.status_code
