"""nats-server, gpu_worker and gateway as children of one process: started, restarted when they die, stopped together."""

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from standalone import nats_server
from standalone.restarts import Backoff, death_in_words
from standalone.settings import StandaloneSettings

log = logging.getLogger(__name__)

STOP_GRACE_SECS = 10.0
NATS_START_SECS = 10.0
USAGE_ERROR = 2
"""A child that exits with this was started wrongly; starting it again would not help."""


class StartError(Exception):
    """The system cannot start; the sentence says why."""


class Child(msgspec.Struct, kw_only=True, frozen=True):
    name: str
    command: list[str]
    env: dict[str, str]


async def _start(child: Child) -> asyncio.subprocess.Process:
    """In a process group of its own: Ctrl-C goes to the supervisor, which stops the others in order."""
    return await asyncio.create_subprocess_exec(
        *child.command,
        env={**os.environ, **child.env},
        stdin=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_GRACE_SECS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def keep_running(child: Child) -> None:
    """Run the child until cancelled; start it again whenever it dies, with backoff. Raises StartError."""
    backoff = Backoff()
    while True:
        begun = time.monotonic()
        process = await _start(child)
        try:
            status = await process.wait()
        finally:
            await _stop(process)
        if status == USAGE_ERROR:
            raise StartError(f"{child.name} cannot run with these settings")
        delay = backoff.after_death(time.monotonic() - begun)
        log.error("%s; starting it again in %.1f s", death_in_words(child.name, status), delay)
        await asyncio.sleep(delay)


@contextlib.asynccontextmanager
async def nats(settings: StandaloneSettings) -> AsyncIterator[str]:
    """The embedded nats-server, kept running; its URL. Raises StartError."""
    store, ports = Path(settings.data_dir) / "jetstream", Path(settings.data_dir) / "ports"
    ports.mkdir(parents=True, exist_ok=True)
    command = nats_server.command(settings.nats_port, store, ports)
    log_file = Path(settings.data_dir) / "nats-server.log"
    command += ["--log", str(log_file)]
    child = Child(name="nats-server", command=command, env={})
    process = await _start(child)
    try:
        url = await _listening(process, ports, log_file)
        # A server that dies later comes back on the port that it has now.
        again = [*nats_server.command(int(url.rsplit(":", 1)[1]), store, ports), "--log", str(log_file)]
        watching = asyncio.create_task(_watch(process, Child(name=child.name, command=again, env={})))
        try:
            yield url
        finally:
            watching.cancel()
            await asyncio.wait([watching])
    finally:
        await _stop(process)


async def _watch(process: asyncio.subprocess.Process, again: Child) -> None:
    status = await process.wait()
    log.error("%s; starting it again", death_in_words(again.name, status))
    await keep_running(again)


async def _listening(process: asyncio.subprocess.Process, ports: Path, log_file: Path) -> str:
    """Wait until it listens. It writes a file then; no other event tells."""
    deadline = time.monotonic() + NATS_START_SECS
    while (url := nats_server.url(ports, process.pid)) is None:
        if process.returncode is not None or time.monotonic() > deadline:
            reason = await asyncio.to_thread(_last_line, log_file)
            raise StartError(f"nats-server did not start (is another one running?): {reason}")
        await asyncio.sleep(0.01)
    return url


def _last_line(path: Path) -> str:
    return path.read_text(errors="replace").strip().rsplit("\n", 1)[-1] if path.exists() else "no log"


def children(settings: StandaloneSettings, nats_url: str, model_path: Path) -> list[Child]:
    common = {"NATS_URL": nats_url, "LOG_LEVEL": settings.log_level}
    worker = {**common, "WHISPER_MODEL": settings.whisper_model, "WHISPER_MODEL_PATH": str(model_path)}
    gateway = {**common, "HOST": settings.host, "PORT": str(settings.port)}
    return [
        Child(name="gpu_worker", command=[sys.executable, "-m", "gpu_worker"], env=worker),
        Child(name="gateway", command=[sys.executable, "-m", "gateway"], env=gateway),
    ]
