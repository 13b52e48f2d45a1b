"""What every job of a worker uses, put together once."""

import uuid
from collections.abc import Callable

from nats.js import JetStreamContext

from broker.audio_use import AudioUse
from broker.dead_letters import DeadLetters
from broker.event_log import EventLog
from broker.job_records import JobRecords
from broker.object_store import ObjectStore
from gpu_worker.machine import Machine
from gpu_worker.model.model import Model
from gpu_worker.settings import WorkerSettings
from gpu_worker.spool import Spool
from schemas import subjects


class Broker:
    """What a worker uses of the broker for its jobs."""

    def __init__(self, js: JetStreamContext, records: JobRecords) -> None:
        self.store = ObjectStore(js, subjects.AUDIO_BUCKET)
        self.audio = AudioUse(js, records, self.store)
        self.events, self.dead, self.records = EventLog(js), DeadLetters(js), records

    @classmethod
    async def open(cls, js: JetStreamContext) -> "Broker":
        """Raises Unavailable."""
        return cls(js, await JobRecords.open(js))


class Services:
    def __init__(
        self,
        settings: WorkerSettings,
        broker: Broker,
        model: Model,
        machine: Machine,
        spool: Spool,
        measured: Callable[[float, float], None],
    ) -> None:
        """`measured` is told of each job that ran in one go: seconds of its audio, seconds on the engine."""
        self.settings, self.model, self.machine, self.spool = settings, model, machine, spool
        self.store, self.audio, self.dead = broker.store, broker.audio, broker.dead
        self.records, self.events = broker.records, broker.events
        self.measured = measured
        self.run_id = uuid.uuid4().hex
        """Of this process."""
