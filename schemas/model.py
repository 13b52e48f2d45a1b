"""What is published about the model and about the worker that has it."""

import msgspec

from schemas.enums import Told
from schemas.jobs import VERSION, Timestamp
from schemas.limits import Count, Label, Name, Seconds, Text, Token, clipped


class ModelState(Told):
    """Where the model is in its life."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    WAITING_FOR_GPU = "waiting_for_gpu"
    """There is not enough free VRAM. The worker looks again every GPU_POLL_INTERVAL_SECS."""
    READY = "ready"
    UNLOADING = "unloading"
    ERROR = "error"
    """It cannot be loaded, and would fail again. A job or a request tries once more."""
    OFFLINE = "offline"
    """No worker is alive. Only gateways report this state."""
    UNKNOWN = "unknown"
    """A state of a later version."""


class GpuStatus(msgspec.Struct, kw_only=True, frozen=True):
    """One GPU, by NVML. Sizes are bytes."""

    name: Name
    driver: Name
    vram_total: Count
    vram_used: Count
    vram_free: Count
    temperature: int | None = None
    """Degrees Celsius; None where NVML does not say."""


class Vram(msgspec.Struct, kw_only=True, frozen=True):
    """The GPU's memory, in bytes."""

    total: Count
    used: Count
    free: Count
    used_by_model: Count | None
    """What our engine process holds; None where NVML does not show processes, as inside containers."""
    needed: Count
    """What a load needs: as measured at the last load, or before the first one as estimated from the model file."""


class UnloadReport(msgspec.Struct, kw_only=True, frozen=True):
    """The GPU's memory in use right before and right after the last unload, in bytes; None without an NVIDIA driver."""

    at: Timestamp
    vram_used_before: int | None
    vram_used_after: int | None


class ModelStatus(msgspec.Struct, kw_only=True, frozen=True):
    """The model of one worker at one moment."""

    v: int = VERSION
    state: ModelState
    since: Timestamp | None = None
    """When it has come into this state."""
    reason: str | None = None
    """Why it is in `error`, or what it waits for."""
    worker_id: Token | None = None
    model: Name | None = None
    path: Name | None = None
    backend: Name | None = None
    """The device that the engine computes on: the name of a CUDA device, or `cpu`. None while no engine is ready."""
    load_secs: Seconds | None = None
    """How long the last load took, with the warm-up."""
    retry_at: Timestamp | None = None
    """When the worker looks at the GPU again; in `waiting_for_gpu` only."""
    retry_interval_secs: Seconds | None = None
    idle_secs_left: Seconds | None = None
    """Seconds until it is unloaded; None while it is needed, or where it is never unloaded."""
    holds_off: bool = False
    """It was unloaded by force: the worker takes no job until somebody asks for a load or submits a job."""
    job_id: Token | None = None
    """Id of the job that runs on it."""
    vram: Vram | None = None
    """None without an NVIDIA driver."""
    last_unload: UnloadReport | None = None

    def __post_init__(self) -> None:
        """Clip the reason, which may be an engine's output of any length."""
        if self.reason is not None:
            msgspec.structs.force_setattr(self, "reason", clipped(self.reason))


class UnloadRequest(msgspec.Struct, kw_only=True, frozen=True):
    """The body of a request on `whisper.model.unload`; an empty body is an empty object."""

    force: bool = False
    """Put running and waiting jobs back into the queue; they go on after the next load."""


def event_name(state: ModelState) -> str:
    """Return the type of the event for a state: the last token of its subject, and its name over SSE."""
    return f"model_{state}"


class ModelEvent(msgspec.Struct, kw_only=True, frozen=True):
    """The model has come into another state: a message on `whisper.events.model.<worker_id>.<type>`."""

    v: int = VERSION
    type: Label
    """Made by `event_name`."""
    worker_id: Token
    at: Timestamp
    model: ModelStatus


class Speed(msgspec.Struct, kw_only=True, frozen=True):
    """Weighted means over a worker's last jobs."""

    real_time_factor: Seconds
    """Seconds on the engine per second of audio."""
    audio_secs: Seconds
    """Seconds of audio per job."""


class WorkerStatus(msgspec.Struct, kw_only=True, frozen=True):
    """The value of a worker's key in WHISPER_WORKERS, renewed every few seconds; a dead worker's key expires."""

    v: int = VERSION
    worker_id: Token
    at: Timestamp
    model: ModelStatus
    job_id: Token | None = None
    """Id of the job on the engine."""
    speed: Speed | None = None
    """None before its first job."""
    gpu: GpuStatus | None = None
    """None where there is no NVIDIA driver."""
    trouble: Text | None = None
    """Why this worker takes no jobs: its disk is full, the decoder cannot start, its engines are killed. It probes by itself."""


class Room(msgspec.Struct, kw_only=True, frozen=True):
    """How full a bucket is, in bytes."""

    used: int
    limit: int | None
    """None where the bucket has no limit of its own."""


class StorageStatus(msgspec.Struct, kw_only=True, frozen=True):
    """The room for audio, in bytes."""

    audio_used: int
    audio_limit: int | None
    """AUDIO_MAX_BYTES; None where the bucket has no limit of its own."""
    full: bool
    """Uploads are refused (`storage_full`) until jobs have ended or somebody has made room."""


class Health(msgspec.Struct, kw_only=True, frozen=True):
    """The answer to GET /health."""

    status: str
    """`ok`, or `degraded`: then `reasons` say why."""
    reasons: list[str] = []
    """One sentence each: the broker cannot be reached, no worker is alive, no model can be loaded, the store is full, ..."""
    broker: str
    """`ok`, or `unreachable`."""
    storage: StorageStatus | None = None
    """None without a broker."""
    model_state: ModelState
    """State of the worker that is nearest to working; `offline` where none is alive."""
    queue_depth: int | None
    """Number of jobs that have not ended, running jobs included; None without a broker."""
    dead_letters: int | None = None
    """Submissions and webhook deliveries that were given up: `whisper-jetstream dead list`."""
    gpu: GpuStatus | None
    """The GPU of the same worker."""
    workers: list[WorkerStatus]


class Liveness(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """The answer to GET /health/live and /health/ready."""

    status: str
    instance_id: str | None = None
    """INSTANCE_ID of this gateway, where it was given one."""
