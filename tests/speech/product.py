"""The product: a whole system of real processes with one model on the CPU, to which recordings are submitted over HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from tests.speech.measures import Heard, Said
from tests.speech.values import BEAM_SIZE
from tests.support.http import transcribe
from tests.support.models import load
from tests.support.system import System

PARTS = ("decode", "plan", "engine")
"""The timings of a job that are work on its audio. Loading the model is none, and neither is waiting."""


@contextmanager
def running(model: Path, folder: Path) -> Iterator[httpx.Client]:
    """A client of a system that has loaded the model. Its logs are in the folder."""
    system = System(folder, model)
    try:
        system.worker(WHISPER_MODEL=model.stem, IDLE_TIMEOUT_SECS="0")
        gateway = system.gateway()
        load(gateway.http)
        yield gateway.http
    finally:
        system.close()


class Run(msgspec.Struct, frozen=True):
    """What came out, and how long the recording is."""

    heard: Heard
    audio_secs: float


def run(http: httpx.Client, recording: Path, language: str) -> Run:
    """Submit a recording, and return what comes out. Raises RuntimeError where it fails."""
    job = transcribe(http, recording, language=language, beam_size=str(BEAM_SIZE), words="true")
    if job["status"] != "done":
        raise RuntimeError(f"{recording.name}: {job['error']}")
    return Run(heard(job), job["duration_secs"])


def heard(job: dict[str, Any]) -> Heard:
    """Read a job that is done."""
    return Heard(
        language=job["language"] or "",
        segments=tuple(_said(segment) for segment in job["segments"]),
        words=tuple(_said(word) for segment in job["segments"] for word in segment["words"] or []),
        secs=sum(job["timings"][part] for part in PARTS),
    )


def _said(found: dict[str, Any]) -> Said:
    return Said(start=found["start"], end=found["end"], text=found["text"])
