"""A model of large's size on a real GPU: what it takes, that all of it comes back, and every lack of VRAM."""

import asyncio
import time
from pathlib import Path

import msgspec
import pytest

from gpu_worker.audio.decoding import decode
from gpu_worker.engine.protocol import Finished, Transcribe
from gpu_worker.engine.whisper_cpp import library as whisper_cpp
from gpu_worker.engine.whisper_cpp import memory
from gpu_worker.engine.whisper_cpp.model_file import check
from gpu_worker.model.gpu import NvmlGpu
from gpu_worker.model.loading import CPU, Loader, OutOfVram
from gpu_worker.settings import WorkerSettings
from schemas.model import GpuStatus
from schemas.options import MAX_BEAM_SIZE, TranscribeOptions
from tests.gpu import large_model
from tests.gpu.holding import holding
from tests.support.http import AUDIO

MIB = 2**20
FREE_MIB = {
    "demo": (64, 384, 540, 560, 600, 640, 656, 680, 704, 720, 740, 800),
    "large": (64, 704, 3328, 3712, 3840, 3880, 3920, 4000, 4010, 4030, 4050, 4080, 4200, 4800, 4900, 6144),
}
"""From too little for CUDA itself, over too little for weights, caches, buffers and cuBLAS in turn, to enough: so on an
H200, where each of these was a line of its own. CUDA itself takes another share on other GPUs."""
LEFT_MIB = 16
"""So little that nothing more can be taken, and still no more than the last pieces of the memory."""


class Overtaken:
    """NVML as it was before another process took the memory: the look before a load finds enough, always."""

    def __init__(self, gpu: NvmlGpu) -> None:
        self._gpu = gpu

    def status(self) -> GpuStatus | None:
        seen = self._gpu.status()
        return msgspec.structs.replace(seen, vram_free=seen.vram_total) if seen else None

    def used_by(self, pid: int) -> int | None:
        return self._gpu.used_by(pid)


@pytest.fixture(scope="module")
def large(demo_model: Path, tmp_path_factory: pytest.TempPathFactory, needs_a_gpu: None) -> Path:
    if asyncio.run(backend_of(demo_model)) == CPU:
        pytest.skip("this pywhispercpp is built for the CPU: make cuda-wheel")
    path = tmp_path_factory.mktemp("large") / "ggml-large.bin"
    large_model.write(demo_model, path)
    return path


def settings(model: Path) -> WorkerSettings:
    return WorkerSettings(whisper_model="large", whisper_model_path=str(model), whisper_threads=4)


async def backend_of(model: Path) -> str:
    loaded = await Loader(settings(model), whisper_cpp, NvmlGpu(None)).load()
    await loaded.engine.stop()
    return loaded.backend


async def test_it_takes_what_was_estimated_and_gives_all_back(large: Path) -> None:
    gpu = NvmlGpu(None)
    before = gpu.status()
    loader = Loader(settings(large), whisper_cpp, gpu)
    loaded = await loader.load()
    try:
        during = loader.vram()
    finally:
        begun = time.monotonic()
        await loaded.engine.stop()
        ended_secs = time.monotonic() - begun
    after = gpu.status()
    assert before is not None
    assert during is not None
    assert after is not None
    taken = during.used - before.vram_used
    estimated = memory.estimate(check(large), settings(large).widest_beam())
    print(
        f"{loaded.backend}, loaded in {loaded.load_secs} s; took {taken // MIB} MiB, by NVML for the process"
        f" {(during.used_by_model or 0) // MIB} MiB, estimated {estimated // MIB} MiB; ended in {ended_secs:.2f} s,"
        f" {(after.vram_used - before.vram_used) // MIB} MiB more in use than before"
    )
    assert estimated < taken < estimated + 2048 * MIB
    assert abs(after.vram_used - before.vram_used) < 16 * MIB


@pytest.mark.parametrize(("name", "free"), [(name, free) for name in FREE_MIB for free in FREE_MIB[name]])
async def test_every_lack_of_vram_is_known_as_one(
    demo_model: Path, large: Path, name: str, free: int
) -> None:
    gpu, model = NvmlGpu(None), {"demo": demo_model, "large": large}[name]
    with holding(free):
        held = gpu.status()
        assert held is not None
        begun = time.monotonic()
        try:
            loaded = await Loader(settings(model), whisper_cpp, Overtaken(gpu)).load()
        except OutOfVram as lack:
            found = str(lack)
        else:
            found = f"ready on {loaded.backend}"
            await loaded.engine.stop()
        print(f"{held.vram_free // MIB} MiB free: {found} ({time.monotonic() - begun:.1f} s)")
        assert found.startswith(("ready on CUDA", "There was not enough VRAM", "CUDA could not be started"))
    after = gpu.status()
    assert after is not None
    assert after.vram_free > held.vram_free


@pytest.mark.parametrize("name", FREE_MIB)
async def test_a_job_needs_no_more_than_the_load_has_taken(
    demo_model: Path, large: Path, name: str, tmp_path: Path
) -> None:
    """Another process takes all that is left when the model is ready. The widest beam, words and a prompt fit in."""
    gpu, model = NvmlGpu(None), {"demo": demo_model, "large": large}[name]
    decoded = await decode(AUDIO / "long.ogg", tmp_path)
    loaded = await Loader(settings(model), whisper_cpp, gpu).load()
    try:
        before = gpu.used_by(loaded.engine.pid)
        with holding(LEFT_MIB):
            for temperature in (0.0, 0.8):
                job = order(decoded.files[0], decoded.samples, temperature)
                *_, last = [reply async for reply in loaded.engine.transcribe(job)]
                assert isinstance(last, Finished), last
                print(f"{name}, temperature {temperature}: {last.engine_secs:.2f} s")
        # The next state is made behind the last reply.
        async with asyncio.timeout(10):
            while gpu.used_by(loaded.engine.pid) != before:
                await asyncio.sleep(0.05)
    finally:
        await loaded.engine.stop()


def order(pcm: Path, samples: int, temperature: float) -> Transcribe:
    return Transcribe(
        call=0,
        pcm_path=str(pcm),
        spans=[(0, samples)],
        options=TranscribeOptions(
            language="en",
            words=True,
            beam_size=MAX_BEAM_SIZE,
            temperature=temperature,
            prompt="one two three " * 40,
        ),
        said=[],
    )
