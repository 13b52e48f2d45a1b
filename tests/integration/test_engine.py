"""The engine process: the real one on the CPU, and scripted ones that do what a real one does only on bad days."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import uvloop

from gpu_worker.audio.decoding import decode
from gpu_worker.blame import Fault
from gpu_worker.engine.failure import EngineFailure, FailureKind
from gpu_worker.engine.library import BadModelFile
from gpu_worker.engine.process import EngineProcess
from gpu_worker.engine.protocol import (
    Aborted,
    AnyReply,
    Finished,
    Load,
    Loaded,
    ProgressMade,
    SegmentFound,
    Transcribe,
    frame,
)
from gpu_worker.engine.whisper_cpp.model_file import check
from schemas.options import TranscribeOptions
from tests.support.http import AUDIO, EXPECTED
from tests.support.waiting import wait_until

REAL = [sys.executable, "-m", "gpu_worker.engine.child"]
RATE = 16_000


def load(model: Path) -> Load:
    return Load(model_path=str(model), threads=2, beam_size=5, use_gpu=False)


def order(pcm: Path, samples: int, language: str = "en", beam_size: int = 5, prompt: str = "") -> Transcribe:
    return Transcribe(
        call=0,
        pcm_path=str(pcm),
        spans=[(0, samples)],
        options=TranscribeOptions(language=language, beam_size=beam_size, prompt=prompt),
        said=[],
    )


def write(path: Path, samples: "np.ndarray[tuple[int], np.dtype[np.float32]]") -> tuple[Path, int]:
    samples.astype(np.float32).tofile(path)
    return path, samples.size


async def run(engine: EngineProcess, job: Transcribe) -> list[AnyReply]:
    return [reply async for reply in engine.transcribe(job)]


def text(replies: list[AnyReply]) -> str:
    return "".join(r.text for r in replies if isinstance(r, SegmentFound)).strip()


async def pcm_of(name: str, folder: Path) -> tuple[Path, int]:
    own = folder / name.replace(".", "-")
    own.mkdir()
    decoded = await decode(AUDIO / name, own)
    return decoded.files[0], decoded.samples


async def test_one_job_leaves_nothing_to_the_next(demo_model: Path, tmp_path: Path) -> None:
    """Language, prompt and audio of a job must not leak; nothing said must not give the text before."""
    engine = await EngineProcess.start(REAL, 60)
    loaded = await engine.load(load(demo_model), 60)
    assert loaded.backend == "cpu"
    english, german = await pcm_of("english.flac", tmp_path), await pcm_of("german.flac", tmp_path)
    silence = write(tmp_path / "silence", np.zeros(5 * RATE, np.float32))
    first = await run(engine, order(*english))
    assert text(first) == " ".join(p["text"] for p in EXPECTED["english.flac"]["phrases"])
    assert text(await run(engine, order(*silence))) == ""
    found = await run(engine, order(*german, language="auto", prompt="neun acht"))
    assert text(found) == " ".join(p["text"] for p in EXPECTED["german.flac"]["phrases"])
    [finished] = [r for r in found if isinstance(r, Finished)]
    assert finished.language == "de"
    assert (finished.language_probability or 0) > 0.9
    nobody = await run(engine, order(*silence, language="auto"))
    assert [r.language for r in nobody if isinstance(r, Finished)] == [None]
    assert text(await run(engine, order(*english))) == text(first)
    assert any(isinstance(r, ProgressMade) for r in first)
    await engine.stop()
    assert not engine.alive


@pytest.mark.parametrize("samples", [1, 100, 1600, 3199])
async def test_very_short_audio_is_padded(demo_model: Path, tmp_path: Path, samples: int) -> None:
    engine = await EngineProcess.start(REAL, 60)
    await engine.load(load(demo_model), 60)
    replies = await run(engine, order(*write(tmp_path / "short", np.full(samples, 0.01, np.float32))))
    assert isinstance(replies[-1], Finished)
    assert all(r.end <= samples / RATE + 0.001 for r in replies if isinstance(r, SegmentFound))
    await engine.stop()


async def test_not_a_number_does_not_spoil_the_window(demo_model: Path, tmp_path: Path) -> None:
    path, samples = await pcm_of("english.flac", tmp_path)
    audio = np.fromfile(path, np.float32)
    audio[[5, 40_000, 100_000]] = [np.nan, np.inf, -np.inf]
    engine = await EngineProcess.start(REAL, 60)
    await engine.load(load(demo_model), 60)
    replies = await run(engine, order(*write(tmp_path / "nan", audio)))
    assert text(replies) == " ".join(p["text"] for p in EXPECTED["english.flac"]["phrases"])
    assert samples == audio.size
    await engine.stop()


async def test_abort_ends_the_call_soon_and_the_engine_lives(demo_model: Path, tmp_path: Path) -> None:
    path, samples = await pcm_of("long.ogg", tmp_path)
    engine = await EngineProcess.start(REAL, 60)
    await engine.load(load(demo_model), 60)
    replies = []
    async for reply in engine.transcribe(order(path, samples)):
        replies.append(reply)
        if isinstance(reply, SegmentFound) and sum(isinstance(r, SegmentFound) for r in replies) == 1:
            await engine.abort()
    assert isinstance(replies[-1], Aborted)
    short = await pcm_of("english.flac", tmp_path)
    assert isinstance((await run(engine, order(*short)))[-1], Finished)
    await engine.stop()


async def test_a_call_that_nobody_listens_to_is_given_up(demo_model: Path, tmp_path: Path) -> None:
    path, samples = await pcm_of("long.ogg", tmp_path)
    engine = await EngineProcess.start(REAL, 60)
    await engine.load(load(demo_model), 60)
    async for _ in engine.transcribe(order(path, samples)):
        break
    await engine.give_up(10)
    assert engine.alive
    short = await pcm_of("english.flac", tmp_path)
    assert text(await run(engine, order(*short))) != ""
    await engine.stop()


@pytest.mark.parametrize("cut", ["missing", "empty", "garbage", "vocabulary", "last tensor", "whole"])
async def test_model_files_are_checked_before_they_are_loaded(
    demo_model: Path, tmp_path: Path, cut: str
) -> None:
    whole, path = demo_model.read_bytes(), tmp_path / "model.bin"
    contents = {
        "empty": b"",
        "garbage": os.urandom(100_000),
        "vocabulary": whole[:200_000],
        "last tensor": whole[:-1],
        "whole": whole,
    }
    if cut in contents:
        path.write_bytes(contents[cut])
    if cut == "whole":
        assert check(path).multilingual
    else:
        with pytest.raises(BadModelFile) as caught:
            check(path)
        assert str(path) in str(caught.value)


def script(folder: Path, body: str) -> list[str]:
    path = folder / "engine.py"
    path.write_text(PRELUDE + body)
    return [sys.executable, str(path)]


PRELUDE = """
import os, signal, sys, time
from gpu_worker.engine.protocol import *
def read():
    return command_decoder.decode(sys.stdin.buffer.read(body_length(sys.stdin.buffer.read(4))))
