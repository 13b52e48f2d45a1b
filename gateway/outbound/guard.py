"""Connections to webhook receivers: a host is looked up once, its addresses are checked, and one of those is connected to.

httpcore is used and not httpx: its network backend is the place where a host becomes a connection, so that the checked address is
the one that is connected to. It also follows no redirects and reads no proxy from the environment.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpcore

from gateway.outbound.addresses import Network, is_allowed
from gateway.outbound.lookup import Lookup
from schemas.errors import ErrorCode, RequestError
from schemas.urls import is_http_url

LOOKUP_TIMEOUT_SECS = 5.0


class AddressRefused(Exception):
    """The address of a receiver is not allowed."""


class Guard:
    """Knows which addresses are allowed."""

    def __init__(self, networks: Sequence[Network], lookup: Lookup | None = None) -> None:
        self._networks, self._lookup = networks, lookup or Lookup()

    async def check(self, url: str) -> None:
        """Check a URL at its submission. A host that cannot be looked up now passes, because it may exist later.

        Raises RequestError.
        """
        self.check_address(url)
        parts = urlsplit(url)
        try:
            await self.address(parts.hostname or "", parts.port or 0)
        except AddressRefused as error:
            raise RequestError(ErrorCode.WEBHOOK_REFUSED, f"{error}.", "webhook_url") from error
        except (OSError, TimeoutError):
            return

    def check_address(self, url: str) -> None:
        """Check what can be checked without looking up a name. Raises RequestError."""
        if not is_http_url(url):
            raise RequestError(ErrorCode.INVALID_OPTION, "The webhook URL cannot be used.", "webhook_url")
        host = urlsplit(url).hostname or ""
        address = _literal(host)
        if address is not None and not is_allowed(address, self._networks):
            raise RequestError(ErrorCode.WEBHOOK_REFUSED, f"{_refusal(host, [address])}.", "webhook_url")

    async def address(self, host: str, port: int) -> str:
        """Return the first allowed address of a host. Raises AddressRefused, OSError, TimeoutError."""
        async with asyncio.timeout(LOOKUP_TIMEOUT_SECS):
            addresses = await self._lookup.addresses(host, port)
        for address in addresses:
            if is_allowed(address, self._networks):
                return address
        raise AddressRefused(_refusal(host, addresses))


def _refusal(host: str, addresses: Sequence[str]) -> str:
    told = f"{host} is {', '.join(sorted(set(addresses)))}" if host not in addresses else host
    return f"{told}, which is no public address and not in WEBHOOK_ALLOW_CIDRS"


def _literal(host: str) -> str | None:
    """Return the address that a host spells, also in the old forms (`2130706433`, `127.1`); None for a name."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return None


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to addresses that the guard allows. TLS still checks the certificate against the name."""

    def __init__(self, guard: Guard) -> None:
        self._guard, self._backend = guard, httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to a host. Raises AddressRefused, httpcore.ConnectError."""
        try:
            address = await self._guard.address(host, port)
        except (OSError, TimeoutError) as error:
            raise httpcore.ConnectError(f"{host} cannot be looked up: {error}") from error
        return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        """Part of the interface of httpcore."""
        await asyncio.sleep(seconds)
