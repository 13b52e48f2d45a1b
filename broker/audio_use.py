"""Which jobs use an audio object: it is deleted with the last of them.

Most jobs have an object of their own, with the job's id as its name. A job that was published over NATS may name any object, so that
two jobs may name the same one. The work queue tells which others do; each look reads only what is new since the last.
"""

from collections import defaultdict

from nats.js import JetStreamContext

from broker.job_records import JobRecords, has_ended
from broker.object_store import ObjectStore
from broker.scanning import scan
from schemas import subjects
from schemas.inputs import SUBMISSION, Unreadable
from schemas.jobs import JobRecord


class AudioUse:
    """Releases the audio of ended jobs."""

    def __init__(self, js: JetStreamContext, records: JobRecords, audio: ObjectStore) -> None:
        self._js, self._records, self._audio = js, records, audio
        self._named: defaultdict[str, set[str]] = defaultdict(set)
        """Object to the ids of jobs that name it, where that is not their own id."""
        self._seen = 0
        """Sequence of the work queue up to which it was read."""

    async def release(self, record: JobRecord) -> None:
        """Delete the audio of an ended job, unless another job that has not ended needs it. Raises Unavailable."""
        name = object_of(record)
        if not await self._is_wanted(name, record.id):
            await self._audio.delete(name)

    async def _is_wanted(self, name: str, by_others_than: str) -> bool:
        await self._look()
        for job_id in self._named.get(name, set()) | {name}:
            if job_id == by_others_than or not subjects.is_job_id(job_id):
                continue
            other = await self._records.get(job_id)
            if other is not None and not has_ended(other) and object_of(other) == name:
                return True
            self._named[name].discard(job_id)
        self._named.pop(name, None)
        return False

    async def _look(self) -> None:
        async for stored in scan(self._js, subjects.JOBS_STREAM, subjects.ALL_SUBMITS, self._seen):
            self._seen = stored.seq
            job_id = subjects.last_token(stored.subject)
            try:
                named = SUBMISSION.read(stored.body).audio
            except Unreadable:
                # It is no job, which the worker that gets it reports.
                continue
            if named is not None and named != job_id:
                self._named[named].add(job_id)


def object_of(record: JobRecord) -> str:
    """Return the name of a job's audio in its bucket."""
    return record.request.audio or record.id
