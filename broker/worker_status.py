"""Which workers are alive: the latest status of each, in a bucket whose keys expire."""

from typing import Self

from nats.js import JetStreamContext

from broker.bucket import Bucket
from schemas.inputs import WORKER_STATUS
from schemas.model import WorkerStatus
from schemas.subjects import WORKERS_BUCKET


class WorkerStatuses:
    """The bucket WHISPER_WORKERS."""

    def __init__(self, bucket: Bucket[WorkerStatus]) -> None:
        self._bucket = bucket

    @classmethod
    async def open(cls, js: JetStreamContext) -> Self:
        """Raises Unavailable."""
        return cls(await Bucket.open(js, WORKERS_BUCKET, lambda _key, body: WORKER_STATUS.read(body)))

    async def tell(self, status: WorkerStatus) -> None:
        """Write a worker's status, which expires unless it is written again. Raises Unavailable."""
        await self._bucket.put(status.worker_id, status)

    async def forget(self, worker_id: str) -> None:
        """Remove the status of a worker that stops. Raises Unavailable."""
        await self._bucket.purge(worker_id)

    async def alive(self) -> list[WorkerStatus]:
        """Return the statuses that have not expired, sorted by worker id. Raises Unavailable."""
        found = [status async for status in self._bucket.values()]
        return sorted(found, key=lambda status: status.worker_id)