def send(reply):
    sys.stdout.buffer.write(frame(reply)); sys.stdout.buffer.flush()
def say(text):
    sys.stderr.write(text + "\\n"); sys.stderr.flush()
load = read()
"""


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        ("say('cudaMalloc failed'); os.abort()", FailureKind.CRASHED, "signal 6"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", FailureKind.CRASHED, "signal 11"),
        ("sys.exit(3)", FailureKind.CRASHED, "status 3"),
        (
            "send(LoadFailed(reason='no kernel image')); os._exit(1)",
            FailureKind.LOAD_FAILED,
            "no kernel image",
        ),
        (
            "sys.stdout.buffer.write(b'Segmentation fault'); sys.stdout.flush(); time.sleep(60)",
            FailureKind.PROTOCOL,
            "gibberish",
        ),
        (
            "sys.stdout.buffer.write(LENGTH.pack(3) + b'abc'); sys.stdout.flush(); time.sleep(60)",
            FailureKind.PROTOCOL,
            "gibberish",
        ),
        ("send(Aborted()); time.sleep(60)", FailureKind.PROTOCOL, "Aborted"),
        ("time.sleep(60)", FailureKind.STALLED, "said nothing"),
        ("os.close(1); os.dup2(2, 1); time.sleep(60)", FailureKind.CRASHED, "closed its pipe"),
    ],
)
async def test_bad_days_while_loading(tmp_path: Path, body: str, kind: FailureKind, words: str) -> None:
    engine = await EngineProcess.start(script(tmp_path, body), 60)
    with pytest.raises(EngineFailure) as caught:
        await engine.load(load(tmp_path), timeout_secs=0.8 if kind is FailureKind.STALLED else 20)
    assert caught.value.kind is kind
    assert words in caught.value.detail
    assert not engine.alive
    if "cudaMalloc" in body:
        assert caught.value.stderr == ["cudaMalloc failed"]


async def test_a_flood_on_stderr_blocks_nothing(tmp_path: Path) -> None:
    body = "say('x' * 3_000_000); [say(str(n)) for n in range(50)]; send(Loaded(backend='cpu', load_secs=1)); read()"
    engine = await EngineProcess.start(script(tmp_path, body), 60)
    assert await engine.load(load(tmp_path), 20) == Loaded(backend="cpu", load_secs=1)
    await engine.stop()


async def test_an_engine_that_ignores_everything_is_killed(tmp_path: Path) -> None:
    body = "signal.signal(signal.SIGTERM, signal.SIG_IGN); send(Loaded(backend='cpu', load_secs=1)); time.sleep(600)"
    engine = await EngineProcess.start(script(tmp_path, body), 60)
    await engine.load(load(tmp_path), 20)
    async with asyncio.timeout(10):
        await engine.stop(grace_secs=0.2)
    assert not engine.alive


async def test_a_command_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(EngineFailure) as caught:
        await EngineProcess.start([str(tmp_path / "nothing")], 60)
    assert (caught.value.kind, caught.value.fault) == (FailureKind.NOT_STARTED, Fault.MACHINE)


def test_the_engine_ends_with_its_worker(demo_model: Path) -> None:
    """The end of stdin is all that a killed worker leaves."""
    engine = subprocess.Popen(REAL, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert engine.stdin is not None
    assert engine.stdout is not None
    engine.stdin.close()
    assert engine.wait(10) == 0
    engine.stdout.close()


async def test_a_second_transcribe_while_one_runs_is_told(demo_model: Path, tmp_path: Path) -> None:
    """By the worker's side at once; the process itself ends, because its replies could not be told apart."""
    path, samples = await pcm_of("long.ogg", tmp_path)
    engine = await EngineProcess.start(REAL, 60)
    await engine.load(load(demo_model), 60)
    calls = engine.transcribe(order(path, samples))
    await anext(calls)
    with pytest.raises(RuntimeError, match="in a call already"):
        await anext(engine.transcribe(order(path, samples)))
    await engine._send(frame(order(path, samples)))
    with pytest.raises(EngineFailure) as caught:
        async for _ in calls:
            pass
    assert "status 3" in caught.value.detail
    assert caught.value.stderr[-1] == "a second Transcribe came while one is running"


