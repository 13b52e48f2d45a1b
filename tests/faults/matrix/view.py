"""What nats-server says of the jobs, read with nats-py alone, over a connection that outlives every fault."""

import asyncio
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import StreamSource
from nats.js.errors import APIError, NoStreamResponseError

from broker.errors import BrokerError
from broker.job_records import JobRecords
from broker.object_store import ObjectStore
from gateway.sweep import ORPHAN_AGE, superfluous
from schemas import subjects
from tests.faults.matrix.checking import TERMINAL, Event, Version

AWAY = (nats.errors.Error, APIError, BrokerError, NoStreamResponseError, OSError, TimeoutError)
"""What is raised while there is no server, or one that is not ready."""
CALL_SECS = 10
QUIET_SECS = 3.0
STREAMS = {
    "jobs": subjects.JOBS_STREAM,
    "webhooks": subjects.WEBHOOKS_STREAM,
    "audio": f"OBJ_{subjects.AUDIO_BUCKET}",
}
VERSIONS = "FAULTS_RECORDS"
T = TypeVar("T")
Said = tuple[str, bytes]
"""Subject and body."""


class View:
    def __init__(self, urls: list[str]) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._news = threading.Condition()
        self.said: list[Said] = []
        """Every event since the beginning, but for those told while the server was away."""
        self._client: Client = self.call(self._connect(urls))

    def call(self, work: Coroutine[Any, Any, T], secs: float = CALL_SECS) -> T:
        """Run it on the connection's loop. Raises what AWAY lists."""
        return asyncio.run_coroutine_threadsafe(_within(work, secs), self._loop).result()

    def wait_for(self, job: str, kind: str, secs: float) -> None:
        """Until the job's event is told. Raises TimeoutError."""
        self.wait_until(lambda said: said[0] == subjects.event(job, kind), secs, f"{kind} of job {job}")

    def wait_until(self, wanted: Callable[[Said], bool], secs: float, what: str) -> None:
        """Until such a message was told. Raises TimeoutError."""
        with self._news:
            if not self._news.wait_for(lambda: any(wanted(said) for said in self.said), secs):
                raise TimeoutError(f"{what} never came")

    def left(self) -> dict[str, int]:
        """Messages in the two queues, and in the store of audio."""
        return self.call(self._left())

    def undelivered(self) -> int:
        """Jobs that are in no worker's hand."""
        return self.call(self._undelivered())

    def ended(self) -> set[str]:
        """Jobs whose log has an end."""
        return self.call(self._ended())

    def leader(self, stream: str = subjects.JOBS_STREAM) -> str:
        """Name of the server that leads a stream; empty while there is none."""
        return self.call(self._leader(stream))

    def is_whole(self) -> bool:
        """All replicas of all streams are there and current."""
        return self.call(self._is_whole())

    def events(self) -> list[Event]:
        """All events of all jobs, in order."""
        return self.call(self._events(), 3 * CALL_SECS)

    def records(self) -> dict[str, list[Version]]:
        """The versions of each job's record, in order."""
        return self.call(self._records(), 3 * CALL_SECS)

    def sweep(self) -> int:
        """Remove what the gateway's sweep removes after an hour: what is left of uploads that broke off; of how many."""
        return self.call(self._sweep())

    def close(self) -> None:
        try:
            self.call(self._client.close())
        except AWAY as error:
            print(f"closing the view: {error!r}")
        self._loop.call_soon_threadsafe(self._loop.stop)

    @property
    def _js(self) -> JetStreamContext:
        return self._client.jetstream(timeout=QUIET_SECS)

    async def _connect(self, urls: list[str]) -> Client:
        async def ignore(_error: Exception) -> None:
            return  # it is the point that servers come and go; what is asked for meanwhile raises

        client = await nats.connect(
            urls, max_reconnect_attempts=-1, reconnect_time_wait=0.1, ping_interval=2, error_cb=ignore
        )
        await client.subscribe(subjects.ALL_EVENTS, cb=self._hear)
        await client.flush()
        # The bucket keeps the last version of a record; nats-server copies each to a stream that keeps all.
        source = StreamSource(name=subjects.kv_stream(subjects.RECORDS_BUCKET))
        await client.jetstream().add_stream(name=VERSIONS, sources=[source], num_replicas=min(len(urls), 3))
        return client

    async def _hear(self, message: Msg) -> None:
        with self._news:
            self.said.append((message.subject, message.data))
            self._news.notify_all()

    async def _left(self) -> dict[str, int]:
        infos = [await self._js.stream_info(stream) for stream in STREAMS.values()]
        return dict(zip(STREAMS, (info.state.messages for info in infos), strict=True))

    async def _undelivered(self) -> int:
        info = await self._js.consumer_info(subjects.JOBS_STREAM, subjects.GPU_WORKER_CONSUMER)
        return info.num_pending or 0

    async def _ended(self) -> set[str]:
        info = await self._js.stream_info(
            subjects.EVENTS_STREAM, subjects_filter=f"{subjects.EVENTS_PREFIX}.>"
        )
        return {subjects.job_of(s) for s in info.state.subjects or {} if subjects.last_token(s) in TERMINAL}

    async def _leader(self, stream: str) -> str:
        info = await self._js.stream_info(stream)
        return (info.cluster.leader if info.cluster else None) or ""

    async def _is_whole(self) -> bool:
        clusters = [info.cluster for info in await self._js.streams_info()]
        return all(c and c.leader and all(r.current for r in c.replicas or []) for c in clusters)

    async def _events(self) -> list[Event]:
        return [
            _event(message)
            for message in await self._read(subjects.EVENTS_STREAM, f"{subjects.EVENTS_PREFIX}.>")
        ]

    async def _records(self) -> dict[str, list[Version]]:
        found: dict[str, list[Version]] = defaultdict(list)
        for message in await self._read(VERSIONS, ">"):
            if message.data:  # else it is a deletion
                record = json.loads(message.data)
                version = Version(record["attempts"], record["committed"], record["status"] in TERMINAL)
                found[subjects.last_token(message.subject)].append(version)
        return dict(found)

    async def _read(self, stream: str, pattern: str) -> list[Msg]:
        """All messages of a stream that match."""
        info = await self._js.stream_info(stream, subjects_filter=pattern)
        count = sum((info.state.subjects or {}).values())
        following = await self._js.subscribe(pattern, stream=stream, ordered_consumer=True)
        try:
            return [await following.next_msg(timeout=CALL_SECS) for _ in range(count)]
        finally:
            await following.unsubscribe()

    async def _sweep(self) -> int:
        store, records = ObjectStore(self._js, subjects.AUDIO_BUCKET), await JobRecords.open(self._js)
        stored = {info.name: at for info, at in await store.objects()}
        now = datetime.now(UTC)
        orphans = superfluous(stored, await records.all(), now + ORPHAN_AGE, timedelta.max)
        for name in orphans:
            await store.delete(name)
        return len(orphans) + await store.sweep(now)


async def _within(work: Coroutine[Any, Any, T], secs: float) -> T:
    async with asyncio.timeout(secs):
        return await work


def _event(message: Msg) -> Event:
    kind = subjects.last_token(message.subject)
    body = {} if kind == subjects.QUEUED else json.loads(message.data)
    return Event(
        job=subjects.job_of(message.subject),
        kind=kind,
        at=message.metadata.timestamp.timestamp(),
        index=body["segment"]["index"] if kind == "segment" else None,
        attempt=body["attempt"] if kind == "started" else None,
    )


def wait_until(condition: Callable[[], bool], secs: float, what: str) -> None:
    """Ask again and again, of something that sets no event; an answer that does not come is no. Raises TimeoutError."""
    deadline = time.monotonic() + secs
    while True:
        try:
            if condition():
                return
        except AWAY as error:
            print(f"waiting for {what}: {error!r}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {secs:g} s")
        time.sleep(0.01)
