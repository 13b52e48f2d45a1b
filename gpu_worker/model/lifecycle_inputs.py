"""What can happen to the model, and what is then to be done: the words of gpu_worker/model/lifecycle.py. Pure.

A `job_id` here is whatever tells the jobs in the worker's hands apart: the worker gives the key of the delivery.
"""

import msgspec


class LoadAsked(msgspec.Struct, frozen=True):
    """Somebody wants the model ready. Idempotent."""


class UnloadAsked(msgspec.Struct, frozen=True):
    """Somebody wants the GPU. With `force` the jobs in hand are given back; without it they are in the way."""

    force: bool = False


class JobArrived(msgspec.Struct, frozen=True):
    """A job is in the worker's hands. Idempotent."""

    job_id: str


class JobStarted(msgspec.Struct, frozen=True):
    """A waiting job takes the engine."""

    job_id: str


class JobLeft(msgspec.Struct, frozen=True):
    """A job is through, or gives up waiting. For a job that is not here this is nothing."""

    job_id: str


class LoadSucceeded(msgspec.Struct, frozen=True):
    pass


class LoadFailed(msgspec.Struct, frozen=True):
    """Trying again would not help."""

    reason: str


class OutOfMemory(msgspec.Struct, frozen=True):
    """There is no VRAM for the load; its engine is gone."""

    reason: str


class EngineDied(msgspec.Struct, frozen=True):
    """The engine of a ready model is gone, and we did not ask for it."""

    reason: str
    out_of_memory: bool = False


class EngineEnded(msgspec.Struct, frozen=True):
    """EndEngine is done."""


class GpuPolled(msgspec.Struct, frozen=True):
    """PollGpu is done: `lack` says what is missing, None that a load has a chance."""

    lack: str | None


class TimePassed(msgspec.Struct, frozen=True):
    """It is as late as `step` is told."""


Event = (
    LoadAsked
    | UnloadAsked
    | JobArrived
    | JobStarted
    | JobLeft
    | LoadSucceeded
    | LoadFailed
    | OutOfMemory
    | EngineDied
    | EngineEnded
    | GpuPolled
    | TimePassed
)


class StartLoad(msgspec.Struct, frozen=True):
    """Start an engine and load the model. Answered by LoadSucceeded, LoadFailed or OutOfMemory."""


class EndEngine(msgspec.Struct, frozen=True):
    """End the engine, also one that is just loading. Answered by EngineEnded."""


class PollGpu(msgspec.Struct, frozen=True):
    """See whether there is enough VRAM. Answered by GpuPolled."""


class Evict(msgspec.Struct, frozen=True):
    """Give these jobs back to the queue, and take no others until somebody wants the model."""

    job_ids: frozenset[str]


class Dismiss(msgspec.Struct, frozen=True):
    """Tell these jobs that there will be no model for them."""

    job_ids: frozenset[str]
    reason: str


class StepBack(msgspec.Struct, frozen=True):
    """Give these jobs back to the queue: engines are ended from outside here, again and again."""

    job_ids: frozenset[str]
    reason: str


Task = StartLoad | EndEngine | PollGpu
Effect = Task | Evict | Dismiss | StepBack
