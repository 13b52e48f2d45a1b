"""The decoder, VAD and the plan on real files."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from gpu_worker.audio import decoding as audio
from gpu_worker.audio import vad
from gpu_worker.audio.decoding import Decoded, Limits
from gpu_worker.audio.stretches import PlanSettings, plan
from gpu_worker.audio.verdict import Findings
from gpu_worker.blame import MachineTrouble
from gpu_worker.job.preparing import find_portions
from gpu_worker.pcm import SAMPLE_BYTES, SAMPLE_RATE
from gpu_worker.settings import WorkerSettings
from schemas.errors import ErrorCode
from schemas.options import TranscribeOptions
from schemas.recordings import Source
from tests.support.decoders import REAL, decoder
from tests.support.http import AUDIO, EXPECTED


@pytest.mark.parametrize("name", list(EXPECTED))
async def test_speech_is_found_and_nothing_else(tmp_path: Path, name: str) -> None:
    decoded = await audio.decode(AUDIO / name, tmp_path)
    assert decoded.samples / SAMPLE_RATE == pytest.approx(EXPECTED[name]["seconds"], abs=0.2)
    with decoded.files[0].open("rb") as pcm:
        stretches = plan(vad.speech_probabilities(vad.blocks(pcm)), (0, decoded.samples), PlanSettings())
    spans = [(start / SAMPLE_RATE, end / SAMPLE_RATE) for stretch in stretches for start, end in stretch]
    for phrase in EXPECTED[name]["phrases"]:
        assert any(start <= phrase["start"] + 0.1 and end >= phrase["end"] - 0.1 for start, end in spans)
    assert bool(spans) == bool(EXPECTED[name]["phrases"])
    if name == "pauses.ogg":
        assert len(spans) == len(EXPECTED[name]["phrases"])


async def test_probabilities_do_not_depend_on_where_the_batches_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = await audio.decode(AUDIO / "long.ogg", tmp_path)
    with decoded.files[0].open("rb") as pcm:
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
            yield block + np.float32(1e-4)

    monkeypatch.setattr(vad, "blocks", blocks)
    samples = 10 * 3600 * SAMPLE_RATE
    (tmp_path / "pcm").touch()
    os.truncate(tmp_path / "pcm", samples * SAMPLE_BYTES)
    source = Source(
        container="wav", codec="pcm", track=1, tracks=1, channels=1, layout="mono", sample_rate=SAMPLE_RATE
    )
    findings = Findings(duration_secs=36_000, source=source, warnings=())
    decoded = Decoded(files=[tmp_path / "pcm"], samples=samples, findings=findings)
    searching = asyncio.create_task(find_portions(decoded, PlanSettings(), (0, samples), use_vad=True))
    async with asyncio.timeout(10):
        await begun.wait()
        searching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await searching
        await loop.shutdown_default_executor()  # waits for its threads


async def test_silent_hours_are_looked_through_in_seconds(tmp_path: Path) -> None:
    """A hole in a recording costs neither disk nor the time of the voice model."""
    (tmp_path / "pcm").touch()
    os.truncate(tmp_path / "pcm", 3 * 3600 * SAMPLE_RATE * SAMPLE_BYTES)
    async with asyncio.timeout(20):
        with (tmp_path / "pcm").open("rb") as pcm:
            found = await asyncio.to_thread(lambda: vad.speech_probabilities(vad.blocks(pcm)))
    assert found.size == 3 * 3600 * SAMPLE_RATE // 512
    assert not found.any()


async def test_limits(tmp_path: Path) -> None:
    with pytest.raises(audio.DecodeError) as caught:
        await audio.decode(AUDIO / "long.ogg", tmp_path, limits=Limits(max_secs=10))
    assert caught.value.error.code is ErrorCode.AUDIO_TOO_LONG
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 12 * SAMPLE_RATE * SAMPLE_BYTES
    two = TranscribeOptions(channels="split")
    with pytest.raises(audio.DecodeError) as caught:
        await audio.decode(AUDIO / "stereo48k.flac", tmp_path, two, limits=Limits(max_secs=10))
    assert "2 channels together" in caught.value.error.message
    with pytest.raises(audio.DecodeError) as caught:
        await audio.decode(AUDIO / "long.ogg", tmp_path, limits=Limits(timeout_secs=0.001))
    assert caught.value.error.code is ErrorCode.DECODE_TIMEOUT
    assert [p for p in psutil.Process().children() if "decoder" in " ".join(p.cmdline())] == []


@pytest.mark.parametrize("kind", ["network", "another file"])
async def test_a_playlist_reaches_neither_the_network_nor_other_files(tmp_path: Path, kind: str) -> None:
    """An HLS playlist names what is to be opened: somebody else's audio, or an address behind the firewall."""
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
            await audio.decode(playlist, tmp_path)
    assert caught.value.error.code is ErrorCode.AUDIO_UNDECODABLE
    assert "HLS playlist" in caught.value.error.message
    assert not asked.is_set()


@pytest.mark.parametrize(("kills", "works"), [(2, True), (3, False)])
async def test_a_decoder_that_somebody_kills_is_started_again(
    tmp_path: Path, kills: int, works: bool
) -> None:
    count = tmp_path / "count"
    body = f'echo >> {count}\n[ $(wc -l < {count}) -le {kills} ] && kill -9 $$\nexec {REAL} "$@"'
    settings = WorkerSettings(decoder_command=decoder(tmp_path / "decoder", body)["DECODER_COMMAND"])
    work = audio.decode(AUDIO / "telephone.wav", tmp_path, command=settings.decoder())
    if works:
        assert (await work).samples > 0
    else:
        with pytest.raises(MachineTrouble, match="killed 3 times"):
            await work
    assert count.read_text().count("\n") == 3


@pytest.mark.parametrize(
    ("sig", "code"),
    [(signal.SIGSEGV, ErrorCode.AUDIO_UNDECODABLE), (signal.SIGXCPU, ErrorCode.DECODE_TIMEOUT)],
)
async def test_a_decoder_that_dies_of_the_file_fails_it_once(
    tmp_path: Path, sig: signal.Signals, code: ErrorCode
) -> None:
    command = ["/bin/sh", "-c", f"kill -{sig.value} $$"]
    with pytest.raises(audio.DecodeError) as caught:
        await audio.decode(AUDIO / "telephone.wav", tmp_path, command=command)
    assert caught.value.error.code is code


async def test_the_decoder_gets_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_URL", "nats://user:secret@127.0.0.1")
    monkeypatch.setenv("HTTP_PROXY", "http://secret")
    assert "secret" not in "".join(audio.environment().values())
