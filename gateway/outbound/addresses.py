"""Which addresses a webhook may be sent to. Pure.

A service that POSTs to any URL which a client names is a way into its own network (server-side request forgery). So only
addresses of the public internet are allowed, and those that the setting WEBHOOK_ALLOW_CIDRS adds for a local network.
"""

import ipaddress
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""RFC 6052: the last 32 bits are an IPv4 address."""


def parse_networks(text: str) -> list[Network]:
    """Return the networks of a text such as `10.0.0.0/8, fd00::/8, 10.0.0.1`. Raises ValueError that names the bad one."""
    return [ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip()]


def is_allowed(address: str, networks: Sequence[Network]) -> bool:
    """Whether an address, as getaddrinfo gives it, may be connected to. Every address that it stands for must be allowed."""
    return all(
        _is_allowed(meant, networks) for meant in _meant(ipaddress.ip_address(address.partition("%")[0]))
    )


def _meant(address: Address) -> list[Address]:
    """Return the addresses that packets to `address` may reach: an IPv6 address may carry an IPv4 address."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address in NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    if address.sixtofour is not None:
        return [address, address.sixtofour]
    return [address, *address.teredo] if address.teredo is not None else [address]


def _is_allowed(address: Address, networks: Sequence[Network]) -> bool:
    if any(address in network for network in networks):
        return True
    return address.is_global and not address.is_multicast
