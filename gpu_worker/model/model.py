"""The model as this worker has it: carries out what gpu_worker/model/lifecycle.py decides, and reports back to it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from gpu_worker.engine.failure import EngineFailure
from gpu_worker.engine.library import find_library
from gpu_worker.engine.process import EngineProcess
from gpu_worker.gate import Gate
from gpu_worker.model import lifecycle
from gpu_worker.model import lifecycle_inputs as inputs
from gpu_worker.model.gpu import Gpu
from gpu_worker.model.lifecycle_state import Lifecycle, LifecyclePolicy
from gpu_worker.model.loading import CannotLoad, Loader, LoadInterrupted, OutOfVram
from gpu_worker.model.report import StatusReport
from gpu_worker.model.seats import Seats
from gpu_worker.settings import WorkerSettings
from schemas.model import GpuStatus, ModelState, ModelStatus, UnloadReport

log = logging.getLogger(__name__)

MAX_EFFECTS = 16
"""The state machine asks for one load, one unload and a few looks at the GPU at the most before it hears of one."""


class ModelUnavailable(Exception):
    """The model cannot be loaded; the sentence says why."""


class Stopped(Exception):
    """The job gave up because it was asked to: it is cancelled, or the GPU is wanted back."""


class Model:
    """The one model of a worker: its engine process, and the jobs that want it."""

    def __init__(
        self,
        settings: WorkerSettings,
        gpu: Gpu,
        on_change: Callable[[ModelStatus], None],
        on_trouble: Callable[[str], None],
    ) -> None:
        """`on_change` is called with each new state, in order; `on_trouble` where engines keep dying on this machine."""
        self._settings, self._on_change, self._on_trouble = settings, on_change, on_trouble
        self._policy = LifecyclePolicy(
            idle_timeout_secs=settings.idle_timeout_secs,
            gpu_poll_interval_secs=settings.gpu_poll_interval_secs,
        )
        self._library = find_library(settings.engine)
        self._loader = Loader(settings, self._library, gpu)
        self._life, self._report = Lifecycle(), StatusReport(settings, self._policy)
        self._tasks: asyncio.Queue[inputs.EngineTask] = asyncio.Queue(MAX_EFFECTS)
        self._changed = asyncio.Event()
        self._engine: EngineProcess | None = None
        self._loading: asyncio.Task[None] | None = None
        self._seats = Seats()
        self.gate = Gate()
        """Closed by an eviction: no job is pulled until somebody wants the model again."""

    async def run(self) -> None:
        """Carry out loads, unloads and looks at the GPU until cancelled. Afterwards the caller must call `close`."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_time(), name="model timer")
            while True:
                match await self._tasks.get():
                    case inputs.StartLoad():
                        self._loading = tasks.create_task(self._load(), name="load")
                    case inputs.EndEngine():
                        tasks.create_task(self._end(), name="unload")
                    case inputs.PollGpu():
                        tasks.create_task(self._poll(), name="look at the GPU")

    async def close(self) -> None:
        """End the engine whatever it does. Call it when `run` has ended, because the worker stops."""
        if self._engine is not None:
            await self._engine.stop(grace_secs=1.0)
            self._engine = None

    def load(self) -> None:
        """Ask for the model. What becomes of it is reported by `on_change`."""
        self.gate.open()
        self._apply(inputs.LoadAsked())

    def unload(self, force: bool) -> None:
        """Ask for the GPU to be given back; with `force` also from under a job. Raises JobInTheWay."""
        self._apply(inputs.UnloadAsked(force))

    def job_arrived(self, key: str, job_id: str, stop: asyncio.Event) -> None:
        """Announce a job that will want the engine. `stop` is set here too, when the job must give up."""
        self._seats.add(key, job_id, stop)
        self._apply(inputs.JobArrived(key))

    def job_left(self, key: str) -> None:
        """Say that a job needs the engine no more. Idempotent."""
        self._seats.remove(key)
        self._apply(inputs.JobLeft(key))

    def stop_job(self, job_id: str) -> None:
        """Make a job give up, whether it waits or runs."""
        self._seats.stop(job_id)
        self._wake()

    @asynccontextmanager
    async def engine(self, key: str) -> AsyncIterator[EngineProcess]:
        """Lend the engine to one job that has arrived, as soon as it is ready and free.

        Raises ModelUnavailable; Stopped where the job must give up; OutOfVram where the engine has died of a lack of VRAM,
        after which the job may ask again; EngineFailure where the engine has died of anything else.
        """
        engine = await self._wait_for_engine(key)
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
                self._apply(inputs.JobLeft(key))

    def load_secs_of(self, key: str) -> float:
        """Return the seconds that this job has waited for a load."""
        return self._seats[key].load_secs

    def is_evicted(self, key: str) -> bool:
        """Whether this job had to give up for the sake of the GPU, and not because it was cancelled."""
        return self._seats[key].is_evicted

    @property
    def gpu(self) -> GpuStatus | None:
        """The GPU as it was last seen; None without a driver."""
        return self._loader.gpu

    async def status(self) -> ModelStatus:
        """Return the status with the GPU as it is now."""
        await self._loader.look()
        return self.snapshot()

    def snapshot(self) -> ModelStatus:
        """Return the status with the GPU as it was last seen."""
        return self._report.build(
            self._life,
            _now(),
            holds_off=not self.gate.is_open,
            job_id=self._seats.job_of(self._life.running),
            vram=self._loader.vram(),
        )

    async def _wait_for_engine(self, key: str) -> EngineProcess:
        seat = self._seats[key]
        while True:
            if seat.stop.is_set():
                raise Stopped
            if seat.refusal is not None:
                raise ModelUnavailable(seat.refusal)
            if self._engine is not None and self._life.state is ModelState.READY and not self._life.running:
                if self._engine.alive:
                    self._apply(inputs.JobStarted(key))
                    return self._engine
                self._died(self._engine)
            else:
                is_loading, since = self._life.state is ModelState.LOADING, _now()
                await self._changed.wait()
                seat.load_secs += _now() - since if is_loading else 0.0

    def _apply(self, given: inputs.Input) -> None:
        before = self._life.state
        self._life, effects = lifecycle.step(self._life, given, _now(), self._policy)
        for effect in effects:
            self._carry_out(effect)
        if self._life.state is not before:
            self._report.since = datetime.now(UTC)
            log.info("model: %s -> %s %s", before, self._life.state, self._life.reason or "")
            self._on_change(self.snapshot())
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _carry_out(self, effect: inputs.Effect) -> None:
        match effect:
            case inputs.Evict(job_ids):
                self.gate.close()
                self._seats.evict(job_ids)
            case inputs.Dismiss(job_ids, reason):
                self._seats.refuse(job_ids, reason)
            case inputs.StepBack(job_ids, reason):
                self._seats.evict(job_ids)
                self._on_trouble(reason)
            case inputs.StartLoad() | inputs.EndEngine() | inputs.PollGpu():
                self._tasks.put_nowait(effect)

    async def _load(self) -> None:
        """Load the model, then watch its engine until it ends."""
        try:
            loaded = await self._loader.load()
        except CannotLoad as error:
            self._apply(inputs.LoadFailed(str(error)))
            return
        except OutOfVram as error:
            self._apply(inputs.OutOfMemory(str(error)))
            return
        except LoadInterrupted as error:
            self._apply(inputs.EngineDied(str(error)))
            return
        self._engine = loaded.engine
        self._report.backend, self._report.load_secs = loaded.backend, loaded.load_secs
        self._apply(inputs.LoadSucceeded())
        await loaded.engine.ended()
        # A job that uses the engine sees its death by itself.
        if self._life.running is None:
            self._died(loaded.engine)

    def _died(self, engine: EngineProcess) -> None:
        """Report the death of an engine that we have not ended. Reports it once."""
        if self._engine is not engine or self._life.state is ModelState.UNLOADING:
            return
        self._engine = None
        self._loader.engine_is_gone()
        line = self._library.out_of_memory(engine.last_words)
        self._apply(inputs.EngineDied(line or engine.death(), out_of_memory=line is not None))

    async def _end(self) -> None:
        before = await self._loader.look()
        # This task either loads the model or watches the loaded engine.
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading])
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.stop()
        self._loader.engine_is_gone()
        after = await self._loader.look()
        self._report.last_unload = UnloadReport(
            at=datetime.now(UTC),
            vram_used_before=before.vram_used if before else None,
            vram_used_after=after.vram_used if after else None,
        )
        self._apply(inputs.EngineEnded())

    async def _poll(self) -> None:
        self._apply(inputs.GpuPolled(await self._loader.lack()))

    async def _keep_time(self) -> None:
        while True:
            changed, due = self._changed, lifecycle.deadline(self._life, self._policy)
            try:
                async with asyncio.timeout(None if due is None else max(0.0, due - _now())):
                    await changed.wait()
            except TimeoutError:
                self._apply(inputs.TimePassed())


def _now() -> float:
    return asyncio.get_running_loop().time()
