"""The Quart application, and the server around it."""

import asyncio
import logging

from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart, request

from broker import topology
from broker.connection import connect
from broker.errors import Unavailable
from broker.webhooks import WebhookDeliveries
from gateway import docs, health, jobs, models, problems
from gateway.body import PacedBody, PacedConnection, PacedRequest
from gateway.services import Services
from gateway.settings import GatewaySettings
from gateway.webhooks import routes as webhooks
from gateway.webhooks.sender import Sender

log = logging.getLogger(__name__)

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

    @app.before_request
    async def answer_at_once_without_a_broker() -> None:
        if request.blueprint not in (docs.NAME, health.NAME) and not services.client.is_connected:
            raise Unavailable("there is no connection to nats-server")

    return app


async def run(settings: GatewaySettings) -> None:
    """Serve until cancelled. Raises Unavailable when the broker cannot be reached at start."""
    async with connect(settings, "gateway") as (client, js):
        await topology.ensure(js, settings)
        services = await Services.open(settings, client, js)
        config = Config()
        config.bind = [f"{settings.host}:{settings.port}"]
        config.graceful_timeout = GRACEFUL_SECS
        config.include_server_header = False
        config.errorlog = log
        stopping = asyncio.Event()
        sender = Sender(services.webhook_urls, WebhookDeliveries(js))
        async with services.fanout.running(), sender.running():
            serving = asyncio.ensure_future(
                serve(create_app(services), config, shutdown_trigger=stopping.wait, mode="asgi")
            )
            try:
                await asyncio.shield(serving)
            except asyncio.CancelledError:
                services.fanout.end()
                stopping.set()
                await serving
                raise
