"""The Quart application, and the server around it."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart, request

from broker.connection import connect
from broker.errors import Unavailable
from broker.topology import declared as topology
from gateway.http import problems, protocol
from gateway.http.body import PacedBody, PacedConnection, PacedRequest
from gateway.nats_door import serve_jobs
from gateway.routes import docs, health, jobs
from gateway.routes import model as models
from gateway.routes import webhooks as webhooks
from gateway.services import Services, open_services
from gateway.settings import GatewaySettings

log = logging.getLogger(__name__)

BACKLOG = 1024
"""Clients that may be connecting at once: after a restart all event streams come back together."""
GRACEFUL_SECS = 3.0
"""How long running requests may go on when the gateway stops."""


def create_app(services: Services) -> Quart:
    """The application. Quart's limits on size and time are off: uploads and event streams take as long as they take."""
    app = Quart(__name__, static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=None, BODY_TIMEOUT=None, RESPONSE_TIMEOUT=None)
    PacedBody.idle_timeout_secs = services.settings.upload_idle_timeout_secs
    app.request_class = PacedRequest
    app.asgi_http_class = PacedConnection
    blueprints = (
        webhooks.blueprint(services),
        jobs.blueprint(services),
        models.blueprint(services),
        health.blueprint(services),
        docs.blueprint(),
    )
    for blueprint in blueprints:
        app.register_blueprint(blueprint)
    problems.install(app)
    app.asgi_app = protocol.Net(app.asgi_app)  # type: ignore[method-assign] # how Quart wants to be wrapped

    @app.before_request
    async def answer_at_once_without_a_broker() -> None:
        if request.blueprint not in (docs.NAME, health.NAME) and not services.client.is_connected:
            raise Unavailable("there is no connection to nats-server")

    return app


def listening_socket(settings: GatewaySettings) -> int:
    """File descriptor of a socket that whoever serves on it closes. Our own, for an option that its connections inherit: the kernel drops a client that takes nothing any more."""
    if settings.listen_fd is None:
        sock = socket.create_server((settings.host, settings.port), backlog=BACKLOG)
    else:
        sock = socket.socket(fileno=settings.listen_fd)
        sock.listen(BACKLOG)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        milliseconds = int(settings.send_timeout_secs * 1000)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
    return sock.detach()


async def serve_http(services: Services, listening: int) -> None:
    """Until cancelled; then running requests get a moment to end, and event streams are ended."""
    protocol.install()
    config = Config()
    config.bind = [f"fd://{listening}"]
    config.backlog = BACKLOG
    config.graceful_timeout = GRACEFUL_SECS
    config.include_server_header = False
    config.errorlog = log
    stopping = asyncio.Event()
    app = create_app(services)
    serving = asyncio.ensure_future(serve(app, config, shutdown_trigger=stopping.wait, mode="asgi"))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        services.fanout.end()
        stopping.set()
        await serving
        raise


Serve: TypeAlias = Callable[[Services, int], Awaitable[None]]
"""An HTTP server: serves on the file descriptor of a listening socket until cancelled."""


async def run(settings: GatewaySettings, serve_on: Serve = serve_http) -> None:
    """Serve until cancelled. Raises Unavailable when the broker cannot be reached at start."""
    async with connect(settings, "gateway") as (client, js):
        settings = await topology.ensure(js, settings)
        services = await open_services(settings, client, js)
        async with (
            services.fanout.running(),
            services.sender.running(),
            services.sweep.running(),
            serve_jobs(services),
        ):
            await serve_on(services, listening_socket(settings))
