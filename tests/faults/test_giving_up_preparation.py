"""A job that is given up while it is fetched or decoded makes room at once, and leaves nothing behind."""

import asyncio
import os
import time
from pathlib import Path

import nats
import psutil
import pytest

from gpu_worker.audio.ffmpeg import ffmpeg
from tests.support.http import AUDIO, events, finish, submit, transcribe
from tests.support.system import System
from tests.support.waiting import wait_until

PATIENCE_SECS = 10
"""Far less than IDLE_TIMEOUT_SECS of the object store, and DECODE_TIMEOUT_SECS."""


@pytest.fixture
def hanging_ffmpeg(tmp_path: Path) -> Path:
    """A folder with an ffmpeg that hangs at its first file, and says that it does in a file beside it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "ffmpeg"
    program.write_text(
        f"#!/bin/sh\n{{ [ -e {folder}/pid ] || [ \"$1\" = -version ]; }} && exec {ffmpeg()} \"$@\"\n"
        f"echo $$ > {folder}/starting && mv {folder}/starting {folder}/pid\nexec sleep 600\n"
    )  # fmt: skip
    program.chmod(0o755)
    return folder


def path_with(folder: Path) -> str:
    return f"{folder}:{os.environ['PATH']}"


def spooled(system: System) -> list[Path]:
    """Files of jobs."""
    return [path for path in system.spool.glob("*/*/*") if path.exists()]


def test_a_cancel_ends_a_decode(system: System, hanging_ffmpeg: Path) -> None:
    gateway = system.gateway()
    system.worker(PATH=path_with(hanging_ffmpeg))
    job_id = submit(gateway.http, "t.wav", (AUDIO / "telephone.wav").read_bytes())
    wait_until((hanging_ffmpeg / "pid").exists)
    begun = time.monotonic()
    assert gateway.http.delete(f"/jobs/{job_id}").json()["status"] == "cancelled"
    assert transcribe(gateway.http, AUDIO / "telephone.wav")["status"] == "done"
    assert time.monotonic() - begun < PATIENCE_SECS
    assert not psutil.pid_exists(int((hanging_ffmpeg / "pid").read_text()))
    assert gateway.http.get(f"/jobs/{job_id}").json()["status"] == "cancelled"
    assert [e.event for e in events(gateway.http, job_id)].count("cancelled") == 1


def test_an_unload_does_not_wait_for_a_decode_and_loses_no_job(system: System, hanging_ffmpeg: Path) -> None:
    gateway = system.gateway()
    system.worker(PATH=path_with(hanging_ffmpeg))
    transcribing = submit(gateway.http, "t.wav", (AUDIO / "telephone.wav").read_bytes())
    wait_until((hanging_ffmpeg / "pid").exists)
    answer = gateway.http.post("/model/unload?force=true")
    assert answer.status_code in (200, 202), answer.text
    wait_until(lambda: gateway.http.get("/model/status").json()["state"] == "unloaded", PATIENCE_SECS)
    wait_until(lambda: not psutil.pid_exists(int((hanging_ffmpeg / "pid").read_text())), PATIENCE_SECS)
    assert gateway.http.get(f"/jobs/{transcribing}").json()["status"] == "queued"
    gateway.http.post("/model/load")
    assert finish(gateway.http, transcribing)["status"] == "done"


def test_audio_whose_chunks_are_gone_is_missing_at_once(system: System) -> None:
    """The store knows it: nobody waits for what will not come."""

    async def put_half_an_object(name: str) -> None:
        client = await nats.connect(system.nats.url)
        js = client.jetstream()
        store = await js.object_store("WHISPER_AUDIO")
        info = await store.put(name, os.urandom(1_000_000))
        last = await js.get_last_msg("OBJ_WHISPER_AUDIO", f"$O.WHISPER_AUDIO.C.{info.nuid}")
        await js.delete_msg("OBJ_WHISPER_AUDIO", last.seq or 0)
        await js.publish("whisper.jobs.submit.half", b'{"audio":"half"}')
        await client.close()

    gateway = system.gateway()
    system.worker()
    begun = time.monotonic()
    asyncio.run(put_half_an_object("half"))
    job = finish(gateway.http, "half")
    assert (job["status"], job["error"]["code"]) == ("failed", "audio_missing")
    assert "7 of the 8 chunks" in job["error"]["message"]
    assert time.monotonic() - begun < PATIENCE_SECS
    wait_until(lambda: spooled(system) == [])
