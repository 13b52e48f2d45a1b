"""`whisper-jetstream up`: the whole system in one process tree, until Ctrl-C or until one file is transcribed."""

import asyncio
import logging
import os
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

from schemas.settings import from_environment
from standalone import models, supervisor
from standalone.client import GatewayClient
from standalone.settings import StandaloneSettings
from standalone.supervisor import StartError
from standalone.terminal import Download, screen, show, transcribe

log = logging.getLogger(__name__)

UP_TIMEOUT_SECS = 30.0
POLL_SECS = 0.1


def settings_for(model: str | None) -> StandaloneSettings:
    """The environment's settings, with the model named on the command line. Raises SettingsError."""
    environment = dict(os.environ)
    if model:
        environment |= {"WHISPER_MODEL": model, "WHISPER_MODEL_PATH": ""}
    return from_environment(StandaloneSettings, environment)


def find_model(settings: StandaloneSettings, named: bool) -> Path:
    """The model's file; only one that is asked for by name is downloaded. Raises ModelError."""
    folder, name = Path(settings.models_dir), settings.whisper_model
    path = Path(settings.whisper_model_path) if settings.whisper_model_path else models.path_of(name, folder)
    if path.exists():
        return path.absolute()
    if not named:
        raise models.ModelError(models.missing_sentence(name, path))
    with Download(name) as download:
        return models.fetch(name, folder, settings.model_base_url, download.report).absolute()


Work: TypeAlias = Callable[[GatewayClient], Awaitable[int]]
"""What is done with a system that is up; gives the exit status."""


async def up(settings: StandaloneSettings, model_path: Path, work: Work | None = None) -> int:
    """Run everything, until `work` is done or for ever; the exit status. Raises StartError and what `work` raises."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for sig in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(sig, stop.set)
    async with supervisor.nats(settings) as nats_url:
        running = [
            asyncio.create_task(supervisor.keep_running(child), name=child.name)
            for child in supervisor.children(settings, nats_url, model_path)
        ]
        waiting: list[asyncio.Task[int]] = [
            asyncio.create_task(_until(stop)),
            asyncio.create_task(_when_up(settings, work or partial(_announce, settings, nats_url))),
        ]
        try:
            done, _ = await asyncio.wait([*running, *waiting], return_when=asyncio.FIRST_COMPLETED)
            return max(task.result() or 0 for task in done)
        finally:
            for task in [*running, *waiting]:
                task.cancel()
            await asyncio.gather(*running, *waiting, return_exceptions=True)


async def _until(stop: asyncio.Event) -> int:
    await stop.wait()
    screen.print("stopping")
    return 0


async def _wait_until_up(client: GatewayClient, settings: StandaloneSettings) -> None:
    """Ask again and again, from here and not in one thread: it must end at once with a Ctrl-C. Raises StartError."""
    try:
        async with asyncio.timeout(UP_TIMEOUT_SECS):
            while not await asyncio.to_thread(client.is_ready):  # noqa: ASYNC110 - another process sets no event of ours
                await asyncio.sleep(POLL_SECS)
    except TimeoutError as error:
        raise StartError(f"no gateway answers at {settings.url()}; is its port taken?") from error


async def _when_up(settings: StandaloneSettings, work: Work) -> int:
    client = GatewayClient(settings.url())
    await _wait_until_up(client, settings)
    return await work(client)


async def _announce(settings: StandaloneSettings, nats_url: str, _client: GatewayClient) -> int:
    screen.print(
        f"whisper-jetstream is up: [bold]{settings.url()}[/bold] (API at /docs), NATS at {nats_url}, "
        f"model {settings.whisper_model}. Ctrl-C stops it."
    )
    await asyncio.Event().wait()
    raise StartError("unreachable: the wait above has no end")


async def transcribe_one(audio: Path, fields: dict[str, str], client: GatewayClient) -> int:
    """Transcribe a file and print it; the exit status. Raises ClientError."""
    job = await asyncio.to_thread(transcribe, client, audio, fields)
    return show(job)
