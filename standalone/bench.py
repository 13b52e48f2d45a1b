"""`whisper-jetstream bench`: how fast the model is on this machine, and how much time the service adds.

The engine process is measured alone, and then the same file goes through a system of its own on free ports.
"""

import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from gpu_worker.audio.decoding import decode
from gpu_worker.audio.stretches import Stretch, length
from gpu_worker.engine.failure import EngineFailure
from gpu_worker.engine.process import EngineProcess
from gpu_worker.engine.protocol import Finished, Load, Rejected, Transcribe
from gpu_worker.job.preparing import find_portions
from gpu_worker.pcm import SAMPLE_RATE
from gpu_worker.settings import WorkerSettings
from schemas.languages import AUTO
from schemas.options import TranscribeOptions
from schemas.settings import from_environment
from standalone.bench_report import EngineFigures, Report, ServiceFigures
from standalone.client import ClientError, GatewayClient
from standalone.settings import StandaloneSettings
from standalone.terminal import screen
from standalone.up import claimed, up

BEAM, GREEDY = 5, 1
"""The two beam sizes that are measured."""


class Audio(msgspec.Struct, kw_only=True, frozen=True):
    """A file that is decoded and planned."""

    pcm: Path
    """A file of samples (gpu_worker/pcm.py)."""
    samples: int
    stretches: list[Stretch]

    @property
    def secs(self) -> float:
        """Length in seconds."""
        return self.samples / SAMPLE_RATE


async def measure(
    settings: StandaloneSettings, model_path: Path, path: Path, running: GatewayClient, rounds: int
) -> Report:
    """Measure a file, `rounds` times each. Raises ClientError, StartError, DecodeError, EngineFailure.

    `running` is the service that may hold the GPU now, and has to hand it back.
    """
    if await asyncio.to_thread(running.hand_back_gpu):
        screen.print("the running service has handed back the GPU; its next job loads the model again")
    environment = {
        **os.environ,
        "WHISPER_MODEL": settings.model_name(),
        "WHISPER_MODEL_PATH": str(model_path),
    }
    worker = from_environment(WorkerSettings, environment)
    with tempfile.TemporaryDirectory(prefix="whisper-bench-") as name:
        folder = Path(name)
        audio = await _prepare(path, folder, worker)
        figures, backend = list[EngineFigures](), ""
        for flash_attn in (True, False):
            found, backend_found = await _measure_engine(worker, audio, rounds, flash_attn)
            figures, backend = figures + found, backend_found or backend
        alone = next(f for f in figures if f.flash_attn == worker.whisper_flash_attn and f.beam_size == BEAM)
        if alone.failure is not None:
            raise ClientError(f"the model cannot be loaded: {alone.failure}")
        service = await _measure_service(settings, model_path, path, folder, rounds, alone.secs)
    return Report(
        audio=path.name,
        audio_secs=round(audio.secs, 2),
        speech_secs=round(sum(length(s) for s in audio.stretches) / SAMPLE_RATE, 2),
        model=settings.model_name(),
        backend=backend,
        rounds=rounds,
        engine=figures,
        service=service,
    )


async def _prepare(path: Path, folder: Path, worker: WorkerSettings) -> Audio:
    decoded = await decode(path, folder, limits=worker.decode_limits(), command=worker.decoder())
    portions = await find_portions(decoded, worker.plan(), (0, decoded.samples), use_vad=True)
    if not portions:
        raise ClientError(f"nobody speaks in {path.name}: there is nothing to measure")
    stretches = [piece.stretch for portion in portions for piece in portion]
    return Audio(pcm=decoded.files[0], samples=decoded.samples, stretches=stretches)


