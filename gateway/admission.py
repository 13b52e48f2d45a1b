"""Decisions from the statuses of workers: which is nearest to working, whether a job is taken now, what is degraded. Pure."""

import math
from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

import msgspec

from schemas.errors import ErrorCode
from schemas.model import ModelState, ModelStatus, Room, StorageStatus, WorkerStatus

NEAREST_FIRST = (
    ModelState.READY,
    ModelState.LOADING,
    ModelState.WAITING_FOR_GPU,
    ModelState.UNLOADED,
    ModelState.UNLOADING,
    ModelState.ERROR,
)
"""States by how soon a job could run."""
USUAL_LOAD_SECS = 10.0
"""Expected time of a load until one was measured: large-v3 from a usual disk."""
MENDING_SECS = 60
"""Retry-After where somebody must repair something, or start a worker."""
NEARLY_FULL = 0.97
"""Share of the audio bucket's limit from which the store counts as full: hardly any upload would find room."""


class JobsWhenUnloaded(StrEnum):
    """What POST /jobs does while no model is ready."""

    REFUSE = "refuse"
    QUEUE = "queue"


class Refusal(msgspec.Struct, kw_only=True, frozen=True):
    """Why no job is taken now; `retry_after` is in whole seconds."""

    code: ErrorCode
    detail: str
    retry_after: int
    load: bool
    """Whether to ask for a load, so that the model is ready when the client comes back."""


def nearest_first(workers: Iterable[WorkerStatus]) -> list[WorkerStatus]:
    """Return the workers sorted by how soon a job could run there. Unknown states of later versions come last."""
    order = {state: place for place, state in enumerate(NEAREST_FIRST)}
    return sorted(workers, key=lambda w: (order.get(w.model.state, len(order)), w.worker_id))


def storage_status(room: Room, refused: bool) -> StorageStatus:
    """Return how full the store is. `refused` says that it has refused something lately."""
    is_full = refused or (room.limit is not None and room.used >= NEARLY_FULL * room.limit)
    return StorageStatus(audio_used=room.used, audio_limit=room.limit, full=is_full)


def reasons(ranked: list[WorkerStatus], storage: StorageStatus) -> list[str]:
    """Return why the service is degraded, as sentences; empty where it is not. `ranked` comes from `nearest_first`."""
    found = []
    if storage.full:
        limit = f" of {storage.audio_limit:,}" if storage.audio_limit is not None else ""
        found.append(
            f"The store is full: audio has {storage.audio_used:,}{limit} bytes; uploads are refused."
        )
    if not ranked:
        return [*found, "No worker is running."]
    model = ranked[0].model
    if model.state is ModelState.ERROR:
        found.append(f"The model cannot be loaded: {model.reason or 'its worker does not say why'}")
    found += [f"The worker {w.worker_id} takes no jobs: {w.trouble}" for w in ranked if w.trouble]
    return found


def refusal(workers: Iterable[WorkerStatus], now: datetime) -> Refusal | None:
    """Return why no job is taken now; None where a worker's model is ready."""
    ranked = nearest_first(workers)
    if not ranked:
        detail = "No worker is running. `Prefer: respond-async` queues the job until there is one."
        return Refusal(code=ErrorCode.MODEL_NOT_READY, detail=detail, retry_after=MENDING_SECS, load=False)
    model = ranked[0].model
    if model.state is ModelState.READY:
        return None
    if model.state is ModelState.ERROR:
        reason = model.reason or "The model cannot be loaded."
        return Refusal(code=ErrorCode.MODEL_UNAVAILABLE, detail=reason, retry_after=MENDING_SECS, load=False)
    because = f": {model.reason}" if model.reason else "."
    detail = f"The model is {model.state}{because} `Prefer: respond-async` queues the job."
    return Refusal(
        code=ErrorCode.MODEL_NOT_READY,
        detail=detail,
        retry_after=_retry_after(model, now),
        # While it waits for VRAM, a request would only make it look at the GPU more often than its setting says.
        load=model.state is not ModelState.WAITING_FOR_GPU,
    )


def _retry_after(model: ModelStatus, now: datetime) -> int:
    if model.state is ModelState.WAITING_FOR_GPU:
        return max(1, math.ceil(model.retry_interval_secs or MENDING_SECS))
    secs = model.load_secs or USUAL_LOAD_SECS
    if model.state is ModelState.LOADING and model.since is not None:
        secs -= (now - model.since).total_seconds()
    return max(1, math.ceil(secs))


def prefers_async(prefer: str | None) -> bool:
    """Whether a Prefer header (RFC 7240) has `respond-async`. Several headers come joined by commas."""
    preferences = (part.split(";")[0].strip().lower() for part in (prefer or "").split(","))
    return "respond-async" in preferences
