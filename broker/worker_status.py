"""Which workers are alive: their latest status in a bucket whose keys expire."""

import msgspec
from nats.js import JetStreamContext
from nats.js.kv import KeyValue

from broker.connection import mapped_errors
from broker.scanning import scan
from broker.topology import KV_KEY, KV_STREAM
from schemas.model import WorkerStatus
from schemas.subjects import WORKERS_BUCKET


class WorkerStatuses:
    def __init__(self, js: JetStreamContext, bucket: KeyValue) -> None:
        self._js, self._bucket = js, bucket

    @classmethod
    async def open(cls, js: JetStreamContext) -> "WorkerStatuses":
        with mapped_errors():
            return cls(js, await js.key_value(WORKERS_BUCKET))

    async def tell(self, status: WorkerStatus) -> None:
        """Raises Unavailable."""
        with mapped_errors():
            await self._bucket.put(status.worker_id, msgspec.json.encode(status))

    async def forget(self, worker_id: str) -> None:
        """The worker stops in order. Raises Unavailable."""
        with mapped_errors():
            key = KV_KEY.format(WORKERS_BUCKET, worker_id)
            await self._js.purge_stream(KV_STREAM.format(WORKERS_BUCKET), subject=key)

    async def alive(self) -> list[WorkerStatus]:
        """Sorted by worker id. Raises Unavailable."""
        found = scan(self._js, KV_STREAM.format(WORKERS_BUCKET), KV_KEY.format(WORKERS_BUCKET, ">"))
        statuses = [msgspec.json.decode(stored.body, type=WorkerStatus) async for stored in found]
        return sorted(statuses, key=lambda status: status.worker_id)
