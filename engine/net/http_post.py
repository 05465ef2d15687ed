"""POST of JSON to URLs that others have chosen: their host, their words, and no more of us than they need.

The name is looked up once for a connection, by our own resolver; an address that means something only inside a network
is refused (addresses.py), and what is connected to is what was looked at, whatever DNS says a moment later. No redirect
is followed: where to is the settings' word, and nobody else's. Certificates are verified. No cookie is kept, no proxy
of the environment is used. Of an answer only the status counts; the rest is read while it is short, and never unpacked.
"""

import asyncio
import contextlib
import errno
import ipaddress
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from engine.base.errors import EngineError
from engine.net.addresses import refusal
from engine.net.dns_query import RecordType
from engine.net.resolver import Lookup

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.abc import ResolveResult

#: Of an answer: read, so that the connection can be used again; with more it is closed.
_MOST_BYTES = 16 << 10
#: Many servers keep an idle connection for two seconds and more; to meet one that is closing costs a second copy.
_IDLE_S = 1.0


class PostFailed(EngineError):
    """It was not taken, for all we know. status: 0: there was no answer."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


class HttpPoster:
    """Make it inside the loop; connections are kept for a moment. allow_private: any address is fine."""

    def __init__(self, dns: Lookup, allow_private: bool) -> None:
        self._dns = dns
        self._allow_private = allow_private
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> int:
        """The status, 2xx. Raises PostFailed: anything else, in words that do not tell the URL."""
        import aiohttp  # heavy, and only where something is posted

        if reason := literal_refusal(url, self._allow_private):
            raise PostFailed(reason)
        if self._session is None:
            self._session = self._open()
        headers = {"Content-Type": "application/json", "User-Agent": "Postrider", **headers}
        try:
            async with self._session.post(
                url, data=body, headers=headers, timeout=aiohttp.ClientTimeout(total=timeout_s), allow_redirects=False
            ) as response:
                status = response.status
                if 200 <= status < 300:
                    await self._read(response)
                else:
                    response.close()
        except TimeoutError:
            raise PostFailed(f"no answer within {timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise PostFailed(_told(exc)) from exc
        if not 200 <= status < 300:
            raise PostFailed(f"status {status}", status)
        return status

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def addresses(self, host: str) -> list[str]:
        """Those of a name that may be connected to. Raises OSError: there are none."""
        if host == "localhost":  # RFC 6761: DNS has nothing to say about it
            found, trouble = ["127.0.0.1", "::1"], ""
        else:
            kinds: tuple[RecordType, ...] = ("A", "AAAA")
            answers = await asyncio.gather(*(self._dns.lookup(host, kind) for kind in kinds))
            found = [record.value for answer in answers for record in answer.records]
            trouble = answers[0].detail or answers[0].finding.value
        if not found:
            raise OSError(errno.EADDRNOTAVAIL, f"{host}: {trouble}")
        good = [address for address in found if not refusal(address, self._allow_private)]
        if not good:
            reason = f"{host}: its address is {refusal(found[0], self._allow_private)}, and allow_private is off"
            raise OSError(errno.EADDRNOTAVAIL, reason)
        return good

    def _open(self) -> "aiohttp.ClientSession":
        import aiohttp
        from aiohttp.abc import AbstractResolver

        poster = self

        class Pinned(AbstractResolver):
            """Gives aiohttp what it connects to, for each connection anew."""

            async def resolve(
                self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
            ) -> "list[ResolveResult]":
                return [
                    {
                        "hostname": host,
                        "host": address,
                        "port": port,
                        "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
                        "proto": 0,
                        "flags": socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                    }
                    for address in await poster.addresses(host)
                ]

            async def close(self) -> None:
                """The resolver is not ours."""

        connector = aiohttp.TCPConnector(resolver=Pinned(), use_dns_cache=False, keepalive_timeout=_IDLE_S)
        return aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False, trust_env=False
        )

    async def _read(self, response: "aiohttp.ClientResponse") -> None:
        """It is taken, whatever is said besides: no fault of it counts."""
        import aiohttp

        left = _MOST_BYTES
        with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(_IDLE_S):
                while left > 0 and (data := await response.content.read(left)):
                    left -= len(data)
                if left > 0:
                    return
        response.close()


def literal_refusal(url: str, allow_private: bool) -> str:
    """Why nothing is posted there, if its host is an address, which is never looked up; else "".

    What only looks like an address (127.1) is none: others would take it for one.
    """
    try:
        host = _host(url)
    except ValueError:
        return "its host is neither a name nor an address"
    if not (":" in host or host.replace(".", "").isdigit()):
        return ""
    try:
        reason = refusal(str(ipaddress.ip_address(host)), allow_private)
    except ValueError:
        return "its host is neither a name nor an address"
    return f"its address is {reason}, and allow_private is off" if reason else ""


def _host(url: str) -> str:
    """As the one who connects reads it: full-width digits and ideographic dots are those of an address to him (IDNA).

    Raises ValueError: it is none.
    """
    host = urlsplit(url).hostname or ""
    if host.isascii():
        return host
    from yarl import URL  # of aiohttp: the same reading

    return (URL(url).raw_host or "").rstrip(".")


def _told(exc: Exception) -> str:
    """A ValueError, but for that of a certificate, tells the whole URL, which may have a secret in it."""
    secret = isinstance(exc, ValueError) and not isinstance(exc, OSError)
    return type(exc).__name__ if secret else f"{type(exc).__name__}: {exc}"[:300]
