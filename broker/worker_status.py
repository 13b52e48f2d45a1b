"""Which workers are alive: their latest status in a bucket whose keys expire."""

import msgspec
from nats.js import JetStreamContext
from nats.js.kv import KeyValue

from broker.connection import mapped_errors
from broker.reading import usable
from broker.scanning import scan
from broker.topology.declared import KV_KEY, KV_STREAM
from schemas.inputs import WORKER_STATUS
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
        statuses = [usable(WORKER_STATUS.read, s.subject, s.seq, s.body) async for s in found]
        return sorted((s for s in statuses if s is not None), key=lambda status: status.worker_id)
