"""The whole life on a real GPU. Skipped, with the reason, where there is none or the engine is built for the CPU.

`make cuda-wheel` builds an engine for it; docs/evidence/gpu.md says how these tests are run on a machine with a GPU.
"""

import subprocess
from collections.abc import Iterator

import pytest

from gpu_worker.model.gpu import NvmlGpu
from tests.gpu.holding import holding
from tests.support.http import AUDIO, EXPECTED, finish, submit, words
from tests.support.models import ASYNC, REFUSE, following, load, post, status, unload, wait_for_worker
from tests.support.system import Gateway, System

MIB = 2**20


def used() -> int:
    """Bytes of VRAM in use by everybody."""
    seen = NvmlGpu(None).status()
    assert seen is not None
    return seen.vram_used


@pytest.fixture
def gateway(system: System) -> Gateway:
    gateway = system.gateway(**REFUSE)
    system.worker(WHISPER_USE_GPU="true", GPU_POLL_INTERVAL_SECS="1")
    wait_for_worker(gateway.http)
    if load(gateway.http)["backend"] == "cpu":
        pytest.skip("this pywhispercpp is built for the CPU: make cuda-wheel")
    unload(gateway.http)
    return gateway


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[bytes]]:
    """Another process that takes all VRAM but 64 MiB, until it is killed."""
    with holding(64) as process:
        yield process


def test_load_transcribe_unload_gives_all_vram_back(gateway: Gateway) -> None:
    before = used()
    ready = load(gateway.http)
    print(f"backend {ready['backend']}, loaded in {ready['load_secs']} s, VRAM {ready['vram']}")
    assert ready["backend"].startswith("CUDA")
    assert used() - before > 100 * MIB
    job = finish(
        gateway.http,
        submit(gateway.http, "english.flac", (AUDIO / "english.flac").read_bytes(), beam_size="1"),
    )
    assert words(job) == " ".join(p["text"] for p in EXPECTED["english.flac"]["phrases"])
    report = unload(gateway.http)["last_unload"]
    print(f"unload: {report}")
    assert report["vram_used_before"] - report["vram_used_after"] > 100 * MIB
    assert abs(used() - before) < 16 * MIB


def test_a_job_waits_while_another_process_has_the_vram(
    gateway: Gateway, holder: subprocess.Popen[bytes]
) -> None:
    with following(gateway.http) as seen:
        job_id = post(gateway.http, ASYNC).json()["job_id"]
        print(seen.wait_for("model_waiting_for_gpu")["reason"])
        assert status(gateway.http)["state"] in ("waiting_for_gpu", "loading")
        holder.kill()
        holder.wait()
        assert seen.wait_for("model_ready")["backend"].startswith("CUDA")
    assert finish(gateway.http, job_id)["status"] == "done"
