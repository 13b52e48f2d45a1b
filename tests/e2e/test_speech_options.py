"""Options of transcription, through HTTP and a real engine."""

import itertools
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.ffmpeg import ffmpeg
from tests.support.http import AUDIO, EXPECTED, finish, submit, transcribe, words
from tests.support.system import Gateway, System

Shared = tuple[System, Gateway]
LONG = EXPECTED["long.ogg"]["phrases"]


def test_a_part_of_a_recording_has_the_times_of_the_whole(shared: Shared) -> None:
    _, gateway = shared
    first, last = LONG[3], LONG[5]
    begin, length = first["start"] - 0.3, last["end"] - first["start"] + 0.6
    job = transcribe(
        gateway.http, AUDIO / "long.ogg", offset_secs=str(begin), duration_secs=str(length), language="en"
    )
    assert words(job) == " ".join(phrase["text"] for phrase in LONG[3:6])
    assert job["segments"][0]["start"] == pytest.approx(first["start"], abs=0.3)
    assert job["segments"][-1]["end"] == pytest.approx(last["end"], abs=0.3)
    assert job["duration_secs"] == pytest.approx(EXPECTED["long.ogg"]["seconds"], abs=0.2)


@pytest.mark.parametrize("vad", ["true", "false"])
def test_an_offset_behind_the_end_is_an_error(shared: Shared, vad: str) -> None:
    _, gateway = shared
    job = transcribe(gateway.http, AUDIO / "telephone.wav", offset_secs="100", vad=vad)
    assert (job["status"], job["error"]["code"]) == ("failed", "invalid_option")
    assert "offset_secs" in job["error"]["message"]


def test_segments_of_a_few_characters(shared: Shared) -> None:
    _, gateway = shared
    plain = transcribe(gateway.http, AUDIO / "english.flac", language="en")
    job = transcribe(
        gateway.http, AUDIO / "english.flac", language="en", max_segment_chars="12", split_on_word="true"
    )
    assert words(job) == words(plain)
    assert len(job["segments"]) > len(plain["segments"])
    assert all(len(segment["text"].strip()) <= 12 for segment in job["segments"])
    assert all(a["end"] <= b["start"] + 0.01 for a, b in itertools.pairwise(job["segments"]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature_inc": "0.001"},
        {"temperature_inc": "-0.2"},
        {"entropy_threshold": "nan"},
        {"logprob_threshold": "1"},
        {"no_speech_threshold": "inf"},
        {"max_segment_chars": "-1"},
        {"offset_secs": "-1"},
        {"offset_secs": "nan"},
        {"duration_secs": "0"},
        {"suppress_non_speech": "maybe"},
        {"hotwords": "x" * 2000},
    ],
    ids=str,
)
def test_what_is_out_of_range_is_refused(shared: Shared, wrong: dict[str, str]) -> None:
    _, gateway = shared
    answer = gateway.http.post("/jobs", files={"audio": ("t.wav", b"x")}, data=wrong)
    [name] = wrong
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (
        422,
        "invalid_option",
        name,
    )


def test_what_a_segment_says_of_itself(shared: Shared) -> None:
    _, gateway = shared
    for segment in transcribe(gateway.http, AUDIO / "english.flac")["segments"]:
        assert segment["temperature"] == 0
        assert -1 < segment["avg_logprob"] <= 0
        assert 0.3 < segment["compression_ratio"] < 2
        assert 0 <= segment["no_speech_prob"] < 0.5
        assert len(segment["tokens"]) > 1
        assert segment["language"] is None


@pytest.fixture(scope="module")
def german_then_english(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Forty seconds of each."""
    folder = tmp_path_factory.mktemp("languages")
    for name in ("german", "english"):
        command = [
            ffmpeg(),
            "-v",
            "error",
            "-stream_loop",
            "20",
            "-i",
            str(AUDIO / f"{name}.flac"),
            "-t",
            "40",
        ]
        subprocess.run([*command, "-ar", "16000", "-ac", "1", str(folder / f"{name}.wav")], check=True)
    both = [
        "-i",
        str(folder / "german.wav"),
        "-i",
        str(folder / "english.wav"),
        "-filter_complex",
        "concat=n=2:v=0:a=1",
    ]
    subprocess.run([ffmpeg(), "-v", "error", *both, str(folder / "both.flac")], check=True)
    return Path(folder / "both.flac").read_bytes()


def languages(job: dict[str, Any]) -> list[str]:
    return [segment["language"] for segment in job["segments"]]


def test_a_recording_that_changes_its_language(system: System, german_then_english: bytes) -> None:
    gateway = system.gateway()
    system.worker(STRETCH_SECS="40")
    job = finish(
        gateway.http, submit(gateway.http, "both.flac", german_then_english, language_changes="true")
    )
    assert set(languages(job)) == {"de", "en"}
    assert languages(job)[0] == "de"
    assert languages(job)[-1] == "en"
    assert job["language"] == "de"
    plain = finish(gateway.http, submit(gateway.http, "both.flac", german_then_english))
    assert set(languages(plain)) == {None}
    assert plain["language"] == "de"