@pytest.mark.parametrize("turns", range(12))
def test_a_start_that_is_cancelled_leaves_no_process(turns: int) -> None:
    """In whichever turn of the loop that our processes run on."""

    async def cancel() -> None:
        starting = asyncio.create_task(EngineProcess.start([sys.executable, "-c", "input()"], 60))
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        for result in await asyncio.gather(starting, return_exceptions=True):
            if isinstance(result, EngineProcess):  # it was there before it was cancelled, and has an owner
                await result.stop(grace_secs=0)
        assert psutil.Process().children() == []

    uvloop.run(cancel())


async def test_a_start_that_is_cancelled_in_its_middle_leaves_no_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The process is there already, and its starter does not have it yet: the moment is held here, since it is short."""
    real, is_there, may_go_on = asyncio.create_subprocess_exec, asyncio.Event(), asyncio.Event()

    async def held(*command: str, **options: Any) -> asyncio.subprocess.Process:
        process = await real(*command, **options)
        is_there.set()
        await may_go_on.wait()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", held)
    starting = asyncio.create_task(EngineProcess.start(["sleep", "60"], 60))
    await is_there.wait()
    starting.cancel()
    asyncio.get_running_loop().call_soon(may_go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await starting
    left = psutil.Process().children()
    for process in left:
        process.kill()
    assert left == []


def test_a_child_ends_with_its_killed_parent(tmp_path: Path) -> None:
    """Also one that reads no pipe and ignores what can be ignored, as an ffmpeg on a slow disk may."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "pid")], env={**os.environ, "PYTHONPATH": os.getcwd()}
    )
    wait_until((tmp_path / "pid").exists)
    child = psutil.Process(int((tmp_path / "pid").read_text()))
    parent.kill()
    parent.wait(10)
    assert psutil.wait_procs([child], timeout=5)[1] == []


PARENT = """
import asyncio, os, sys
import uvloop
from process import child_process
async def main():
    child = await child_process.start(["sh", "-c", "trap '' TERM HUP INT; while :; do sleep 1; done"])
    with open(sys.argv[1] + ".new", "w") as file:
        file.write(str(child.pid))
    os.rename(sys.argv[1] + ".new", sys.argv[1])
    await asyncio.sleep(60)
uvloop.run(main())
"""


async def test_a_call_can_be_given_up_and_made_again(demo_model: Path, tmp_path: Path) -> None:
    """As where a segment leaves voice out: the caller reads no more of the call, and begins another one."""
    path, samples = await pcm_of("long.ogg", tmp_path)
    engine = await EngineProcess.start(REAL, 60)
    await engine.load(load(demo_model), 60)
    whole = text(await run(engine, order(path, samples)))
    async for reply in engine.transcribe(order(path, samples)):
        if isinstance(reply, SegmentFound):
            break
    await engine.give_up(60)
    assert engine.alive
    assert text(await run(engine, order(path, samples))) == whole
    await engine.stop()
