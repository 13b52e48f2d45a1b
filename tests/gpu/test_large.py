"""A model of large's size on a real GPU: what it takes, that all of it comes back, and every lack of VRAM."""

import asyncio
import time
from pathlib import Path

import msgspec
import pytest

from gpu_worker import vram
from gpu_worker.gpu import NvmlGpu
from gpu_worker.loading import CPU, Loader, OutOfVram
from gpu_worker.model_file import check
from gpu_worker.settings import WorkerSettings
from schemas.model import GpuStatus
from tests.gpu import large_model
from tests.gpu.holding import holding

MIB = 2**20
FREE_MIB = (64, 192, 320, 448, 576, 704, 1024, 2048, 3328, 3712, 4096, 4352, 4608, 4864, 5376, 6144)
"""From too little for CUDA itself, over too little for weights, caches and buffers in turn, to enough."""


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
    loaded = await Loader(settings(model), NvmlGpu(None)).load()
    await loaded.engine.stop()
    return loaded.backend


async def test_it_takes_what_was_estimated_and_gives_all_back(large: Path) -> None:
    gpu = NvmlGpu(None)
    before = gpu.status()
    loader = Loader(settings(large), gpu)
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
    estimated = vram.estimate(check(large), settings(large).widest_beam())
    print(
        f"{loaded.backend}, loaded in {loaded.load_secs} s; took {taken // MIB} MiB, by NVML for the process"
        f" {(during.used_by_model or 0) // MIB} MiB, estimated {estimated // MIB} MiB; ended in {ended_secs:.2f} s,"
        f" {(after.vram_used - before.vram_used) // MIB} MiB more in use than before"
    )
    assert estimated < taken < estimated + 2048 * MIB
    assert abs(after.vram_used - before.vram_used) < 16 * MIB


@pytest.mark.parametrize("free", FREE_MIB)
async def test_every_lack_of_vram_is_known_as_one(large: Path, free: int) -> None:
    gpu = NvmlGpu(None)
    with holding(free):
        held = gpu.status()
        assert held is not None
        begun = time.monotonic()
        try:
            loaded = await Loader(settings(large), Overtaken(gpu)).load()
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
