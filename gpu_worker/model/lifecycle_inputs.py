"""Inputs and effects of the model's state machine (gpu_worker/model/lifecycle.py). Pure.

An input is something that has happened to the model in this process. It is never published: what is published on
`whisper.events.model.>` is schemas.model.ModelEvent. A `job_id` here is any string that tells the jobs in the worker's hands
apart; the worker uses the key of the delivery, because the same job may be delivered twice.
"""

import msgspec


class LoadAsked(msgspec.Struct, frozen=True):
    """Somebody wants the model to be ready. Idempotent."""


class UnloadAsked(msgspec.Struct, frozen=True):
    """Somebody wants the GPU. With `force` the jobs in hand are given back; without it they prevent the unload."""

    force: bool = False


class JobArrived(msgspec.Struct, frozen=True):
    """A job has come into the worker's hands. Idempotent."""

    job_id: str


class JobStarted(msgspec.Struct, frozen=True):
    """A waiting job takes the engine."""

    job_id: str


class JobLeft(msgspec.Struct, frozen=True):
    """A job is finished with the engine, or gives up waiting. Has no effect for a job that is not here."""

    job_id: str


class LoadSucceeded(msgspec.Struct, frozen=True):
    """StartLoad has ended well."""


class LoadFailed(msgspec.Struct, frozen=True):
    """StartLoad has failed in a way that would repeat itself, such as a damaged model file."""

    reason: str


class OutOfMemory(msgspec.Struct, frozen=True):
    """StartLoad has found too little VRAM. Its engine process has ended."""

    reason: str


class EngineDied(msgspec.Struct, frozen=True):
    """An engine process has ended without EndEngine."""

    reason: str
    out_of_memory: bool = False


class EngineEnded(msgspec.Struct, frozen=True):
    """EndEngine is done."""


class GpuPolled(msgspec.Struct, frozen=True):
    """PollGpu is done."""

    lack: str | None
    """The sentence that says how much VRAM is missing; None where a load has a chance."""


class TimePassed(msgspec.Struct, frozen=True):
    """The deadline that `lifecycle.deadline` has named has come."""


Input = (
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
    """Start an engine and load the model. Answered by LoadSucceeded, LoadFailed, OutOfMemory or EngineDied."""


class EndEngine(msgspec.Struct, frozen=True):
    """End the engine, also one that is still loading. Answered by EngineEnded."""


class PollGpu(msgspec.Struct, frozen=True):
    """Look whether there is enough VRAM. Answered by GpuPolled."""


class Evict(msgspec.Struct, frozen=True):
    """Give these jobs back to the queue, and pull no others until somebody wants the model."""

    job_ids: frozenset[str]


class Dismiss(msgspec.Struct, frozen=True):
    """Fail these jobs: the model cannot be loaded."""

    job_ids: frozenset[str]
    reason: str


class StepBack(msgspec.Struct, frozen=True):
    """Give these jobs back to the queue and stop pulling for a while: engines keep being killed from outside."""

    job_ids: frozenset[str]
    reason: str


EngineTask = StartLoad | EndEngine | PollGpu
"""Effects that take time and are answered by an input."""
Effect = EngineTask | Evict | Dismiss | StepBack
