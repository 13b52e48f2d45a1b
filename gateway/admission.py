"""The workers as a gateway sees them: which is nearest to working, may a job be taken now, what to tell who must wait.

Pure: statuses and the time in, decisions out.
"""

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
USUAL_LOAD_SECS = 10.0
"""Until a load has been measured: what large-v3 takes from a disk of today."""
MENDING_SECS = 60
"""When to ask again where somebody must mend something, or start a worker."""


NEARLY_FULL = 0.97
"""Of the audio bucket's limit: an upload of any length would hardly find room."""


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
    """Whether a load is to be asked for, so that it is ready when the client comes back."""


def nearest_first(workers: Iterable[WorkerStatus]) -> list[WorkerStatus]:
    """A worker whose model is in a state of a later version comes last."""
    order = {state: place for place, state in enumerate(NEAREST_FIRST)}
    return sorted(workers, key=lambda w: (order.get(w.model.state, len(order)), w.worker_id))


def storage_status(room: Room, refused: bool) -> StorageStatus:
    """`refused`: the store has refused something lately."""
    is_full = refused or (room.limit is not None and room.used >= NEARLY_FULL * room.limit)
    return StorageStatus(audio_used=room.used, audio_limit=room.limit, full=is_full)


def reasons(ranked: list[WorkerStatus], storage: StorageStatus) -> list[str]:
    """Why the service is degraded, in sentences; none where it is well. `ranked` as by `nearest_first`."""
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
    """None where a worker's model is ready."""
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
        # While it waits for VRAM, asking would only make it look at the GPU more often than it was told to.
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
