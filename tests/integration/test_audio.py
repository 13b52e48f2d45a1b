"""ffmpeg, VAD and the plan on real files."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from gpu_worker.audio import decoding as audio
from gpu_worker.audio import vad
from gpu_worker.audio.ffmpeg import ffmpeg
from gpu_worker.audio.stretches import PlanSettings, plan
from gpu_worker.blame import MachineTrouble
from gpu_worker.job.preparing import find_stretches
from gpu_worker.pcm import SAMPLE_BYTES, SAMPLE_RATE
from gpu_worker.settings import WorkerSettings
from schemas.errors import ErrorCode
from tests.support.http import AUDIO, EXPECTED


@pytest.mark.parametrize("name", list(EXPECTED))
async def test_speech_is_found_and_nothing_else(tmp_path: Path, name: str) -> None:
    samples = await audio.decode(AUDIO / name, tmp_path / "pcm", timeout_secs=60, max_secs=600)
    assert samples / SAMPLE_RATE == pytest.approx(EXPECTED[name]["seconds"], abs=0.2)
    with (tmp_path / "pcm").open("rb") as pcm:
        stretches = plan(vad.speech_probabilities(vad.blocks(pcm)), samples, PlanSettings())
    spans = [(start / SAMPLE_RATE, end / SAMPLE_RATE) for stretch in stretches for start, end in stretch]
    for phrase in EXPECTED[name]["phrases"]:
        assert any(start <= phrase["start"] + 0.1 and end >= phrase["end"] - 0.1 for start, end in spans)
    assert bool(spans) == bool(EXPECTED[name]["phrases"])
    if name == "pauses.ogg":
        assert len(spans) == len(EXPECTED[name]["phrases"])


async def test_probabilities_do_not_depend_on_where_the_batches_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await audio.decode(AUDIO / "long.ogg", tmp_path / "pcm", timeout_secs=60, max_secs=600)
    with (tmp_path / "pcm").open("rb") as pcm:
        whole = vad.speech_probabilities(vad.blocks(pcm))
        monkeypatch.setattr(vad, "BATCH", 7)
        pcm.seek(0)
        np.testing.assert_allclose(vad.speech_probabilities(vad.blocks(pcm)), whole, atol=1e-4)


async def test_a_search_for_speech_that_is_cancelled_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a thread's work, of a minute or so for these ten hours."""
    loop, begun, real = asyncio.get_running_loop(), asyncio.Event(), vad.blocks

    def blocks(pcm: BinaryIO) -> Iterator[NDArray[np.float32]]:
        for block in real(pcm):
            loop.call_soon_threadsafe(begun.set)
            yield block

    monkeypatch.setattr(vad, "blocks", blocks)
    samples = 10 * 3600 * SAMPLE_RATE
    (tmp_path / "pcm").touch()
    os.truncate(tmp_path / "pcm", samples * SAMPLE_BYTES)
    searching = asyncio.create_task(find_stretches(tmp_path / "pcm", samples, WorkerSettings(), use_vad=True))
    async with asyncio.timeout(10):
        await begun.wait()
        searching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await searching
        await loop.shutdown_default_executor()  # waits for its threads


async def test_limits(tmp_path: Path) -> None:
    with pytest.raises(audio.DecodeError) as caught:
        await audio.decode(AUDIO / "long.ogg", tmp_path / "pcm", timeout_secs=60, max_secs=10)
    assert caught.value.error.code is ErrorCode.AUDIO_TOO_LONG
    assert (tmp_path / "pcm").stat().st_size <= 11 * SAMPLE_RATE * SAMPLE_BYTES
    with pytest.raises(audio.DecodeError) as caught:
        await audio.decode(AUDIO / "long.ogg", tmp_path / "pcm", timeout_secs=0.001, max_secs=100)
    assert caught.value.error.code is ErrorCode.DECODE_TIMEOUT
    assert [p for p in psutil.Process().children() if "ffmpeg" in p.name()] == []


@pytest.mark.parametrize("kind", ["network", "another file"])
async def test_a_playlist_reaches_neither_the_network_nor_other_files(tmp_path: Path, kind: str) -> None:
    """An HLS playlist makes ffmpeg open what it names: somebody else's audio, or an address behind the firewall."""
    asked = asyncio.Event()

    async def on_request(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        writer.close()

    async with await asyncio.start_server(on_request, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a.ts"
        entry = url if kind == "network" else f"file:{AUDIO / 'english.mp3'}"
        playlist = tmp_path / "audio"
        playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9.4,\n{entry}\n#EXT-X-ENDLIST\n")
        with pytest.raises(audio.DecodeError) as caught:
            await audio.decode(playlist, tmp_path / "pcm", timeout_secs=20, max_secs=100)
    assert caught.value.error.code is ErrorCode.AUDIO_UNDECODABLE
    assert not asked.is_set()


async def test_the_carried_ffmpeg_is_found_without_starting_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is only started to see whether it works can be killed like any other."""

    def killed(*_: object, **__: object) -> None:
        raise OSError("killed")

    monkeypatch.setenv("PATH", str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", killed)
        found = ffmpeg()
    assert "ffmpeg version" in subprocess.run([found, "-version"], capture_output=True, text=True).stdout


@pytest.mark.parametrize(("kills", "works"), [(2, True), (3, False)])
async def test_an_ffmpeg_that_somebody_kills_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: int, works: bool
) -> None:
    real, count = ffmpeg(), tmp_path / "count"
    script = tmp_path / "ffmpeg"
    script.write_text(
        f'#!/bin/sh\necho >> {count}\n[ $(wc -l < {count}) -le {kills} ] && kill -9 $$\nexec {real} "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    work = audio.decode(AUDIO / "telephone.wav", tmp_path / "pcm", timeout_secs=30, max_secs=60)
    if works:
        assert await work > 0
    else:
        with pytest.raises(MachineTrouble, match="killed 3 times"):
            await work
    assert count.read_text().count("\n") == 3
