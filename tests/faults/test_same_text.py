"""The same audio with the same options gives the same text, whatever was before it and whoever is killed: beam search, several stretches."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.http import AUDIO, events, finish, submit
from tests.support.system import Gateway, System

STRETCHES = {"STRETCH_SECS": "30", "JOB_ACK_WAIT_SECS": "2"}
OPTIONS = {"words": "true", "hotwords": "seven", "prompt": "Digits:"}
OTHERS: tuple[tuple[str, dict[str, str]], ...] = (
    ("german.flac", {"beam_size": "1", "language": "de"}),
    ("english.flac", {"temperature": "0.7"}),
    ("pauses.ogg", {"beam_size": "8", "vad": "false"}),
)


def start(gateway: Gateway, audio: bytes) -> str:
    return submit(gateway.http, "long.ogg", audio, **OPTIONS)


def segments(job: dict[str, Any]) -> list[dict[str, Any]]:
    assert job["status"] == "done", job["error"]
    assert len(job["segments"]) > 10
    found: list[dict[str, Any]] = job["segments"]
    return found


@pytest.fixture(scope="module")
def audio() -> bytes:
    return Path(AUDIO / "long.ogg").read_bytes()


def test_whatever_was_before_and_whoever_is_killed(system: System, audio: bytes) -> None:
    gateway = system.gateway()
    worker = system.worker(**STRETCHES)
    first = finish(gateway.http, start(gateway, audio))
    expected = segments(first)
    for name, options in OTHERS:
        finish(gateway.http, submit(gateway.http, name, (AUDIO / name).read_bytes(), **options))
        assert segments(finish(gateway.http, start(gateway, audio))) == expected, f"after {name}"
    job_id, killed = start(gateway, audio), False
    for event in events(gateway.http, job_id):
        # In the second stretch, so that it has to be found again what was published of it.
        if event.event == "segment" and not killed and number_of(event.data) == len(expected) // 2:
            worker.stop(signal.SIGKILL)
            system.worker(**STRETCHES)
            killed = True
    assert killed
    assert segments(finish(gateway.http, job_id)) == expected
    assert first["timings"]["windows"] >= 3


def number_of(data: str) -> int:
    return int(json.loads(data)["segment"]["index"])
