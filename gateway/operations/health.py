"""The health of the whole service as this gateway sees it."""

from nats.aio.client import Client

from broker.dead_letters import DeadLetters
from broker.error_mapping import refused_lately
from broker.errors import BrokerError, Unavailable
from broker.job_records import JobRecords
from broker.object_store import ObjectStore
from broker.worker_status import WorkerStatuses
from gateway.admission import nearest_first, reasons, storage_status
from schemas.model import Health, ModelState

DEGRADED = "degraded"
STILL_FULL_SECS = 60.0
"""How long /health reports a full store after the store has refused something.

There may seem to be room, because a large upload that was refused has left some, and only nats-server knows the limit.
"""


class HealthCheck:
    """Looks at nats-server, the workers and the store."""

    def __init__(
        self,
        client: Client,
        statuses: WorkerStatuses,
        records: JobRecords,
        dead: DeadLetters,
        audio: ObjectStore,
    ) -> None:
        self._client, self._statuses, self._records = client, statuses, records
        self._dead, self._audio = dead, audio

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to nats-server now."""
        return bool(self._client.is_connected)

    @property
    def is_closed(self) -> bool:
        """Whether the connection is closed for good. The process is about to end then (broker/connection.py)."""
        return bool(self._client.is_closed)

    async def look(self) -> Health:
        """Return the health. Raises nothing: what cannot be reached is reported."""
        try:
            if not self.is_connected:
                raise Unavailable("there is no connection to nats-server")
            workers = nearest_first(await self._statuses.alive())
            depth, dead = await self._records.queue_depth(), await self._dead.count()
            room = await self._audio.room()
        except BrokerError as error:
            return Health(
                status=DEGRADED,
                reasons=[f"The message broker cannot be reached: {error}."],
                broker="unreachable",
                model_state=ModelState.OFFLINE,
                queue_depth=None,
                gpu=None,
                workers=[],
            )
        storage = storage_status(room, refused_lately(STILL_FULL_SECS))
        why = reasons(workers, storage)
        return Health(
            status=DEGRADED if why else "ok",
            reasons=why,
            broker="ok",
            storage=storage,
            model_state=workers[0].model.state if workers else ModelState.OFFLINE,
            queue_depth=depth,
            dead_letters=dead,
            gpu=workers[0].gpu if workers else None,
            workers=workers,
        )
