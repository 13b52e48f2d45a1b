"""The model: not loaded, being loaded, or in an engine process that is ready. Interprets what the worker asks of it.

One lock makes N concurrent load requests one load, and keeps an unload from happening under a job.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from gpu_worker.engine.process import EngineFailure, EngineProcess
from gpu_worker.engine.protocol import Load
from gpu_worker.model_file import BadModelFile, check
from gpu_worker.settings import WorkerSettings
from schemas.model import ModelState, ModelStatus

log = logging.getLogger(__name__)


class ModelUnavailable(Exception):
    """The model cannot be loaded; the sentence says why."""


class ModelBusy(Exception):
    """A job is running."""


class Model:
    def __init__(self, settings: WorkerSettings, changed: Callable[[], Awaitable[None]]) -> None:
        """`changed` is awaited after each change of state, to tell others."""
        self._settings, self._changed = settings, changed
        self._lock = asyncio.Lock()
        self._engine: EngineProcess | None = None
        self._in_use = False
        self._state, self._since = ModelState.UNLOADED, datetime.now(UTC)
        self._backend: str | None = None
        self._load_secs: float | None = None
        self._error: str | None = None

    def status(self) -> ModelStatus:
        return ModelStatus(
            state=self._state,
            since=self._since,
            model=self._settings.whisper_model,
            path=str(self._settings.model_path()),
            backend=self._backend,
            load_secs=self._load_secs,
            error=self._error,
            worker_id=self._settings.name(),
        )

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[EngineProcess]:
        """A loaded engine for one job. If it is dead afterwards, the model is unloaded.

        Raises ModelUnavailable, and EngineFailure from the body, which must come out of it.
        """
        engine = await self.load()
        self._in_use = True
        try:
            yield engine
        finally:
            await engine.give_up(self._settings.abort_grace_secs)
            self._in_use = False
            if not engine.alive:
                await self._drop()

    async def load(self) -> EngineProcess:
        """Load unless it is loaded. Raises ModelUnavailable."""
        async with self._lock:
            if self._engine is not None and self._engine.alive:
                return self._engine
            self._engine = None
            await self._enter(ModelState.LOADING)
            try:
                self._engine = await self._start()
            except (BadModelFile, EngineFailure) as error:
                await self._enter(ModelState.ERROR, error=_words(error))
                raise ModelUnavailable(_words(error)) from error
            except asyncio.CancelledError:
                await self._enter(ModelState.UNLOADED)
                raise
            await self._enter(ModelState.READY)
            return self._engine

    async def unload(self) -> None:
        """End the engine process; nothing to end is fine. Raises ModelBusy during a job."""
        if self._in_use:
            raise ModelBusy
        async with self._lock:
            if self._engine is None:
                return
            await self._enter(ModelState.UNLOADING)
            await self._engine.stop()
            await self._drop()

    async def close(self) -> None:
        """End the engine whatever it is doing: the worker is stopping."""
        if self._engine is not None:
            await self._engine.stop(grace_secs=1.0)
            self._engine = None

    async def _start(self) -> EngineProcess:
        settings = self._settings
        await asyncio.to_thread(check, settings.model_path())
        engine = await EngineProcess.start(settings.command(), settings.engine_stall_secs)
        load = Load(
            model_path=str(settings.model_path()),
            threads=settings.threads(),
            beam_size=settings.widest_beam(),
            use_gpu=settings.whisper_use_gpu,
            flash_attn=settings.whisper_flash_attn,
        )
        try:
            loaded = await engine.load(load, settings.engine_load_timeout_secs)
        except BaseException:
            await engine.stop(grace_secs=0.0)
            raise
        log.info(
            "model %s is ready on %s after %.2f s", settings.whisper_model, loaded.backend, loaded.load_secs
        )
        self._backend, self._load_secs = loaded.backend, loaded.load_secs
        return engine

    async def _drop(self) -> None:
        self._engine = None
        await self._enter(ModelState.UNLOADED)

    async def _enter(self, state: ModelState, error: str | None = None) -> None:
        self._state, self._since, self._error = state, datetime.now(UTC), error
        if state is not ModelState.READY:
            self._backend = None
        await self._changed()


def _words(error: BadModelFile | EngineFailure) -> str:
    if isinstance(error, BadModelFile):
        return str(error)
    return "; ".join([f"The engine could not load the model: {error.detail}", *error.stderr[-3:]])
