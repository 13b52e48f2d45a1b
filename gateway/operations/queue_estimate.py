"""Where a job stands in the queue and when it will have ended. Pure: the queue and what workers measured in, estimate out."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import msgspec

from schemas.model import WorkerStatus


class Place(msgspec.Struct, kw_only=True, frozen=True):
    position: int | None
    """1 is the next to be run; None where the job is not waiting."""
    eta: datetime | None


def place(job_id: str, queue: Sequence[str], workers: Iterable[WorkerStatus], now: datetime) -> Place:
    """`queue` holds the ids of all jobs that have not ended, in their order.

    Each job is taken to be as long as jobs were on average, to go as fast as they went (real-time factor), and the
    running ones to be half done. Without a worker that has measured that, there is no eta.
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
