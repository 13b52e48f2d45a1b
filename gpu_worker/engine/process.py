"""The worker's side of the engine process: start it, exchange frames with it, and make sure that it ends."""

import asyncio
import logging
import os
from collections import deque
from collections.abc import AsyncIterator

import msgspec

from gpu_worker.blame import in_words
from gpu_worker.engine.failure import EngineFailure, FailureKind, death_in_words, kind_of_death
from gpu_worker.engine.protocol import (
    LENGTH,
    Abort,
    AnyReply,
    LastReply,
    Load,
    Loaded,
    LoadFailed,
    Transcribe,
    body_length,
    frame,
    reply_decoder,
)
from process import child_process

log = logging.getLogger(__name__)

STDERR_LINES = 30
"""How many of the last lines on stderr are kept for the report of a failure."""
DEATH_SECS = 2.0
"""How long an exit status may take after the pipe is closed."""
ENGINE_ENV = ("PATH", "HOME", "LANG", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "TMPDIR")
ENGINE_ENV_PREFIXES = ("CUDA_", "NVIDIA_", "GGML_", "OMP_")
"""The environment variables that the engine inherits: it needs no credentials."""


class EngineProcess:
    """One engine process. After an EngineFailure it is gone, and a new one must be started."""

    def __init__(self, process: asyncio.subprocess.Process, stall_secs: float) -> None:
        self._process, self._stall_secs = process, stall_secs
        self._stderr: deque[str] = deque(maxlen=STDERR_LINES)
        self._listening = asyncio.create_task(self._listen(), name="engine stderr")
        self._call = 0
        self._busy = False

    @classmethod
    async def start(cls, command: list[str], stall_secs: float) -> "EngineProcess":
        """Run `command` (spawned, never forked: CUDA must not be touched before). Raises EngineFailure.

        Cancelled, it leaves no process.
        """
        env = {k: v for k, v in os.environ.items() if k in ENGINE_ENV or k.startswith(ENGINE_ENV_PREFIXES)}
        # NVML numbers GPUs by their bus id. With the same order here, both mean the same GPU.
        env.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        try:
            pipe = asyncio.subprocess.PIPE
            process = await child_process.start(command, stdin=pipe, stdout=pipe, stderr=pipe, env=env)
        except OSError as error:
            detail = f"{command[0]} cannot be run: {in_words(error)}"
            raise EngineFailure(FailureKind.NOT_STARTED, detail, []) from error
        return cls(process, stall_secs)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process has not ended yet."""
        return self._process.returncode is None

    @property
    def last_words(self) -> list[str]:
        """The last lines that the engine has written to stderr, oldest first."""
        return list(self._stderr)

    async def ended(self) -> None:
        """Wait until the process has ended and its stderr is read to the end."""
        await self._process.wait()
        await asyncio.shield(self._listening)

    def death(self) -> str:
        """Return how the process has ended, as a sentence."""
        return death_in_words(self._process.returncode)

    async def condemn(self, reason: str) -> EngineFailure:
        """End an engine that must not be used any more, and return the failure for the caller to raise."""
        return await self._failure(FailureKind.CRASHED, reason)

    async def load(self, load: Load, timeout_secs: float) -> Loaded:
        """Load the model and warm up, within `timeout_secs`. Raises EngineFailure."""
        await self._send(frame(load))
        match await self._receive(timeout_secs):
            case Loaded() as loaded:
                return loaded
            case LoadFailed(reason=reason):
                raise await self._failure(FailureKind.LOAD_FAILED, reason)
            case other:
                raise await self._failure(FailureKind.PROTOCOL, f"{type(other).__name__} in answer to Load")

    async def transcribe(self, job: Transcribe) -> AsyncIterator[AnyReply]:
        """Yield the replies of the engine; the last is a LastReply. Raises EngineFailure.

        `call` of `job` is filled in here. A caller that stops iterating before the end must call `give_up`. There may be
        one call at a time.
        """
        if self._busy and self.alive:
            raise RuntimeError("the engine is in a call already")
        self._call += 1
        self._busy = True
        await self._send(frame(msgspec.structs.replace(job, call=self._call)))
        while True:
            reply = await self._receive(self._stall_secs)
            self._busy = not isinstance(reply, LastReply)
            yield reply
            if not self._busy:
                return

    async def abort(self) -> None:
        """Ask the engine to give up the current call."""
        await self._send(frame(Abort(call=self._call)))

    async def give_up(self, grace_secs: float) -> None:
        """End a call whose replies nobody reads any more: by an abort, and after `grace_secs` by killing the engine."""
        if not (self._busy and self.alive):
            return
        try:
            await self.abort()
            async with asyncio.timeout(grace_secs):
                while not isinstance(await self._receive(grace_secs), LastReply):
                    pass
            self._busy = False
        except (TimeoutError, EngineFailure) as error:
            log.warning("engine %d did not give up its call (%s): killing it", self.pid, error)
            self.kill()
            await self._process.wait()

    async def stop(self, grace_secs: float = 2.0) -> None:
        """End the process by closing its pipe, and after `grace_secs` by killing it. Idempotent."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(grace_secs):
                await self._process.wait()
        except TimeoutError:
            log.debug("engine %d did not end by itself: killing it", self.pid)
        finally:
            # Here, so that the process ends also where the caller is cancelled.
            self.kill()
        await self._process.wait()
        await self._listening

    def kill(self) -> None:
        """Send SIGKILL where the process still runs."""
        if self.alive:
            self._process.kill()

    async def _send(self, data: bytes) -> None:
        stdin = self._process.stdin
        if stdin is None:
            raise RuntimeError("the engine was started without a pipe")
        try:
            stdin.write(data)
            await stdin.drain()
        except (OSError, RuntimeError) as error:
            # uvloop raises RuntimeError for a pipe that is closed already.
            raise await self._died() from error

    async def _receive(self, timeout_secs: float) -> AnyReply:
        stdout = self._process.stdout
        if stdout is None:
            raise RuntimeError("the engine was started without a pipe")
        try:
            async with asyncio.timeout(timeout_secs):
                header = await stdout.readexactly(LENGTH.size)
                body = await stdout.readexactly(body_length(header))
            reply: AnyReply = reply_decoder.decode(body)
        except asyncio.IncompleteReadError as error:
            raise await self._died() from error
        except TimeoutError as error:
            detail = f"the engine said nothing for {timeout_secs:.0f} s"
            raise await self._failure(FailureKind.STALLED, detail) from error
        except (ValueError, msgspec.DecodeError) as error:
            raise await self._failure(
                FailureKind.PROTOCOL, f"the engine speaks gibberish: {error}"
            ) from error
        return reply

    async def _died(self) -> EngineFailure:
        """Return the failure of an engine whose pipe is closed.

        Its exit status follows at once, unless it hangs while it ends.
        """
        try:
            async with asyncio.timeout(DEATH_SECS):
                await self._process.wait()
        except TimeoutError:
            log.warning("engine %d closed its pipe and lives on: killing it", self.pid)
        return await self._failure(kind_of_death(self._process.returncode), self.death())

    async def _failure(self, kind: FailureKind, detail: str) -> EngineFailure:
        self.kill()
        await self._process.wait()
        await self._listening
        return EngineFailure(kind, detail, list(self._stderr))

    async def _listen(self) -> None:
        """Keep the last lines of stderr. Reads in blocks, because a line of any length must not stop the reading."""
        stderr, rest = self._process.stderr, b""
        while stderr is not None and (block := await stderr.read(65536)):
            *lines, rest = (rest + block)[-65536:].split(b"\n")
            for line in lines:
                text = line.decode("utf-8", "replace").rstrip()
                if text:
                    self._stderr.append(text)
                    log.debug("engine: %s", text)
        if rest:
            self._stderr.append(rest.decode("utf-8", "replace").rstrip())
