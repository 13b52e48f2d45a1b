"""kill -9 and other ends of a worker: no segment is missing or doubled, and nothing is transcribed twice."""

import itertools
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from gpu_worker.audio import ffmpeg
from tests.support.http import AUDIO, EXPECTED, events, finish, submit, transcribe, words
from tests.support.system import Process, System

STRETCH = re.compile(r"job (\w+): stretch (\d+) of (\d+)")
REPEATS = 6


@pytest.fixture(scope="module")
def long_audio(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """long.ogg six times over: nearly seven minutes."""
    path = tmp_path_factory.mktemp("long") / "long.flac"
    loop = ["-stream_loop", str(REPEATS - 1), "-i", str(AUDIO / "long.ogg")]
    subprocess.run([ffmpeg(), "-v", "error", *loop, "-ar", "16000", str(path)], check=True)
    return path.read_bytes()


def engine_calls(worker: Process, job_id: str) -> Counter[int]:
    """How often this worker put each stretch to its engine, by its log."""
    found = STRETCH.findall(worker.log.read_text(errors="replace"))
    return Counter(int(number) for job, number, _ in found if job == job_id)


def check_whole(job: dict[str, Any]) -> None:
    segments = job["segments"]
    assert job["status"] == "done"
    assert [s["index"] for s in segments] == list(range(len(segments)))
    assert all(a["end"] <= b["start"] + 0.5 for a, b in itertools.pairwise(segments))
    expected = " ".join([p["text"] for p in EXPECTED["long.ogg"]["phrases"]] * REPEATS).split()
    heard = words(job).split()
    assert len(heard) == pytest.approx(len(expected), rel=0.03)


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_outlives_its_worker(system: System, long_audio: bytes, sig: signal.Signals) -> None:
    gateway = system.gateway()
    first = system.worker(STRETCH_SECS="30")
    job_id = submit(gateway.http, "long.flac", long_audio)
    seen: list[str] = []
    second: Process | None = None
    kinds: list[str] = []
    committed = 0
    for event in events(gateway.http, job_id):
        assert event.id not in seen
        seen.append(event.id)
        kinds.append(event.event)
        if event.event == "segment" and second is None and kinds.count("segment") == 60:
            first.stop(sig)
            committed = max(engine_calls(first, job_id)) - 1
            second = system.worker(STRETCH_SECS="30")
    assert second is not None
    assert kinds.count("started") == 2
    job = gateway.http.get(f"/jobs/{job_id}").json()
    check_whole(job)
    assert committed >= 2
    calls = engine_calls(second, job_id)
    # The stretch that was on the engine is resumed behind its last published segment, or was committed just then.
    assert min(calls) in (committed + 1, committed + 2)
    assert set(calls.values()) == {1}


def test_the_engine_dies_with_its_killed_worker_and_the_spool_is_swept(
    system: System, long_audio: bytes
) -> None:
    gateway = system.gateway()
    worker = system.worker(STRETCH_SECS="30")
    job_id = submit(gateway.http, "long.flac", long_audio)
    for event in events(gateway.http, job_id):
        if event.event == "segment":
            break
    [engine] = psutil.Process(worker.pid).children()
    worker.stop(signal.SIGKILL)
    assert psutil.wait_procs([engine], timeout=5)[1] == []
    assert any(system.spool.iterdir())
    gateway.http.delete(f"/jobs/{job_id}")
    system.worker()
    assert transcribe(gateway.http, AUDIO / "telephone.wav")["status"] == "done"
    assert [p for p in system.spool.iterdir() if f"-{worker.pid}-" in p.name] == []


def test_a_killed_engine_costs_an_attempt_and_no_segment(system: System, long_audio: bytes) -> None:
    gateway = system.gateway()
    worker = system.worker(STRETCH_SECS="30")
    job_id = submit(gateway.http, "long.flac", long_audio)
    killed = False
    kinds = []
    for event in events(gateway.http, job_id):
        kinds.append(event.event)
        if event.event == "segment" and not killed:
            killed = True
            psutil.Process(worker.pid).children()[0].kill()
    assert kinds.count("started") == 2
    check_whole(gateway.http.get(f"/jobs/{job_id}").json())


def test_a_job_that_always_crashes_the_engine_fails_with_its_last_words(
    system: System, tmp_path: Path
) -> None:
    script = tmp_path / "engine.py"
    script.write_text(CRASHING_ENGINE)
    gateway = system.gateway()
    system.worker(ENGINE_COMMAND=f"{sys.executable} {script}")
    job = finish(gateway.http, submit(gateway.http, "a.flac", (AUDIO / "english.flac").read_bytes()))
    assert (job["status"], job["error"]["code"]) == ("failed", "engine_crashed")
    assert "CUDA error: an illegal memory access" in job["error"]["message"]
    assert "signal 6" in job["error"]["message"]


CRASHING_ENGINE = """
import os, sys
from gpu_worker.engine.protocol import Loaded, frame
sys.stdin.buffer.read(4)
sys.stdout.buffer.write(frame(Loaded(backend="CUDA0", load_secs=0.1)))
sys.stdout.buffer.flush()
sys.stdin.buffer.read(40)
sys.stderr.write("ggml_cuda: CUDA error: an illegal memory access was encountered\\n")
sys.stderr.flush()
os.abort()
"""
