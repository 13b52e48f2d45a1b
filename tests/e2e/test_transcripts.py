"""What comes out of the whole system for real speech: words, language, task and times."""

from pathlib import Path
from typing import Any

import pytest

from gpu_worker.audio.decoding import decode
from gpu_worker.engine.process import EngineProcess
from gpu_worker.engine.protocol import Load, SegmentFound, Transcribe
from gpu_worker.settings import WorkerSettings
from schemas.options import DEFAULT_BEAM_SIZE, TranscribeOptions
from tests.support.http import AUDIO, EXPECTED, transcribe, words
from tests.support.system import Gateway, System

Shared = tuple[System, Gateway]
TOLERANCE_SECS = 0.3
SPOKEN = [name for name, known in EXPECTED.items() if known["phrases"]]


def assert_times(job: dict[str, Any], phrases: list[dict[str, Any]]) -> None:
    """Each phrase is one segment, and begins and ends when it is spoken."""
    found = [(s["start"], s["end"], s["text"].strip()) for s in job["segments"]]
    assert [text for _, _, text in found] == [p["text"] for p in phrases]
    for (start, end, text), phrase in zip(found, phrases, strict=True):
        assert start == pytest.approx(phrase["start"], abs=TOLERANCE_SECS), text
        assert end == pytest.approx(phrase["end"], abs=TOLERANCE_SECS), text


@pytest.mark.parametrize("name", SPOKEN)
def test_every_format_gives_words_language_and_times(shared: Shared, name: str) -> None:
    _, gateway = shared
    known = EXPECTED[name]
    job = transcribe(gateway.http, AUDIO / name)
    assert job["status"] == "done", job["error"]
    assert words(job) == " ".join(p["text"] for p in known["phrases"])
    assert job["language"] == known["language"]
    assert job["language_probability"] > 0.9
    assert job["duration_secs"] == pytest.approx(known["seconds"], abs=0.2)
    assert job["progress"] == 100
    assert job["filename"] == name
    assert_times(job, known["phrases"])


def test_german_is_translated_to_english(shared: Shared) -> None:
    _, gateway = shared
    job = transcribe(gateway.http, AUDIO / "german.flac", task="translate", language="de")
    assert words(job) == " ".join(p["english"] for p in EXPECTED["german.flac"]["phrases"])
    assert (job["task"], job["language"]) == ("translate", "de")


@pytest.mark.parametrize("vad", ["true", "false"])
def test_silence_gives_nothing(shared: Shared, vad: str) -> None:
    _, gateway = shared
    job = transcribe(gateway.http, AUDIO / "silence.flac", vad=vad)
    assert (job["status"], job["segments"], job["language"]) == ("done", [], None)


def test_words_have_times(shared: Shared) -> None:
    _, gateway = shared
    job = transcribe(gateway.http, AUDIO / "english.flac", words="true")
    for segment in job["segments"]:
        assert "".join(w["text"] for w in segment["words"]) == segment["text"]
        times = [t for w in segment["words"] for t in (w["start"], w["end"])]
        assert times == sorted(times)
        assert segment["start"] - TOLERANCE_SECS <= times[0] <= times[-1] <= segment["end"] + TOLERANCE_SECS


def test_long_pauses_are_not_computed_on(shared: Shared) -> None:
    """55 s with 6 phrases: joined, the speech fits into one window instead of two."""
    _, gateway = shared
    job = transcribe(gateway.http, AUDIO / "pauses.ogg")
    assert_times(job, EXPECTED["pauses.ogg"]["phrases"])


async def direct(model: Path, name: str, folder: Path, language: str, beam_size: int) -> list[SegmentFound]:
    """What a fresh engine with the worker's settings finds."""
    settings = WorkerSettings()
    decoded = await decode(AUDIO / name, folder)
    engine = await EngineProcess.start(settings.command(), stall_secs=60)
    await engine.load(Load(model_path=str(model), threads=settings.threads(), beam_size=8), 60)
    order = Transcribe(
        call=0,
        pcm_path=str(decoded.files[0]),
        spans=[(0, decoded.samples)],
        options=TranscribeOptions(language=language, beam_size=beam_size),
        said=[],
    )
    found = [r async for r in engine.transcribe(order) if isinstance(r, SegmentFound)]
    await engine.stop()
    return found


def assert_same(job: dict[str, Any], found: list[SegmentFound]) -> None:
    """Times are another matter: the job's are those of the voice."""
    assert found
    assert [(s["text"], s["avg_logprob"], s["temperature"]) for s in job["segments"]] == [
        (s.text, s.avg_logprob, s.temperature) for s in found
    ]
    assert [s["index"] for s in job["segments"]] == list(range(len(found)))


@pytest.mark.parametrize("beam_size", [1, DEFAULT_BEAM_SIZE])
@pytest.mark.parametrize(("name", "language"), [("long.ogg", "auto"), ("german.flac", "de")])
async def test_http_equals_a_direct_call_of_a_fresh_engine(
    shared: Shared, tmp_path: Path, demo_model: Path, name: str, language: str, beam_size: int
) -> None:
    """The engine behind HTTP has had other jobs before."""
    _, gateway = shared
    job = transcribe(gateway.http, AUDIO / name, vad="false", language=language, beam_size=str(beam_size))
    assert_same(job, await direct(demo_model, name, tmp_path, language, beam_size=beam_size))


@pytest.mark.parametrize("name", ["telephone.wav", "long.ogg"])
def test_words_follow_each_other_and_none_is_without_length(shared: Shared, name: str) -> None:
    _, gateway = shared
    job = transcribe(gateway.http, AUDIO / name, words="true")
    for segment in job["segments"]:
        words = segment["words"]
        assert "".join(w["text"] for w in words) == segment["text"]
        assert all(w["start"] < w["end"] for w in words)
        edges = [segment["start"], *(t for w in words for t in (w["start"], w["end"])), segment["end"]]
        assert edges == sorted(edges)
