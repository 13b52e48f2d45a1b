"""What is told about the model and the worker that holds it."""

from enum import StrEnum

import msgspec

from schemas.jobs import VERSION, Timestamp


class ModelState(StrEnum):
    UNLOADED = "unloaded"
    LOADING = "loading"
    READY = "ready"
    UNLOADING = "unloading"
    ERROR = "error"


class GpuStatus(msgspec.Struct, kw_only=True, frozen=True):
    """One GPU as NVML tells it. Bytes."""

    name: str
    driver: str
    vram_total: int
    vram_used: int
    vram_free: int


class ModelStatus(msgspec.Struct, kw_only=True, frozen=True):
    v: int = VERSION
    state: ModelState
    since: Timestamp
    model: str
    path: str
    backend: str | None = None
    """What the engine says that it computes on: a CUDA device's name, or `cpu`. None while no engine runs."""
    load_secs: float | None = None
    error: str | None = None
    worker_id: str


class WorkerStatus(msgspec.Struct, kw_only=True, frozen=True):
    """The value of a worker's key in WHISPER_WORKERS, renewed every few seconds; a dead worker's key expires."""

    v: int = VERSION
    worker_id: str
    at: Timestamp
    model: ModelStatus
    job_id: str | None = None
    """The job on the engine."""
    gpu: GpuStatus | None = None
    """None where there is no NVIDIA driver."""


class Health(msgspec.Struct, kw_only=True, frozen=True):
    """The answer to GET /health."""

    status: str
    """`ok`, or `degraded` where no worker is alive."""
    model_state: str
    """The first worker's; `offline` where none is alive."""
    queue_depth: int
    """Jobs that are stored and not yet ended, the running ones included."""
    workers: list[WorkerStatus]
