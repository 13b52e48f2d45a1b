"""Deletes audio that nobody needs any more: of ended jobs after AUDIO_RETENTION_SECS, and without a job after an hour.

It also puts messages that nats-server has forgotten back into their queues (broker/rescue.py). Every gateway sweeps, which does no
harm: what one has deleted is gone for the others. Records, results and events expire by themselves.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from broker.audio_use import object_of
from broker.errors import BrokerError
from broker.job_records import JobRecords, has_ended
from broker.object_store import ObjectStore
from broker.rescue import Rescue
from process.background import run_in_background
from schemas.jobs import JobRecord

log = logging.getLogger(__name__)

RESULT_GRACE = timedelta(minutes=10)
"""How long somebody may still read a result that was replaced."""
ORPHAN_AGE = timedelta(hours=1)
"""Age at which an object without a job is deleted. Between an upload and its publish there is one for a moment."""


class Sweep:
    """The sweeping task of one gateway."""

    def __init__(
        self,
        audio: ObjectStore,
        results: ObjectStore,
        records: JobRecords,
        rescue: Rescue,
        retention_secs: float,
        interval_secs: float,
    ) -> None:
        self._audio, self._results, self._records, self._rescue = audio, results, records, rescue
        self._retention, self._interval_secs = timedelta(seconds=retention_secs), interval_secs

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Sweep every `interval_secs` while the block runs."""
        async with run_in_background(self._run(), name="sweep"):
            yield

    async def _run(self) -> None:
        while True:
            await self._netted(self._rescue.once())
            await self._netted(self.once(datetime.now(UTC)))
            await asyncio.sleep(self._interval_secs)

    async def _netted(self, work: Awaitable[object]) -> None:
        """Do one part of the sweep. Nothing that lies in the store may end the gateway, or keep it from its other work."""
        try:
            await work
        except BrokerError as error:
            log.warning("sweep: %s; tried again in %g s", error, self._interval_secs)
        except Exception:
            log.exception("sweep: failed unexpectedly; tried again in %g s", self._interval_secs)

    async def once(self, now: datetime) -> None:
        """Delete what can be deleted at the time `now`. Raises Unavailable."""
        stored = {info.name: at for info, at in await self._audio.objects()}
        for name in superfluous(stored, await self._records.all(), now, self._retention):
            log.info("sweep: the audio %s goes", name)
            await self._audio.delete(name)
        if swept := await self._audio.sweep(now - ORPHAN_AGE):
            log.info("sweep: %d broken uploads go", swept)
        # A result that is written again leaves the chunks of the one before to whoever is reading them.
        await self._results.sweep(now - RESULT_GRACE)


def superfluous(
    stored: dict[str, datetime], records: Iterable[JobRecord], now: datetime, retention: timedelta
) -> list[str]:
    """Return the names of the stored objects that can be deleted. `stored` is name to time of storing. Pure."""
    is_wanted: dict[str, bool] = {}
    for record in records:
        name = object_of(record)
        ended = record.completed_at if has_ended(record) and record.completed_at is not None else None
        # Times are subtracted and never added up, because a time that others have written may be close to datetime.max.
        wanted = ended is None or now - ended < retention
        is_wanted[name] = wanted or is_wanted.get(name, False)
    return [name for name, at in stored.items() if not is_wanted.get(name, now - at < ORPHAN_AGE)]
