"""A listening TCP socket, over IPv4 or IPv6, and how its place is written."""

import socket

WILDCARD_6 = "::"
"""All addresses of this machine. A socket there takes IPv4 as well, where the system can do that."""


def listen(host: str, port: int, backlog: int | None = None) -> socket.socket:
    """Return a listening socket. A host with a colon is an IPv6 address, also in brackets; any other is IPv4 or a name of it.

    Raises OSError.
    """
    bare = host.removeprefix("[").removesuffix("]")
    if ":" not in bare:
        return socket.create_server((bare, port), backlog=backlog)
    both = bare == WILDCARD_6 and socket.has_dualstack_ipv6()
    return socket.create_server((bare, port), family=socket.AF_INET6, backlog=backlog, dualstack_ipv6=both)


def place(host: str, port: int) -> str:
    """Return host and port as they stand in a URL: `127.0.0.1:8080`, `[::1]:8080` (RFC 3986, 3.2.2)."""
    bare = host.removeprefix("[").removesuffix("]")
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"


def url_of(listening: socket.socket) -> str:
    """Return the URL at which HTTP is served on a listening socket."""
    host, port = listening.getsockname()[:2]
    return f"http://{place(host, port)}"
