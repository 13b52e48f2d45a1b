"""The only place that connects to NATS."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import nats.errors
from nats.aio.client import Client, ServerVersion
from nats.js import JetStreamContext

from broker.client import NatsClient
from broker.error_mapping import facts, mapped_errors
from broker.errors import BrokerError, ConnectionLost, Refused, Unavailable
from broker.settings import BrokerSettings

log = logging.getLogger(__name__)

MIN_SERVER_VERSION = (2, 11)
"""An older nats-server ignores the subject of a fence (broker/event_log.py), and no job would ever end."""

GOODBYE_SECS = 1.5
"""Timeout of each farewell request (flush, close, release, sign-off): together they stay below Docker's 10 s."""
PERMISSIONS_VIOLATION = "permissions violation"
"""What nats-server reports where the user may not use a subject. The request itself gets no answer then."""


class _Holder:
    """Cancels the task that holds the connection when that is closed for good, and turns the cancellation into ConnectionLost.

    nats-py closes its connection on almost any error that the server reports (`-ERR`), and does not connect again.
    """

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._is_lost, self._is_held = False, False

    async def on_closed(self) -> None:
        """nats-py calls this when the connection is closed."""
        if self._task is not None and self._is_held:
            self._is_lost = True
            self._task.cancel()

    @contextmanager
    def holding(self, client: Client) -> Iterator[None]:
        """Raise ConnectionLost in place of every error that the loss of the connection has caused in the block."""
        self._is_held = True
        try:
            yield
        except BaseException as error:
            if not self._is_lost:
                raise
            if self._task is not None:
                self._task.uncancel()
            raise ConnectionLost(
                f"the connection to nats-server is closed for good: {client.last_error}"
            ) from error
        finally:
            self._is_held = False


@asynccontextmanager
async def connect(settings: BrokerSettings, name: str) -> AsyncIterator[tuple[Client, JetStreamContext]]:
    """Connect while the block runs. The connection is made again after each loss, without a limit, and flushed at the end.

    Raises Unavailable where the first connect fails; Refused where the server is too old or does not let us in; ConnectionLost,
    whatever the block is doing, when the connection is closed for good.
    """
    is_new = True

    async def on_error(error: Exception) -> None:
        if is_new and "authorization violation" in str(error).lower():
            # nats-py would try the same user again, hundreds of times a second.
            raise Refused("nats-server refuses the user and password of NATS_URL, or NATS_CREDS")
        if PERMISSIONS_VIOLATION in str(error).lower():
            facts.denials, facts.denied = facts.denials + 1, str(error)
        log.warning("nats: %s: %s", type(error).__name__, error)

    closing = False

    async def on_disconnected() -> None:
        if not closing:
            log.warning("nats: disconnected from %s", settings.addresses())

    async def on_reconnected() -> None:
        log.info("nats: reconnected")
        facts.has_jetstream = client.may_have_jetstream
        client.wake()

    holder = _Holder()
    try:
        with mapped_errors():
            async with asyncio.timeout(settings.nats_connect_timeout_secs) as patience:
                client = await _first_connection(
                    settings,
                    name=name,
                    tls=_tls(settings),
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.5,
                    ping_interval=20,
                    error_cb=on_error,
                    disconnected_cb=on_disconnected,
                    reconnected_cb=on_reconnected,
                    closed_cb=holder.on_closed,
                )
    except Unavailable as error:
        if patience.expired():
            raise Unavailable(f"no nats-server answers at {settings.addresses()}") from error
        raise
    is_new = False
    facts.has_jetstream = client.may_have_jetstream
    try:
        _check(client.connected_server_version)
        with holder.holding(client):
            yield client, client.jetstream(timeout=10)
    finally:
        closing = True
        # Not drain(): it waits until all subscriptions are read out, which nobody does any more.
        async with goodbye("flush"):
            await client.flush()
        async with goodbye("close"):
            try:
                await client.close()
            except RuntimeError as error:
                # nats-py writes the rest of its buffer to a transport that is closed already.
                raise Unavailable(str(error)) from error


@asynccontextmanager
async def goodbye(what: str) -> AsyncIterator[None]:
    """Send a farewell request in the block. It is tried for GOODBYE_SECS, and a failure is only logged."""
    try:
        with mapped_errors():
            async with asyncio.timeout(GOODBYE_SECS):
                yield
    except BrokerError as error:
        log.warning("no answer on the way out: %s: %s", what, error)


def _check(version: ServerVersion) -> None:
    if (version.major, version.minor) < MIN_SERVER_VERSION:
        needed = ".".join(map(str, MIN_SERVER_VERSION))
        raise Refused(f"nats-server {needed} or later is needed, this is {version.major}.{version.minor}")


async def reconnected(js: JetStreamContext) -> None:
    """Wait for the next reconnect of the connection under `js`, which must come from `connect`."""
    client = js._nc
    if not isinstance(client, NatsClient):
        raise TypeError("only connect() makes connections that tell of their reconnects")
    await client.reconnection.wait()


def _tls(settings: BrokerSettings) -> ssl.SSLContext | None:
    """Return the TLS settings; None for nats-py's default, the system's authorities, for tls:// URLs."""
    return ssl.create_default_context(cafile=settings.nats_tls_ca) if settings.nats_tls_ca else None


async def _first_connection(settings: BrokerSettings, **options: Any) -> NatsClient:
    """Connect for the first time. nats-py gives up at the first refusal then, but a server may just be starting."""
    while True:
        client = NatsClient()
        try:
            await client.connect(settings.servers(), user_credentials=settings.nats_creds, **options)
            return client
        except Refused:
            await client.close()
            raise
        except (nats.errors.NoServersError, OSError) as error:
            log.info("nats: no server at %s yet (%s)", settings.addresses(), error)
            await asyncio.sleep(0.1)
