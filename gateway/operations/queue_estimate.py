"""The position of a job in the queue and its expected end. Pure: the queue and the workers' measurements in, estimate out."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import msgspec

from schemas.model import WorkerStatus


class Place(msgspec.Struct, kw_only=True, frozen=True):
    """Where a job is in the queue."""

    position: int | None
    """1 is the next to be run; None where the job is not waiting."""
    eta: datetime | None
    """When it will have ended; None where nothing is measured."""


def place(job_id: str, queue: Sequence[str], workers: Iterable[WorkerStatus], now: datetime) -> Place:
    """Return the place of a job. `queue` has the ids of all jobs that have not ended, in their order.

    The estimate assumes that each job is as long as the average job was, that it runs as fast as those ran (real-time factor),
    and that running jobs are half done.
    """
    alive = list(workers)
    running = {w.job_id for w in alive} - {None}
    waiting = [other for other in queue if other not in running]
    if job_id not in waiting:
        return Place(position=None, eta=None)
    position = waiting.index(job_id) + 1
    measured = [w.speed.real_time_factor * w.speed.audio_secs for w in alive if w.speed is not None]
    if not measured:
        return Place(position=position, eta=None)
    secs_per_job = sum(measured) / len(measured)
    jobs = position + len(running) / 2
    return Place(position=position, eta=now + timedelta(seconds=secs_per_job * jobs / len(alive)))
