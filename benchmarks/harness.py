"""A system of real processes to measure, and what a measurement is."""

import asyncio
import io
import json
import os
import platform
import shutil
import statistics
import tempfile
import wave
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import msgspec
import numpy as np
import psutil

from gpu_worker.audio.decoding import decode
from gpu_worker.engine.process import EngineProcess
from gpu_worker.engine.protocol import Finished, Load, Transcribe
from gpu_worker.settings import WorkerSettings
from schemas.options import MAX_BEAM_SIZE, TranscribeOptions
from standalone import known_models, models
from tests.support.system import Gateway, Process, System

AUDIO = Path(__file__).parent.parent / "tests" / "audio"
MIB = 2**20


class Row(msgspec.Struct, kw_only=True, frozen=True):
    """One line of the table. `value` and `goal` are in the same unit, mostly a ratio to `baseline`."""

    measure: str
    baseline: str
    goal: str
    value: float
    spread: list[float]
    """Each round's value."""
    met: bool
    note: str = ""


class Goal(msgspec.Struct, frozen=True):
    """What a value should be: at most, or at least, a limit in the unit of the row."""

    sign: str
    limit: float

    def is_met(self, value: float) -> bool:
        """Whether a value reaches the goal."""
        return value <= self.limit if self.sign == "<=" else value >= self.limit


def at_most(limit: float) -> Goal:
    """Return the goal of a value that should be small."""
    return Goal("<=", limit)


def at_least(limit: float) -> Goal:
    """Return the goal of a value that should be large."""
    return Goal(">=", limit)


def row(
    measure: str,
    baseline: str,
    values: list[float],
    goal: Goal | None = None,
    *,
    unit: str = "x",
    note: str = "",
) -> Row:
    """Return the line for the median of `values`. Without a goal it is there for comparison only."""
    value = statistics.median(values)
    text = f"{goal.sign} {goal.limit:g} {unit}" if goal is not None else "-"
    met = goal is None or goal.is_met(value)
    return Row(measure=measure, baseline=baseline, goal=text, value=value, spread=values, met=met, note=note)


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    """Round by round."""
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


class Bench:
    """One nats-server, one gateway, one worker with the demo model, loaded."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder, self.model = folder, model
        self.system = System(folder, model)
        self.gateway: Gateway = self.system.gateway()
        self.worker: Process = self.system.worker(LOG_LEVEL="debug", IDLE_TIMEOUT_SECS="0")

    @property
    def http(self) -> httpx.Client:
        return self.gateway.http

    @property
    def gateway_process(self) -> psutil.Process:
        """What serves HTTP; under granian that is a child of what was started."""
        process = psutil.Process(self.gateway.pid)
        return next(iter(process.children()), process)

    def finish(self, job_id: str) -> dict[str, object]:
        """Wait for the end of a job by its event stream."""
        with self.http.stream("GET", f"/jobs/{job_id}/stream", timeout=600) as answer:
            last = ""
            for line in answer.iter_lines():
                last = line if line.startswith("data: ") else last
        return dict(json.loads(last[6:])["job"])

    def submit(self, content: bytes, **fields: str) -> str:
        answer = self.http.post("/jobs", files={"audio": ("a", content)}, data=fields)
        answer.raise_for_status()
        return str(answer.json()["job_id"])


@contextmanager
def bench() -> Iterator[Bench]:
    folder = Path(tempfile.mkdtemp(prefix="whisper-bench-"))
    model = models.fetch(known_models.DEMO, folder / "models", "", lambda _done, _total: None)
    running = Bench(folder, model)
    try:
        running.finish(running.submit((AUDIO / "telephone.wav").read_bytes()))  # the model is loaded
        yield running
    finally:
        running.system.close()
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def bare_engine(model: Path) -> AsyncIterator[EngineProcess]:
    """The engine process alone, loaded."""
    settings = WorkerSettings()
    engine = await EngineProcess.start(settings.command(), 600)
    order = Load(model_path=str(model), threads=settings.threads(), beam_size=MAX_BEAM_SIZE)
    await engine.load(order, 600)
    try:
        yield engine
    finally:
        await engine.stop()


async def decoded(content: bytes, folder: Path, name: str) -> tuple[Path, int]:
    source, own = folder / name, folder / f"{name}.samples"
    source.write_bytes(content)
    own.mkdir()
    done = await decode(source, own)
    return done.files[0], done.samples


async def run_bare(engine: EngineProcess, pcm: Path, samples: int) -> float:
    """Seconds in whisper_full."""
    job = Transcribe(call=0, pcm_path=str(pcm), spans=[(0, samples)], options=TranscribeOptions(), said=[])
    async for reply in engine.transcribe(job):
        if isinstance(reply, Finished):
            return reply.engine_secs
    raise RuntimeError("the engine gave no end")


def speech(seconds: float) -> bytes:
    """So many seconds of the long test file, as WAV."""
    pcm = asyncio.run(
        decoded((AUDIO / "long.ogg").read_bytes(), Path(tempfile.gettempdir()), f"long-{os.getpid()}")
    )[0]
    samples = np.fromfile(pcm, np.float32)[: int(seconds * 16_000)]
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return out.getvalue()


def machine() -> dict[str, str]:
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    memory = psutil.virtual_memory().total / 2**30
    return {
        "cpu": f"{cpu}, {psutil.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "engine": "pywhispercpp on the CPU, demo model",
    }
