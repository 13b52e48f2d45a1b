"""The only place that connects to NATS, and the only one that turns its errors into ours."""

import asyncio
import logging
import math
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any

import msgspec
import nats.errors
from nats.aio.client import Client, ServerVersion
from nats.js import JetStreamContext
from nats.js.errors import APIError, NoStreamResponseError

from broker.client import NatsClient
from broker.errors import BrokerError, ConnectionLost, Refused, StorageFull, SubjectFull, Unavailable
from broker.verdict import Condition, verdict

log = logging.getLogger(__name__)

MIN_SERVER_VERSION = (2, 11)
"""An older nats-server ignores which subjects a fence is about (broker/event_log.py), and no job would ever end."""

GOODBYE_SECS = 1.5
"""Timeout of each farewell request; all of them together stay within the 10 s that Docker gives a container."""
PERMISSIONS_VIOLATION = "permissions violation"
"""What nats-server says, beside the request that then gets no answer, where the user may not use a subject."""


class BrokerSettings(msgspec.Struct, kw_only=True, frozen=True):
    """How to reach NATS; environment variables of the same names in capitals."""

    nats_url: str = "nats://127.0.0.1:4222"
    """One server, or several of one cluster divided by commas: any of them that answers will do."""
    nats_creds: str | None = None
    """Path of a credentials file."""
    nats_tls_ca: str | None = None
    """Path of the certificate authority that has signed the server's certificate; default: the system's."""
    nats_connect_timeout_secs: float = 60.0
    """How long to try at start before giving up. Later losses of connection are retried for ever."""
    nats_replicas: int = 1
    """Replicas of every stream and bucket: 3 on a cluster."""
    job_ack_wait_secs: float = 30.0
    """A worker that is silent for so long has lost its job."""
    job_retention_secs: float = 7 * 24 * 3600.0
    """How long records, results and events are kept."""
    audio_retention_secs: float = 0.0
    """How long audio is kept after its job has ended; 0: it goes together with the end."""
    audio_max_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Limit of the audio bucket, so that everything else always has room; 0: a share of the server's store."""

    def servers(self) -> list[str]:
        return [url for url in (part.strip() for part in self.nats_url.split(",")) if url]

    def addresses(self) -> str:
        """The servers for people, without user names and passwords."""
        return ", ".join(url.split("://")[-1].rsplit("@", 1)[-1] for url in self.servers())


class _Process:
    """What this process's connection has been told beside the answers to its requests. A process has one connection."""

    def __init__(self) -> None:
        self.denials = 0
        self.denied = ""
        """The last denial, in the server's words."""
        self.has_jetstream = True
        self.refused_at = -math.inf
        """When the store had no room, on the clock of time.monotonic."""

    def condition(self, denials_before: int) -> Condition:
        denied = self.denied if self.denials > denials_before else None
        return Condition(has_jetstream=self.has_jetstream, denied=denied)


_process = _Process()


@contextmanager
def mapped_errors() -> Iterator[None]:
    """Turn nats errors into broker errors (broker/verdict.py decides which).

    Also raises CancelledError where nats-py has lost it, in success and in failure: it uses asyncio.wait_for, which before
    Python 3.12 forgets a cancellation that comes together with the result, and its publish catches cancellations. An
    upload then lived on after its client had gone, and a worker after its SIGTERM.
    """
    task = asyncio.current_task()
    before, denials = task.cancelling() if task else 0, _process.denials
    try:
        yield
    except (nats.errors.Error, APIError, NoStreamResponseError, OSError, TimeoutError) as error:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError from error
        ours = verdict(error, _process.condition(denials))
        if isinstance(ours, StorageFull) and not isinstance(ours, SubjectFull):
            _process.refused_at = time.monotonic()
        raise ours from error
    if task and task.cancelling() > before:
        raise asyncio.CancelledError


def refused_lately(within_secs: float) -> bool:
    """Whether the store had no room for something of this process within this time."""
    return time.monotonic() - _process.refused_at < within_secs


class _Holder:
    """Cancels the task that holds the connection when that is closed for good, and turns this into ConnectionLost.

    nats-py closes its connection on almost any error that the server tells (`-ERR`), and does not come back.
    """

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._is_lost, self._is_held = False, False

    async def on_closed(self) -> None:
        if self._task is not None and self._is_held:
            self._is_lost = True
            self._task.cancel()

    @contextmanager
    def holding(self, client: Client) -> Iterator[None]:
        """Raises ConnectionLost in place of everything that the loss of the connection has caused."""
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
    """A connection that reconnects for ever, flushed at the end.

    Raises Unavailable if the first connect fails, Refused where it meets a server that is too old or does not let it in;
    ConnectionLost, whatever the caller is doing then, when the connection is closed for good.
    """

    is_new = True

    async def on_error(error: Exception) -> None:
        if is_new and "authorization violation" in str(error).lower():
            # nats-py would try the same user again and again, hundreds of times a second.
            raise Refused("nats-server refuses the user and password of NATS_URL, or NATS_CREDS")
        if PERMISSIONS_VIOLATION in str(error).lower():
            _process.denials, _process.denied = _process.denials + 1, str(error)
        log.warning("nats: %s: %s", type(error).__name__, error)

    closing = False

    async def on_disconnected() -> None:
        if not closing:
            log.warning("nats: disconnected from %s", settings.addresses())

    async def on_reconnected() -> None:
        log.info("nats: reconnected")
        _process.has_jetstream = client.may_have_jetstream
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
    _process.has_jetstream = client.may_have_jetstream
    try:
        _check(client.connected_server_version)
        with holder.holding(client):
            yield client, client.jetstream(timeout=10)
    finally:
        closing = True
        # Not drain(): it waits for subscriptions to be read out, which nobody does any more.
        async with goodbye("flush"):
            await client.flush()
        async with goodbye("close"):
            try:
                await client.close()
            except RuntimeError as error:  # nats-py writes what is left to a transport that is closed
                raise Unavailable(str(error)) from error


@asynccontextmanager
async def goodbye(what: str) -> AsyncIterator[None]:
    """For what is said on the way out: worth a try, but no reason to stay where nobody listens."""
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
    """Wait until the connection under `js`, which `connect` has made, is made again."""
    client = js._nc
    if not isinstance(client, NatsClient):
        raise TypeError("only connect() makes connections that tell of their reconnects")
    await client.reconnection.wait()


def _tls(settings: BrokerSettings) -> ssl.SSLContext | None:
    """None is nats-py's default: the system's authorities, for tls:// URLs."""
    return ssl.create_default_context(cafile=settings.nats_tls_ca) if settings.nats_tls_ca else None


async def _first_connection(settings: BrokerSettings, **options: Any) -> NatsClient:
    """nats-py gives up on the first refusal when it has never been connected; a server may just be starting."""
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
