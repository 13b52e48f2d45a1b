"""The published status of the model, from its state and from what is remembered besides."""

from datetime import UTC, datetime, timedelta

from gpu_worker.model import lifecycle
from gpu_worker.model.lifecycle_state import Lifecycle, LifecyclePolicy
from gpu_worker.settings import WorkerSettings
from schemas.model import ModelState, ModelStatus, UnloadReport, Vram


class StatusReport:
    """Remembers what the state machine need not know, and builds the status."""

    def __init__(self, settings: WorkerSettings, policy: LifecyclePolicy) -> None:
        self._settings, self._policy = settings, policy
        self.since = datetime.now(UTC)
        """When the model has come into its state."""
        self.backend: str | None = None
        self.load_secs: float | None = None
        """Seconds of the last load, with the warm-up."""
        self.last_unload: UnloadReport | None = None

    def build(
        self, life: Lifecycle, now: float, *, holds_off: bool, job_id: str | None, vram: Vram | None
    ) -> ModelStatus:
        """Return the status at `now`, on the clock of the state machine."""
        settings = self._settings
        is_ready = life.state is ModelState.READY
        due = lifecycle.deadline(life, self._policy)
        return ModelStatus(
            state=life.state,
            since=self.since,
            reason=life.reason,
            worker_id=settings.name(),
            model=settings.model_name(),
            path=str(settings.model_path()),
            backend=self.backend if is_ready else None,
            load_secs=self.load_secs,
            retry_at=datetime.now(UTC) + timedelta(seconds=life.retry_at - now) if life.retry_at else None,
            retry_interval_secs=settings.gpu_poll_interval_secs,
            idle_secs_left=round(max(0.0, due - now), 1) if is_ready and due is not None else None,
            holds_off=holds_off,
            job_id=job_id,
            vram=vram,
            last_unload=self.last_unload,
        )
