"""What a listed proxy says of its client before anything else: the header of the PROXY protocol, v1 or v2.

aiosmtpd's parser, for listeners of every kind. Which peers are proxies the settings say; to others a header is an error
of their own protocol.
"""

import asyncio
import logging

from aiosmtpd.proxy_protocol import AF, V2_CMD, ProxyData, get_proxy

from engine.intake.policy import Address, parse_address

_log = logging.getLogger(__name__)


def client_of(proxy: ProxyData, peer: Address) -> tuple[Address, bool]:
    """The client's address, and whether it is known; if not it is that of the proxy, whose rights it must not have."""
    if proxy.version == 2 and proxy.command == V2_CMD.LOCAL:
        # The proxy's own health check.
        return peer, True
    if proxy.src_addr and proxy.family in (AF.INET, AF.INET6):
        return parse_address(str(proxy.src_addr)), True
    # UNKNOWN, UNSPEC, a Unix socket.
    _log.warning("intake: PROXY header from %s names no client address", peer)
    return peer, False


def hush() -> None:
    """Every step would be a record of aiosmtpd's; ours says what is worth a line."""
    for name in ("mail.log", "mail.debug"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class Header:
    """A header that arrives in pieces, and what comes behind it.

    Its bound: v2 says its length in 16 bits, and to a line of v1 without an end the reader has a limit of 64 KiB.
    """

    def __init__(self) -> None:
        self._reader = asyncio.StreamReader()

    def feed(self, data: bytes) -> None:
        self._reader.feed_data(data)

    def end(self) -> None:
        """No more comes."""
        self._reader.feed_eof()

    async def read(self, within_s: float) -> ProxyData | None:
        """None: there is none, or it takes longer."""
        try:
            async with asyncio.timeout(within_s):
                proxy = await get_proxy(self._reader)
        except (TimeoutError, asyncio.IncompleteReadError):
            return None
        return proxy if proxy.valid else None

    async def rest(self) -> bytes:
        """What came behind it; the end of this object."""
        self._reader.feed_eof()
        return await self._reader.read()
