"""What every job of a worker uses, put together once."""

import uuid
from collections.abc import Callable

from broker.audio_use import AudioUse
from broker.dead_letters import DeadLetters
from broker.event_log import EventLog
from broker.job_records import JobRecords
from broker.object_store import ObjectStore
from gpu_worker.model import Model
from gpu_worker.preparing import Spool
from gpu_worker.settings import WorkerSettings


class Services:
    def __init__(
        self,
        settings: WorkerSettings,
        model: Model,
        store: ObjectStore,
        audio: AudioUse,
        records: JobRecords,
        events: EventLog,
        dead: DeadLetters,
        spool: Spool,
        measured: Callable[[float, float], None],
    ) -> None:
        """`measured` is told of each job that ran in one go: seconds of its audio, seconds on the engine."""
        self.settings, self.model, self.store, self.dead = settings, model, store, dead
        self.records, self.events, self.spool = records, events, spool
        self.audio = audio
        self.measured = measured
        self.run_id = uuid.uuid4().hex
        """Of this process."""
