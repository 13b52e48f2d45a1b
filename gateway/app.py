"""The Quart application, and the HTTP server around it."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Blueprint, Quart, request

from broker.connection import connect
from broker.errors import Unavailable
from broker.topology.ensure import ensure
from gateway.assembly import Gateway, assemble
from gateway.http import problems, protocol
from gateway.http.body import PacedBody, PacedConnection, PacedRequest
from gateway.routes import docs, health
from gateway.settings import GatewaySettings
from process.listening import listen

log = logging.getLogger(__name__)

BACKLOG = 1024
"""How many clients may be connecting at once: after a restart all event streams come back together."""
GRACEFUL_SECS = 3.0
"""How long running requests may go on when the gateway stops."""
WITHOUT_BROKER = frozenset({docs.NAME, health.NAME})
"""Blueprints that answer also while there is no connection to nats-server."""


def create_app(
    blueprints: list[Blueprint], is_connected: Callable[[], bool], upload_idle_timeout_secs: float
) -> Quart:
    """Return the application with these routes. `is_connected` tells whether there is a connection to nats-server.

    Quart's own limits on size and time are off: uploads and event streams take as long as they take.
    """
    app = Quart(__name__, static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=None, BODY_TIMEOUT=None, RESPONSE_TIMEOUT=None)
    PacedBody.idle_timeout_secs = upload_idle_timeout_secs
    app.request_class = PacedRequest
    app.asgi_http_class = PacedConnection
    for blueprint in blueprints:
        app.register_blueprint(blueprint)
    problems.install(app)
    app.asgi_app = protocol.Net(app.asgi_app)  # type: ignore[method-assign] # how Quart wants to be wrapped

    @app.before_request
    async def answer_at_once_without_a_broker() -> None:
        if request.blueprint not in WITHOUT_BROKER and not is_connected():
            raise Unavailable("there is no connection to nats-server")

    return app


def listening_socket(settings: GatewaySettings) -> int:
    """Return the file descriptor of a listening socket, which the server that serves on it closes.

    The socket is our own because of an option that its connections inherit: the kernel drops a client that takes nothing of
    what it is sent for SEND_TIMEOUT_SECS. Only Linux has it; elsewhere such a client stays until TCP gives up.
    """
    if settings.listen_fd is None:
        sock = listen(settings.host, settings.port, BACKLOG)
    else:
        sock = socket.socket(fileno=settings.listen_fd)
        sock.listen(BACKLOG)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        milliseconds = int(settings.send_timeout_secs * 1000)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
    return sock.detach()


async def serve_http(app: Quart, end_streams: Callable[[], None], listening: int) -> None:
    """Serve until cancelled. Then running requests get GRACEFUL_SECS to end, and event streams are ended."""
    protocol.install()
    config = Config()
    config.bind = [f"fd://{listening}"]
    config.backlog = BACKLOG
    config.graceful_timeout = GRACEFUL_SECS
    config.include_server_header = False
    config.errorlog = log
    stopping = asyncio.Event()
    serving = asyncio.ensure_future(serve(app, config, shutdown_trigger=stopping.wait, mode="asgi"))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        end_streams()
        stopping.set()
        await serving
        raise


Serve: TypeAlias = Callable[[Quart, Callable[[], None], int], Awaitable[None]]
"""An HTTP server. It serves the application on a listening socket until cancelled, and then ends all event streams."""


async def run(settings: GatewaySettings, serve_on: Serve = serve_http) -> None:
    """Serve until cancelled. Raises Unavailable where nats-server cannot be reached at the start."""
    async with connect(settings, "gateway") as (client, js):
        settings = await ensure(js, settings)
        gateway: Gateway = await assemble(settings, client, js)
        app = create_app(
            gateway.blueprints, lambda: bool(client.is_connected), settings.upload_idle_timeout_secs
        )
        async with gateway.running():
            await serve_on(app, gateway.end_streams, listening_socket(settings))
