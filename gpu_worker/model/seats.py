"""The jobs in the worker's hands that want the model, each with the state of its wait."""

import asyncio


class Seat:
    """The place of one job in the line for the engine."""

    def __init__(self, job_id: str, stop: asyncio.Event) -> None:
        self.job_id = job_id
        self.stop = stop
        """Set when the job must give up, by its owner or by this worker's model."""
        self.is_evicted = False
        """Whether `stop` was set because the GPU is wanted back, or because engines keep dying here."""
        self.load_secs = 0.0
        """Seconds that the job has waited for a load."""
        self.refusal: str | None = None
        """Why there will be no model for this job."""


class Seats:
    """All seats by the keys of the deliveries in hand: a job may be here twice, when it was delivered again."""

    def __init__(self) -> None:
        self._seats: dict[str, Seat] = {}

    def __getitem__(self, key: str) -> Seat:
        return self._seats[key]

    def add(self, key: str, job_id: str, stop: asyncio.Event) -> None:
        """Give a seat to a job that has arrived."""
        self._seats[key] = Seat(job_id, stop)

    def remove(self, key: str) -> None:
        """Take the seat away. Idempotent."""
        self._seats.pop(key, None)

    def stop(self, job_id: str) -> None:
        """Make every delivery of this job give up."""
        for seat in self._seats.values():
            if seat.job_id == job_id:
                seat.stop.set()

    def evict(self, keys: frozenset[str]) -> None:
        """Make these jobs give up, so that they go back to the queue."""
        for key in keys:
            self._seats[key].is_evicted = True
            self._seats[key].stop.set()

    def refuse(self, keys: frozenset[str], reason: str) -> None:
        """Tell these jobs that there will be no model for them."""
        for key in keys:
            self._seats[key].refusal = reason

    def job_of(self, key: str | None) -> str | None:
        """Return the id of the job on this seat, or None where there is none."""
        seat = self._seats.get(key) if key is not None else None
        return seat.job_id if seat is not None else None
