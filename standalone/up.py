"""`whisper-jetstream up`: the whole system in one process tree, until Ctrl-C or until one file is transcribed."""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeAlias

import httpx
import msgspec
from rich.markup import escape

from gpu_worker.model_names import name_of
from process.exit_status import INTERRUPTED
from process.listening import url_of
from standalone import data_dir, nats_server, ports, supervisor
from standalone.client import GatewayClient
from standalone.data_dir import DataDir
from standalone.errors import StartError
from standalone.settings import StandaloneSettings
from standalone.supervisor import Child, Group
from standalone.terminal import screen, show, transcribe

log = logging.getLogger(__name__)

UP_TIMEOUT_SECS = 60.0
"""How long the gateway may take to be ready."""
POLL_SECS, POLL_TIMEOUT_SECS = 0.1, 3.0
CTRL_C_STOP_SECS = 1.4
"""Grace after Ctrl-C, short because a person waits. Nothing is lost by the kill after it: a running job resumes later."""


class Claim(msgspec.Struct, kw_only=True, frozen=True):
    """What an `up` must have before it starts anything."""

    settings: StandaloneSettings
    data_dir: DataDir
    listening: socket.socket
    nats_port: int

    @property
    def url(self) -> str:
        """URL of the gateway."""
        return url_of(self.listening)


@contextlib.contextmanager
def claimed(settings: StandaloneSettings) -> Iterator[Claim]:
    """Take DATA_DIR and the ports while the block runs. Raises StartError."""
    with (
        data_dir.locked(Path(settings.data_dir)) as mine,
        ports.listen(settings.host, settings.port) as listening,
    ):
        yield Claim(
            settings=settings,
            data_dir=mine,
            listening=listening,
            nats_port=ports.nats_port(settings.nats_port),
        )


Work: TypeAlias = Callable[[GatewayClient], Awaitable[int]]
"""Work that is done with a running system. It returns the exit status."""


async def up(claim: Claim, model_path: Path, work: Work | None = None) -> int:
    """Run the whole system until `work` is done or a signal comes, and return the exit status.

    Raises StartError, and what `work` raises.
    """
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    async with Group.opened() as group:

        def on_signal(stop_secs: float) -> None:
            """End everything: in order at the first signal, at once at the second."""
            if stop.is_set():
                group.kill()
            group.stop_secs = stop_secs
            stop.set()

        loop.add_signal_handler(signal.SIGINT, on_signal, CTRL_C_STOP_SECS)
        loop.add_signal_handler(signal.SIGTERM, on_signal, group.stop_secs)
        running = asyncio.create_task(_run(group, claim, model_path, work))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                return running.result()
            screen.print("stopping")
            return INTERRUPTED if work else 0
        finally:
            running.cancel()
            stopping.cancel()
            await asyncio.gather(running, stopping, return_exceptions=True)


async def _run(group: Group, claim: Claim, model_path: Path, work: Work | None) -> int:
    async with supervisor.nats(group, claim.data_dir, claim.nats_port) as nats_url:
        claim.data_dir.tell(nats_url)
        if claim.settings.nats_port is None and claim.nats_port == nats_server.ANY_PORT:
            screen.print(f"port {nats_server.DEFAULT_PORT} is taken: nats-server listens at {nats_url}")
        instance = uuid.uuid4().hex
        tasks: list[asyncio.Task[None] | asyncio.Task[int]] = [
            asyncio.create_task(supervisor.keep_running(group, child), name=child.name)
            for child in children(claim, nats_url, model_path, instance)
        ]
        tasks.append(asyncio.create_task(_without_watchdog(group)))
        tasks.append(
            asyncio.create_task(_when_up(claim, instance, work or partial(_announce, claim, nats_url)))
        )
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return max(task.result() or 0 for task in done)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def children(claim: Claim, nats_url: str, model_path: Path, instance: str) -> list[Child]:
    """Return how to start the worker and the gateway. `instance` names the gateway in its probes."""
    settings, fd = claim.settings, claim.listening.fileno()
    common = {"NATS_URL": nats_url, "LOG_LEVEL": settings.log_level}
    worker = {**common, "WHISPER_MODEL": name_of(model_path), "WHISPER_MODEL_PATH": str(model_path)}
    gateway = {**common, "LISTEN_FD": str(fd), "INSTANCE_ID": instance}
    python = [sys.executable, "-m"]
    return [
        Child(name="gpu_worker", command=[*python, "gpu_worker"], env=worker),
        Child(name="gateway", command=[*python, "gateway"], env=gateway, inherits=(fd,)),
    ]


async def _without_watchdog(group: Group) -> None:
    await group.lost()
    raise StartError("the watchdog has ended: without it a killed `up` would leave its processes behind")


async def _when_up(claim: Claim, instance: str, work: Work) -> int:
    await wait_until_up(claim.url, instance)
    return await work(GatewayClient(claim.url, direct=True))


async def wait_until_up(url: str, instance: str) -> None:
    """Wait until our gateway can take jobs. The answer of another gateway does not count. Raises StartError."""
    async with httpx.AsyncClient(base_url=url, timeout=POLL_TIMEOUT_SECS, trust_env=False) as http:
        try:
            async with asyncio.timeout(UP_TIMEOUT_SECS):
                while not await _is_ready(http, instance):  # noqa: ASYNC110 - another process sets no event of ours
                    await asyncio.sleep(POLL_SECS)
        except TimeoutError as error:
            raise StartError(
                f"the gateway is not ready after {UP_TIMEOUT_SECS:g} s; its log says why"
            ) from error


async def _is_ready(http: httpx.AsyncClient, instance: str) -> bool:
    try:
        answer = await http.get("/health/ready")
        return answer.is_success and answer.json().get("instance_id") == instance
    except (httpx.TransportError, ValueError):
        return False


async def _announce(claim: Claim, nats_url: str, _client: GatewayClient) -> int:
    screen.print(
        f"whisper-jetstream is up: [bold]{escape(claim.url)}[/bold] (API at /docs), NATS at {nats_url}, "
        f"model {escape(claim.settings.model_name())}. Ctrl-C stops it."
    )
    await asyncio.Event().wait()
    raise StartError("unreachable: the wait above has no end")


async def transcribe_one(audio: Path, fields: dict[str, str], client: GatewayClient) -> int:
    """Transcribe a file, print its text, and return the exit status. Raises ClientError."""
    return show(await client.in_thread(partial(transcribe, client, audio, fields)))
