"""One load of the model: check its file, look for free VRAM, start the engine, measure the VRAM that it has taken."""

import asyncio
import logging

import msgspec

from gpu_worker.blame import Fault
from gpu_worker.engine.failure import EngineFailure
from gpu_worker.engine.library import BadModelFile, EngineLibrary
from gpu_worker.engine.process import EngineProcess
from gpu_worker.engine.protocol import Load
from gpu_worker.model import vram
from gpu_worker.model.gpu import Gpu
from gpu_worker.settings import WorkerSettings
from schemas.model import GpuStatus, Vram

log = logging.getLogger(__name__)

CPU = "cpu"
"""The backend that needs no VRAM (Loaded.backend)."""


class CannotLoad(Exception):
    """The load has failed in a way that would repeat itself; the sentence says why."""


class LoadInterrupted(Exception):
    """The engine was killed from outside while it loaded, or could not be started; the sentence says which."""


class OutOfVram(Exception):
    """There is too little VRAM at the moment; the sentence says how much is missing."""


class LoadedModel(msgspec.Struct, kw_only=True, frozen=True):
    """A successful load."""

    engine: EngineProcess
    backend: str
    load_secs: float


class Loader:
    """Loads the model, and remembers the GPU as it was last seen."""

    def __init__(self, settings: WorkerSettings, library: EngineLibrary, gpu: Gpu) -> None:
        self._settings, self._library, self._gpu = settings, library, gpu
        self._seen: GpuStatus | None = None
        self._needed = 0
        self._measured = False
        self._pid: int | None = None
        self._used_by_model: int | None = None

    async def load(self) -> LoadedModel:
        """Load the model. Raises CannotLoad, LoadInterrupted, OutOfVram.

        A caller that is cancelled meanwhile has no engine to end, because it is ended here.
        """
        settings, begun = self._settings, asyncio.get_running_loop().time()
        try:
            needed = await asyncio.to_thread(
                self._library.required_vram, settings.model_path(), settings.widest_beam()
            )
        except BadModelFile as error:
            raise CannotLoad(str(error)) from error
        if not self._measured:
            self._needed = needed
        if (lack := await self.lack()) is not None:
            raise OutOfVram(lack)
        before = self._seen
        try:
            engine = await EngineProcess.start(settings.command(), settings.engine_stall_secs)
            loaded = await self._fill(engine)
        except EngineFailure as failure:
            raise self._why(failure) from failure
        try:
            self._pid = engine.pid
            await self.look()
        except BaseException:
            await _end(engine)
            raise
        self._measure(before, loaded)
        secs = round(asyncio.get_running_loop().time() - begun, 3)
        log.info("model %s is ready on %s after %.2f s", settings.model_name(), loaded, secs)
        return LoadedModel(engine=engine, backend=loaded, load_secs=secs)

    async def lack(self) -> str | None:
        """Return the sentence that says why a load would be hopeless now; None where it has a chance."""
        if not self._settings.whisper_use_gpu:
            return None
        seen = await self.look()
        return vram.lack(seen.vram_free if seen else None, self._needed)

    async def look(self) -> GpuStatus | None:
        """Ask NVML for the GPU as it is now; None where there is none."""
        self._seen = await asyncio.to_thread(self._gpu.status)
        if self._pid is not None:
            self._used_by_model = await asyncio.to_thread(self._gpu.used_by, self._pid)
        return self._seen

    def engine_is_gone(self) -> None:
        """Forget the engine's share of the VRAM."""
        self._pid = self._used_by_model = None

    @property
    def gpu(self) -> GpuStatus | None:
        """The GPU as it was last seen."""
        return self._seen

    def vram(self) -> Vram | None:
        """Return the VRAM as it was last seen, in bytes; None without a GPU."""
        if (seen := self._seen) is None:
            return None
        return Vram(
            total=seen.vram_total,
            used=seen.vram_used,
            free=seen.vram_free,
            used_by_model=self._used_by_model,
            needed=self._needed,
        )

    async def _fill(self, engine: EngineProcess) -> str:
        """Load the model into a fresh engine, and return the backend. Raises EngineFailure, OutOfVram."""
        settings = self._settings
        order = Load(
            model_path=str(settings.model_path()),
            threads=settings.threads(),
            beam_size=settings.widest_beam(),
            use_gpu=settings.whisper_use_gpu,
            flash_attn=settings.whisper_flash_attn,
        )
        try:
            loaded = await engine.load(order, settings.engine_load_timeout_secs)
            # Where CUDA finds no memory for itself, ggml falls back to the CPU, and this line is the only sign of it.
            line = (
                self._library.out_of_memory(engine.last_words)
                if loaded.backend == CPU and self._seen
                else None
            )
            if line is not None:
                raise OutOfVram(f"CUDA could not be started: {line}")
        except BaseException:
            await _end(engine)
            raise
        return loaded.backend

    def _measure(self, before: GpuStatus | None, backend: str) -> None:
        if backend == CPU:
            self._needed, self._measured = 0, True
        elif self._used_by_model:
            self._needed, self._measured = self._used_by_model, True
        elif before is not None and self._seen is not None and self._seen.vram_used > before.vram_used:
            # Other programs may have changed their share meanwhile, so the figure is capped at the size of the GPU.
            taken = self._seen.vram_used - before.vram_used
            self._needed, self._measured = min(taken, self._seen.vram_total), True

    def _why(self, failure: EngineFailure) -> CannotLoad | LoadInterrupted | OutOfVram:
        if (line := self._library.out_of_memory([failure.detail, *failure.stderr])) is not None:
            return OutOfVram(f"There was not enough VRAM: {line}")
        if failure.fault is Fault.MACHINE:
            return LoadInterrupted(f"The engine could not be started: {failure.detail}")
        last_words = "; ".join(
            [f"The engine could not load the model: {failure.detail}", *failure.stderr[-3:]]
        )
        return CannotLoad(last_words)


async def _end(engine: EngineProcess) -> None:
    """End an engine at once. The kill comes first, because the caller may be cancelled a second time."""
    engine.kill()
    await engine.stop()
