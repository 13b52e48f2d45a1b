"""The worker's side of the engine process: start it, talk to it, and be sure that it ends."""

import asyncio
import logging
import os
from collections import deque
from collections.abc import AsyncIterator
from enum import StrEnum

import msgspec

from gpu_worker.blame import CANNOT_START, Failure, Fault, in_words, was_sent_away
from gpu_worker.engine.protocol import (
    LENGTH,
    Abort,
    Aborted,
    AnyReply,
    Finished,
    Load,
    Loaded,
    LoadFailed,
    Rejected,
    Transcribe,
    body_length,
    frame,
    reply_decoder,
)
from process import child_process

log = logging.getLogger(__name__)

LAST_REPLIES = (Finished, Aborted, Rejected)
"""What ends a call."""

STDERR_LINES = 30
"""So many of the engine's last words are kept for a failure's report."""
ENGINE_ENV = ("PATH", "HOME", "LANG", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "TMPDIR")
ENGINE_ENV_PREFIXES = ("CUDA_", "NVIDIA_", "GGML_", "OMP_")
"""What the engine inherits: it needs no credentials."""


class FailureKind(StrEnum):
    LOAD_FAILED = "load_failed"
    CRASHED = "crashed"
    KILLED = "killed"
    """By somebody else, or by the kernel: that says nothing about the engine or the job."""
    NOT_STARTED = "not_started"
    """There is no such program, or a library of it is missing."""
    STALLED = "stalled"
    PROTOCOL = "protocol"


class EngineFailure(Failure):
    """The engine is dead, and this is why."""

    def __init__(self, kind: FailureKind, detail: str, stderr: list[str]) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail, self.stderr = kind, detail, stderr
        is_machines = kind in (FailureKind.KILLED, FailureKind.NOT_STARTED)
        self.fault = Fault.MACHINE if is_machines else Fault.FILE


class EngineProcess:
    """One engine process. After an EngineFailure it is gone and a new one must be started."""

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
        env.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # as NVML counts, so that both mean the same GPU
        try:
            pipe = asyncio.subprocess.PIPE
            process = await child_process.start(command, stdin=pipe, stdout=pipe, stderr=pipe, env=env)
        except OSError as error:
            detail = f"{command[0]} cannot be run: {in_words(error)}"
            raise EngineFailure(FailureKind.NOT_STARTED, detail, []) from error
        return cls(process, stall_secs)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.returncode is None

    @property
    def last_words(self) -> list[str]:
        """The last lines that it has written to stderr."""
        return list(self._stderr)

    async def ended(self) -> None:
        """Wait for the end of the process, and for its last words."""
        await self._process.wait()
        await asyncio.shield(self._listening)

    def death(self) -> str:
        """How it ended, in words."""
        code = self._process.returncode
        if code is None:
            return "the engine closed its pipe"
        return (
            f"the engine was ended by signal {-code}" if code < 0 else f"the engine exited with status {code}"
        )

    async def condemn(self, reason: str) -> EngineFailure:
        """End an engine that must not be used any more; the failure to raise."""
        return await self._failure(FailureKind.CRASHED, reason)

    async def load(self, load: Load, timeout_secs: float) -> Loaded:
        """Load and warm up. Raises EngineFailure."""
        await self._send(frame(load))
        match await self._receive(timeout_secs):
            case Loaded() as loaded:
                return loaded
            case LoadFailed(reason=reason):
                raise await self._failure(FailureKind.LOAD_FAILED, reason)
            case other:
                raise await self._failure(FailureKind.PROTOCOL, f"{type(other).__name__} in answer to Load")

    async def transcribe(self, job: Transcribe) -> AsyncIterator[AnyReply]:
        """Yield what the engine says, the last being Finished, Aborted or Rejected. Raises EngineFailure.

        `call` of `job` is filled in here. Whoever stops iterating before the end must call `give_up`; one call at a time.
        """
        if self._busy:
            raise RuntimeError("the engine is in a call already")
        self._call += 1
        self._busy = True
        await self._send(frame(msgspec.structs.replace(job, call=self._call)))
        while True:
            reply = await self._receive(self._stall_secs)
            self._busy = not isinstance(reply, LAST_REPLIES)
            yield reply
            if not self._busy:
                return

    async def abort(self) -> None:
        """Ask the engine to give up the current call."""
        await self._send(frame(Abort(call=self._call)))

    async def give_up(self, grace_secs: float) -> None:
        """Bring a call that nobody listens to any more to its end, by force after `grace_secs`."""
        if not (self._busy and self.alive):
            return
        try:
            await self.abort()
            async with asyncio.timeout(grace_secs):
                while not isinstance(await self._receive(grace_secs), LAST_REPLIES):
                    pass
            self._busy = False
        except (TimeoutError, EngineFailure) as error:
            log.warning("engine %d did not give up its call (%s): killing it", self.pid, error)
            self.kill()
            await self._process.wait()

    async def stop(self, grace_secs: float = 2.0) -> None:
        """End the process: politely, and after `grace_secs` by force. Idempotent."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(grace_secs):
                await self._process.wait()
        except TimeoutError:
            log.debug("engine %d did not end by itself: killing it", self.pid)
        finally:
            self.kill()  # also where the caller is cancelled
        await self._process.wait()
        await self._listening

    def kill(self) -> None:
        if self.alive:
            self._process.kill()

    async def _send(self, data: bytes) -> None:
        stdin = self._process.stdin
        if stdin is None:
            raise RuntimeError("the engine was started without a pipe")
        try:
            stdin.write(data)
            await stdin.drain()
        except (
            OSError,
            RuntimeError,
        ) as error:  # uvloop raises RuntimeError for a pipe that is closed already
            await self._wait_for_death()
            raise await self._failure(self._kind_of_death(), self.death()) from error

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
            await self._wait_for_death()
            raise await self._failure(self._kind_of_death(), self.death()) from error
        except TimeoutError as error:
            detail = f"the engine said nothing for {timeout_secs:.0f} s"
            raise await self._failure(FailureKind.STALLED, detail) from error
        except (ValueError, msgspec.DecodeError) as error:
            raise await self._failure(
                FailureKind.PROTOCOL, f"the engine speaks gibberish: {error}"
            ) from error
        return reply

    def _kind_of_death(self) -> FailureKind:
        status = self._process.returncode
        if status is None:
            return FailureKind.CRASHED
        if status in CANNOT_START:
            return FailureKind.NOT_STARTED
        return FailureKind.KILLED if was_sent_away(status) else FailureKind.CRASHED

    async def _wait_for_death(self) -> None:
        """stdout is closed: the exit status follows at once, unless the engine hangs in its own end."""
        try:
            async with asyncio.timeout(2):
                await self._process.wait()
        except TimeoutError:
            log.warning("engine %d closed its pipe and lives on: killing it", self.pid)

    async def _failure(self, kind: FailureKind, detail: str) -> EngineFailure:
        self.kill()
        await self._process.wait()
        await self._listening
        return EngineFailure(kind, detail, list(self._stderr))

    async def _listen(self) -> None:
        """Keep the engine's last words. Reads in blocks: a line of any length must not stop it."""
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
