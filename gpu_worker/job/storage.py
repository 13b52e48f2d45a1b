"""What a worker reads and writes of its jobs in JetStream, opened once for all of them."""

from typing import Self

from nats.js import JetStreamContext

from broker.audio_use import AudioUse
from broker.dead_letters import DeadLetters
from broker.event_log import EventLog
from broker.job_records import JobRecords
from broker.object_store import ObjectStore
from schemas import subjects


class JobStorage:
    """The audio bucket, the records, the event log and the dead letters."""

    def __init__(self, js: JetStreamContext, records: JobRecords) -> None:
        self.objects = ObjectStore(js, subjects.AUDIO_BUCKET)
        self.audio = AudioUse(js, records, self.objects)
        self.events, self.dead, self.records = EventLog(js), DeadLetters(js), records

    @classmethod
    async def open(cls, js: JetStreamContext) -> Self:
        """Raises Unavailable."""
        return cls(js, await JobRecords.open(js))
