"""Runs nats-server, gpu_worker and gateway as children of one process: starts them, restarts dead ones, stops all."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

import msgspec

from process.exit_status import CANNOT_START
from standalone import nats_server
from standalone.data_dir import DataDir
from standalone.errors import StartError
from standalone.full_disk import restart_when_there_is_room
from standalone.restarts import Backoff, death_in_words

log = logging.getLogger(__name__)

NATS_START_SECS = 60.0
"""How long a server may take to listen. A large store is slow to read; a server that cannot start ends at once."""
STOP_SECS, SHARE_OF_NATS = 7.0, 0.25
"""Grace of the gateway and the worker, and the share of it that nats-server has, which is stopped last.

Together they stay below the 10 s that Docker gives a container."""
WATCHDOG_SECS = 5.0
"""How long the watchdog may take to end."""

Alongside: TypeAlias = Callable[[asyncio.subprocess.Process], Awaitable[None]]
"""Work that is done while a child lives."""


class Child(msgspec.Struct, kw_only=True, frozen=True):
    """How to start one child."""

    name: str
    command: list[str]
    env: dict[str, str] = {}
    """Variables besides those of this process."""
    inherits: tuple[int, ...] = ()
    """Our file descriptors that the child inherits."""


class Group:
    """The process group of all children, so that Ctrl-C reaches the supervisor alone.

    Its leader is the watchdog, which ends the others when this process is gone.
    """

    def __init__(self, watchdog: asyncio.subprocess.Process) -> None:
        self._watchdog = watchdog
        self.stop_secs = STOP_SECS
        """Seconds that the gateway and the worker have to end in order, before they are killed."""

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls) -> AsyncIterator["Group"]:
        """Have a group while the block runs."""
        command = [sys.executable, "-m", "standalone.watchdog"]
        watchdog = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.PIPE, process_group=0
        )
        try:
            yield cls(watchdog)
        finally:
            if watchdog.stdin is not None:
                watchdog.stdin.close()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCHDOG_SECS):
                    await watchdog.wait()

    async def start(self, child: Child) -> asyncio.subprocess.Process:
        """Start a child in the group."""
        return await asyncio.create_subprocess_exec(
            *child.command,
            env={**os.environ, **child.env},
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=child.inherits,
            process_group=self._watchdog.pid,
        )

    def kill(self) -> None:
        """Kill all children and the watchdog."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._watchdog.pid, signal.SIGKILL)

    async def lost(self) -> None:
        """Wait until the watchdog is gone: then nothing would end the children, and none can be started."""
        await self._watchdog.wait()


async def _stop(process: asyncio.subprocess.Process, grace_secs: float) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(grace_secs):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _end_of(process: asyncio.subprocess.Process, alongside: Alongside | None) -> int:
    """Wait for the end of a process, with work while it lives, and return its exit status."""
    if alongside is None:
        return await process.wait()
    doing = asyncio.ensure_future(alongside(process))
    try:
        return await process.wait()
    finally:
        doing.cancel()
        await asyncio.wait([doing])


async def keep_running(group: Group, child: Child, alongside: Alongside | None = None) -> None:
    """Run a child until cancelled, and restart it with a backoff whenever it dies.

    Raises StartError for a child that cannot run with its settings. `alongside` runs during each of its lives.
    """
    backoff = Backoff()
    while True:
        begun = time.monotonic()
        process = await group.start(child)
        try:
            status = await _end_of(process, alongside)
        finally:
            await _stop(process, group.stop_secs)
        if status == CANNOT_START:
            raise StartError(f"{child.name} cannot run with these settings")
        delay = backoff.after_death(time.monotonic() - begun)
        log.error("%s; starting it again in %.1f s", death_in_words(child.name, status), delay)
        await asyncio.sleep(delay)


@contextlib.asynccontextmanager
async def nats(group: Group, data_dir: DataDir, port: int) -> AsyncIterator[str]:
    """Keep the embedded nats-server running while the block runs, and yield its URL. Raises StartError."""
    data_dir.ports.mkdir(parents=True, exist_ok=True)
    # Files of killed servers are removed, because process ids are reused.
    for old in data_dir.ports.glob("*.ports"):
        old.unlink(missing_ok=True)
    said_before = _size(data_dir.log)
    process = await group.start(nats_child(data_dir, port))
    try:
        url = await _listening(process, data_dir, said_before)
        # A server that dies later is restarted on the port that it has now.
        again = nats_child(data_dir, int(url.rsplit(":", 1)[1]))
        mending = partial(restart_when_there_is_room, log_file=data_dir.log, store=data_dir.store)
        watching = asyncio.create_task(_watch(group, process, again, mending), name="nats-server")
        try:
            yield url
        finally:
            watching.cancel()
            await asyncio.wait([watching])
    finally:
        await _stop(process, group.stop_secs * SHARE_OF_NATS)


def nats_child(data_dir: DataDir, port: int) -> Child:
    """Return how to start nats-server. It inherits the lock of the data folder."""
    command = nats_server.command(port, data_dir.store, data_dir.ports)
    return Child(
        name="nats-server",
        command=[*command, "--log", str(data_dir.log)],
        inherits=(data_dir.lock,),
    )


async def _watch(
    group: Group, process: asyncio.subprocess.Process, again: Child, alongside: Alongside
) -> None:
    status = await _end_of(process, alongside)
    log.error("%s; starting it again", death_in_words(again.name, status))
    await keep_running(group, again, alongside)


async def _listening(process: asyncio.subprocess.Process, data_dir: DataDir, said_before: int) -> str:
    """Wait until nats-server listens, and return its URL. It writes a file then, which is the only sign."""
    deadline = time.monotonic() + NATS_START_SECS
    while (url := nats_server.url(data_dir.ports, process.pid)) is None:
        if process.returncode is not None or time.monotonic() > deadline:
            reason = await asyncio.to_thread(_last_line, data_dir.log, said_before)
            raise StartError(f"nats-server did not start: {reason}")
        await asyncio.sleep(0.01)
    return url


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _last_line(path: Path, offset: int) -> str:
    said = path.read_bytes()[offset:].decode(errors="replace").strip() if path.exists() else ""
    return said.rsplit("\n", 1)[-1] or "it said nothing"
