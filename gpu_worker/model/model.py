"""The model as this worker has it: carries out what gpu_worker/model/lifecycle.py decides, and reports back to it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from gpu_worker.engine.library import find_library
from gpu_worker.engine.process import EngineFailure, EngineProcess
from gpu_worker.gate import Gate
from gpu_worker.model import lifecycle as lifecycle
from gpu_worker.model import lifecycle_inputs as happens
from gpu_worker.model.gpu import Gpu
from gpu_worker.model.loading import CannotLoad, Loader, LoadInterrupted, OutOfVram
from gpu_worker.settings import WorkerSettings
from schemas.model import GpuStatus, ModelState, ModelStatus, UnloadReport

log = logging.getLogger(__name__)


class ModelUnavailable(Exception):
    """The model cannot be loaded; the sentence says why."""


class Stopped(Exception):
    """The job gave up because it was asked to: it is cancelled, or the GPU is wanted back."""


class Seat:
    """The place of a job in hand in the line for the model."""

    def __init__(self, job_id: str, stop: asyncio.Event) -> None:
        self.job_id, self.stop, self.evicted = job_id, stop, False
        self.load_secs = 0.0
        """How long the job has waited for a load."""
        self.refused: str | None = None


class Model:
    def __init__(
        self,
        settings: WorkerSettings,
        gpu: Gpu,
        tell: Callable[[ModelStatus], None],
        in_trouble: Callable[[str], None],
    ) -> None:
        """`tell` is called at each change of state, in order; `in_trouble` where this machine's engines keep dying."""
        self._settings, self._tell, self._in_trouble = settings, tell, in_trouble
        self._policy = lifecycle.LifecyclePolicy(
            idle_timeout_secs=settings.idle_timeout_secs,
            gpu_poll_interval_secs=settings.gpu_poll_interval_secs,
        )
        self._library = find_library(settings.engine)
        self._loader = Loader(settings, self._library, gpu)
        self._life, self._since = lifecycle.Lifecycle(), datetime.now(UTC)
        self._effects: asyncio.Queue[happens.Task] = asyncio.Queue(16)
        """The state machine asks for a load, an unload and a few looks at the GPU at the most."""
        self._changed = asyncio.Event()
        self._engine: EngineProcess | None = None
        self._loading: asyncio.Task[None] | None = None
        self._seats: dict[str, Seat] = {}
        """By the keys of the deliveries in hand: a job may be here twice."""
        self._backend: str | None = None
        self._load_secs: float | None = None
        self._last_unload: UnloadReport | None = None
        self.gate = Gate()
        """Closed by an eviction: no job is to be pulled until somebody wants the model again."""

    async def run(self) -> None:
        """Load, unload, watch and wait as it is asked, until cancelled; then `close` must follow."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_time(), name="model timer")
            while True:
                match await self._effects.get():
                    case happens.StartLoad():
                        self._loading = tasks.create_task(self._load(), name="load")
                    case happens.EndEngine():
                        tasks.create_task(self._end(), name="unload")
                    case happens.PollGpu():
                        tasks.create_task(self._poll(), name="look at the GPU")

    async def close(self) -> None:
        """End the engine whatever it is doing: the worker is stopping, and `run` is over."""
        if self._engine is not None:
            await self._engine.stop(grace_secs=1.0)
            self._engine = None

    def load(self) -> None:
        """Ask for the model; what becomes of it is told."""
        self.gate.open()
        self._apply(happens.LoadAsked())

    def unload(self, force: bool) -> None:
        """Ask for the GPU. Raises JobInTheWay."""
        self._apply(happens.UnloadAsked(force))

    def job_arrived(self, key: str, job_id: str, stop: asyncio.Event) -> None:
        """A job is at hand and will want the engine. `stop` is set, by us too, when it is to give up."""
        self._seats[key] = Seat(job_id, stop)
        self._apply(happens.JobArrived(key))

    def job_left(self, key: str) -> None:
        """Idempotent."""
        self._seats.pop(key, None)
        self._apply(happens.JobLeft(key))

    def stop_job(self, job_id: str) -> None:
        """Make a job give up, whether it waits or runs."""
        for seat in self._seats.values():
            if seat.job_id == job_id:
                seat.stop.set()
        self._wake()

    @asynccontextmanager
    async def engine(self, key: str) -> AsyncIterator[EngineProcess]:
        """The engine, for one job that has arrived, when it is ready and free.

        Raises ModelUnavailable; Stopped where the job is to give up; OutOfVram where the engine died of that, the job
        may then ask again; EngineFailure where it died of something else.
        """
        engine = await self._turn(key)
        try:
            yield engine
        except EngineFailure as failure:
            if (line := self._library.out_of_memory([failure.detail, *failure.stderr])) is not None:
                raise OutOfVram(line) from failure
            raise
        finally:
            await engine.give_up(self._settings.abort_grace_secs)
            if not engine.alive:
                self._died(engine)
            if self._life.running == key:
                self._apply(happens.JobLeft(key))

    def load_secs_of(self, key: str) -> float:
        """How long this job has waited for a load."""
        return self._seats[key].load_secs

    def is_evicted(self, key: str) -> bool:
        return self._seats[key].evicted

    @property
    def gpu(self) -> GpuStatus | None:
        return self._loader.gpu

    async def status(self) -> ModelStatus:
        """With the GPU as it is now."""
        await self._loader.look()
        return self.snapshot()

    def snapshot(self) -> ModelStatus:
        """With the GPU as it was last seen."""
        life, settings, now = self._life, self._settings, _now()
        is_ready = life.state is ModelState.READY
        due = lifecycle.deadline(life, self._policy)
        running = self._seats.get(life.running) if life.running else None
        return ModelStatus(
            state=life.state,
            since=self._since,
            reason=life.reason,
            worker_id=settings.name(),
            model=settings.whisper_model,
            path=str(settings.model_path()),
            backend=self._backend if is_ready else None,
            load_secs=self._load_secs,
            retry_at=datetime.now(UTC) + timedelta(seconds=life.retry_at - now) if life.retry_at else None,
            retry_interval_secs=settings.gpu_poll_interval_secs,
            idle_secs_left=round(max(0.0, due - now), 1) if is_ready and due is not None else None,
            holds_off=not self.gate.is_open,
            job_id=running.job_id if running else None,
            vram=self._loader.vram(),
            last_unload=self._last_unload,
        )

    async def _turn(self, key: str) -> EngineProcess:
        seat = self._seats[key]
        while True:
            if seat.stop.is_set():
                raise Stopped
            if seat.refused is not None:
                raise ModelUnavailable(seat.refused)
            if self._engine is not None and self._life.state is ModelState.READY and not self._life.running:
                if self._engine.alive:
                    self._apply(happens.JobStarted(key))
                    return self._engine
                self._died(self._engine)
            else:
                is_loading, since = self._life.state is ModelState.LOADING, _now()
                await self._changed.wait()
                seat.load_secs += _now() - since if is_loading else 0.0

    def _apply(self, event: happens.Event) -> None:
        before = self._life.state
        self._life, effects = lifecycle.step(self._life, event, _now(), self._policy)
        for effect in effects:
            self._carry_out(effect)
        if self._life.state is not before:
            self._since = datetime.now(UTC)
            log.info("model: %s -> %s %s", before, self._life.state, self._life.reason or "")
            self._tell(self.snapshot())
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _carry_out(self, effect: happens.Effect) -> None:
        match effect:
            case happens.Evict(job_ids):
                self.gate.close()
                for seat in self._seats_of(job_ids):
                    seat.evicted = True
                    seat.stop.set()
            case happens.Dismiss(job_ids, reason):
                for seat in self._seats_of(job_ids):
                    seat.refused = reason
            case happens.StepBack(job_ids, reason):
                for seat in self._seats_of(job_ids):
                    seat.evicted = True
                    seat.stop.set()
                self._in_trouble(reason)
            case happens.StartLoad() | happens.EndEngine() | happens.PollGpu():
                self._effects.put_nowait(effect)

    def _seats_of(self, keys: frozenset[str]) -> list[Seat]:
        return [self._seats[key] for key in keys]

    async def _load(self) -> None:
        """Load, then watch the engine to its end."""
        try:
            loaded = await self._loader.load()
        except CannotLoad as error:
            self._apply(happens.LoadFailed(str(error)))
            return
        except OutOfVram as error:
            self._apply(happens.OutOfMemory(str(error)))
            return
        except LoadInterrupted as error:
            self._apply(happens.EngineDied(str(error)))
            return
        self._engine, self._backend, self._load_secs = loaded.engine, loaded.backend, loaded.load_secs
        self._apply(happens.LoadSucceeded())
        await loaded.engine.ended()
        if self._life.running is None:  # a job that uses the engine sees its death by itself
            self._died(loaded.engine)

    def _died(self, engine: EngineProcess) -> None:
        """Report the death, once, of an engine that was not ended by us."""
        if self._engine is not engine or self._life.state is ModelState.UNLOADING:
            return
        self._engine = None
        self._loader.engine_is_gone()
        line = self._library.out_of_memory(engine.last_words)
        self._apply(happens.EngineDied(line or engine.death(), out_of_memory=line is not None))

    async def _end(self) -> None:
        before = await self._loader.look()
        if self._loading is not None:  # loading, or watching
            self._loading.cancel()
            await asyncio.wait([self._loading])
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.stop()
        self._loader.engine_is_gone()
        after = await self._loader.look()
        self._last_unload = UnloadReport(
            at=datetime.now(UTC),
            vram_used_before=before.vram_used if before else None,
            vram_used_after=after.vram_used if after else None,
        )
        self._apply(happens.EngineEnded())

    async def _poll(self) -> None:
        self._apply(happens.GpuPolled(await self._loader.lack()))

    async def _keep_time(self) -> None:
        while True:
            changed, due = self._changed, lifecycle.deadline(self._life, self._policy)
            try:
                async with asyncio.timeout(None if due is None else max(0.0, due - _now())):
                    await changed.wait()
            except TimeoutError:
                self._apply(happens.TimePassed())


def _now() -> float:
    return asyncio.get_running_loop().time()
