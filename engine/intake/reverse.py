"""The names of clients, asked of the DNS while they talk, for Received and the log.

A name counts if the DNS confirms it: the address has a PTR record with the name, and the name has the address
(RFC 8601 3, iprev). Nobody waits for it: what is not known when a message comes stays "unknown" there. Nothing else
depends on it, so a DNS that lies or is slow changes a comment.
"""

import asyncio
from typing import Protocol

from engine.base.hostport import is_host_name
from engine.intake.client import Client
from engine.intake.policy import Address
from engine.net.dns_query import RecordType
from engine.net.resolver import Answer

#: Of the whole look-up. A client that takes its time may still get its name, one that hurries goes without.
TIMEOUT_S = 5.0
#: PTR records that are tried. More than one is rare, and each costs a question.
_MAX_NAMES = 3


class Lookup(Protocol):
    """The resolver: it remembers answers, and asks once for what many want to know."""

    async def lookup(self, name: str, kind: RecordType) -> Answer: ...


class ReverseNames:
    """Finds clients' names. `close` before the loop ends."""

    def __init__(self, dns: Lookup, timeout_s: float = TIMEOUT_S) -> None:
        self._dns = dns
        self._timeout_s = timeout_s
        self._tasks: set[asyncio.Task[None]] = set()

    def name(self, client: Client) -> None:
        """Give the client its name when it is known. Returns at once."""
        task = asyncio.get_running_loop().create_task(self._name(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _name(self, client: Client) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                client.name = await self._confirmed(client.address) or client.name
        except TimeoutError:
            return

    async def _confirmed(self, address: Address) -> str:
        """The first name of this address that has the address; "" if none has."""
        pointers = await self._dns.lookup(address.reverse_pointer, "PTR")
        for pointer in pointers.records[:_MAX_NAMES]:
            # Whoever owns the address chooses the name: one that is no host name may be anything.
            if is_host_name(pointer.value):
                hosts = await self._dns.lookup(pointer.value, "AAAA" if address.version == 6 else "A")
                if any(record.value == str(address) for record in hosts.records):
                    return pointer.value
        return ""
