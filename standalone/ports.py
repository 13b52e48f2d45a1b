"""The ports of `up`: they are taken before anything is started, so that a port in use is reported at once."""

import errno
import socket

from process import listening
from standalone.errors import StartError
from standalone.nats_server import ANY_PORT, DEFAULT_PORT, LOOPBACK

TAKEN_BY = "another program listens on"
"""Part of the sentence for a port in use."""


def listen(host: str, port: int) -> socket.socket:
    """Return the HTTP socket. The gateway inherits it, and it stays open while a gateway is restarted. Raises StartError."""
    try:
        return listening.listen(host, port)
    except OSError as error:
        raise StartError(_reason("PORT", host, port, error)) from error


def nats_port(asked: int | None) -> int:
    """Return the port for nats-server: the asked one, else the usual one if it is free, else ANY_PORT. Raises StartError."""
    if asked == ANY_PORT:
        return ANY_PORT
    try:
        with socket.create_server((LOOPBACK, asked or DEFAULT_PORT)):
            return asked or DEFAULT_PORT
    except OSError as error:
        if asked is None:
            return ANY_PORT
        raise StartError(_reason("NATS_PORT", LOOPBACK, asked, error)) from error


def _reason(variable: str, host: str, port: int, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"{variable}={port} is taken: {TAKEN_BY} {listening.place(host, port)}; set {variable} to a free one"
        case errno.EACCES | errno.EPERM:
            return f"{variable}={port}: this user may not listen on that port"
        case _:
            return f"nothing can listen on {listening.place(host, port)}: {error.strerror or error}"