async def _measure_engine(
    worker: WorkerSettings, audio: Audio, rounds: int, flash_attn: bool
) -> tuple[list[EngineFigures], str | None]:
    """Measure beam search and greedy with one loaded model. The backend is None where the model could not be loaded."""
    order = Load(
        model_path=str(worker.model_path()),
        threads=worker.threads(),
        beam_size=worker.widest_beam(),
        use_gpu=worker.whisper_use_gpu,
        flash_attn=flash_attn,
    )
    screen.print(f"engine alone, flash attention {'on' if flash_attn else 'off'}")
    engine = await EngineProcess.start(worker.command(), worker.engine_stall_secs)
    try:
        loaded = await engine.load(order, worker.engine_load_timeout_secs)
        return [
            await _figures(engine, audio, rounds, flash_attn, beam) for beam in (BEAM, GREEDY)
        ], loaded.backend
    except EngineFailure as failure:
        return [
            EngineFigures(flash_attn=flash_attn, beam_size=beam, failure=failure.detail)
            for beam in (BEAM, GREEDY)
        ], None
    finally:
        await engine.stop()


async def _figures(
    engine: EngineProcess, audio: Audio, rounds: int, flash_attn: bool, beam_size: int
) -> EngineFigures:
    runs = [await _run(engine, audio, beam_size) for _ in range(rounds)]

    def median(of: Callable[[Finished], float]) -> float:
        return round(statistics.median(sum(of(call) for call in calls) for calls in runs), 3)

    secs = median(lambda call: call.engine_secs)
    return EngineFigures(
        flash_attn=flash_attn,
        beam_size=beam_size,
        secs=secs,
        rtf=round(secs / audio.secs, 4),
        mel_secs=median(lambda call: call.mel_secs),
        encode_secs=median(lambda call: call.encode_secs),
        tokens_secs=median(lambda call: call.tokens_secs),
        windows=int(median(lambda call: call.windows)),
        tokens=int(median(lambda call: call.generated)),
        fallbacks=int(median(lambda call: call.fallbacks)),
    )


async def _run(engine: EngineProcess, audio: Audio, beam_size: int) -> list[Finished]:
    """Transcribe all stretches as a job does. Returns the last reply of each. Raises EngineFailure."""
    calls, language = list[Finished](), AUTO
    for stretch in audio.stretches:
        job = Transcribe(
            call=0,
            pcm_path=str(audio.pcm),
            spans=stretch,
            options=TranscribeOptions(language=language, beam_size=beam_size),
            said=[],
        )
        async for reply in engine.transcribe(job):
            if isinstance(reply, Rejected):
                raise await engine.condemn(reply.reason)
            if isinstance(reply, Finished):
                calls.append(reply)
                language = reply.language or language
    return calls


async def _measure_service(
    settings: StandaloneSettings, model_path: Path, path: Path, folder: Path, rounds: int, alone_secs: float
) -> ServiceFigures:
    screen.print("the whole service")
    settings = msgspec.structs.replace(
        settings,
        host="127.0.0.1",
        port=0,
        nats_port=-1,
        data_dir=str(folder / "data"),
        log_level="warning",
    )
    jobs = list[tuple[float, dict[str, Any]]]()
    with claimed(settings) as claim:
        await up(claim, model_path, partial(_submit, path, rounds + 1, jobs))
    # `up` ends in order when it is interrupted.
    if len(jobs) <= rounds:
        raise KeyboardInterrupt
    (_, cold), *warm = jobs
    secs = statistics.median(whole for whole, _ in warm)
    return ServiceFigures(
        secs=round(secs, 3),
        added_secs=round(secs - alone_secs, 3),
        cold=cold["timings"],
        warm=warm[-1][1]["timings"],
    )


async def _submit(
    path: Path, count: int, jobs: list[tuple[float, dict[str, Any]]], client: GatewayClient
) -> int:
    """Run one job after the other, and append the seconds and the job of each to `jobs`. Raises ClientError."""
    for _ in range(count):
        begun = time.monotonic()
        job = await client.in_thread(partial(_finish, client, path))
        jobs.append((time.monotonic() - begun, job))
    return 0


def _finish(client: GatewayClient, path: Path) -> dict[str, Any]:
    [*_, last] = client.follow(client.submit(path, {"beam_size": str(BEAM)}))
    job: dict[str, Any] = last["job"]
    if job["status"] != "done":
        raise ClientError(f"the job {job['status']}: {(job['error'] or {}).get('message')}")
    return job
