"""Which workers are alive: their latest status in a bucket whose keys expire."""

import msgspec
from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue

from broker.connection import mapped_errors
from broker.topology import KV_STREAM
from schemas.model import WorkerStatus
from schemas.subjects import WORKERS_BUCKET, last_token


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
            await self._js.purge_stream(
                KV_STREAM.format(WORKERS_BUCKET), subject=f"$KV.{WORKERS_BUCKET}.{worker_id}"
            )

    async def alive(self) -> list[WorkerStatus]:
        """Sorted by worker id. Raises Unavailable."""
        found = []
        with mapped_errors():
            info = await self._js.stream_info(KV_STREAM.format(WORKERS_BUCKET), subjects_filter=">")
            for subject in sorted(info.state.subjects or {}):
                try:
                    entry = await self._bucket.get(last_token(subject))
                except KeyNotFoundError:  # it has just expired
                    continue
                found.append(msgspec.json.decode(entry.value or b"", type=WorkerStatus))
        return found
