"""A job that is given up while it is fetched or decoded makes room at once, and leaves nothing behind."""

import asyncio
import os
import time
from pathlib import Path

import nats
import psutil
import pytest

from tests.support.decoders import REAL, decoder
from tests.support.http import AUDIO, events, finish, submit, transcribe
from tests.support.system import System
from tests.support.waiting import wait_until

PATIENCE_SECS = 10
"""Far less than IDLE_TIMEOUT_SECS of the object store, and DECODE_TIMEOUT_SECS."""


class Hanging:
    """A decoder that hangs at its first file, and then is the real one."""

    def __init__(self, folder: Path) -> None:
        """`folder` is for its script."""
        self.pid_file = folder / "pid"
        body = (
            f'{{ [ -e {folder}/pid ] || [ "$1" = check ]; }} && exec {REAL} "$@"\n'
            f"echo $$ > {folder}/starting && mv {folder}/starting {folder}/pid\nexec sleep 600"
        )
        self.setting = decoder(folder / "decoder", body)

    def wait(self) -> None:
        """Until it hangs."""
        wait_until(self.pid_file.exists)

    def is_alive(self) -> bool:
        return psutil.pid_exists(int(self.pid_file.read_text()))


@pytest.fixture
def hanging(tmp_path: Path) -> Hanging:
    return Hanging(tmp_path)


def spooled(system: System) -> list[Path]:
    """Files of jobs."""
    return [path for path in system.spool.glob("*/*/*") if path.exists()]


def test_a_cancel_ends_a_decode(system: System, hanging: Hanging) -> None:
    gateway = system.gateway()
    system.worker(**hanging.setting)
    job_id = submit(gateway.http, "t.wav", (AUDIO / "telephone.wav").read_bytes())
    hanging.wait()
    begun = time.monotonic()
    assert gateway.http.delete(f"/jobs/{job_id}").json()["status"] == "cancelled"
    assert transcribe(gateway.http, AUDIO / "telephone.wav")["status"] == "done"
    assert time.monotonic() - begun < PATIENCE_SECS
    assert not hanging.is_alive()
    assert gateway.http.get(f"/jobs/{job_id}").json()["status"] == "cancelled"
    assert [e.event for e in events(gateway.http, job_id)].count("cancelled") == 1


def test_an_unload_does_not_wait_for_a_decode_and_loses_no_job(system: System, hanging: Hanging) -> None:
    gateway = system.gateway()
    system.worker(**hanging.setting)
    transcribing = submit(gateway.http, "t.wav", (AUDIO / "telephone.wav").read_bytes())
    hanging.wait()
    answer = gateway.http.post("/model/unload?force=true")
    assert answer.status_code in (200, 202), answer.text
    wait_until(lambda: gateway.http.get("/model/status").json()["state"] == "unloaded", PATIENCE_SECS)
    wait_until(lambda: not hanging.is_alive(), PATIENCE_SECS)
    assert gateway.http.get(f"/jobs/{transcribing}").json()["status"] == "queued"
    gateway.http.post("/model/load")
    assert finish(gateway.http, transcribing)["status"] == "done"


def test_a_file_that_is_long_in_preparation_holds_nobody_up(system: System, hanging: Hanging) -> None:
    """Also not while another one has the engine: what is behind it is prepared, transcribed and done."""
    gateway = system.gateway()
    system.worker(**hanging.setting)
    slow = submit(gateway.http, "slow.wav", (AUDIO / "telephone.wav").read_bytes())
    hanging.wait()
    begun = time.monotonic()
    for _ in range(3):
        assert transcribe(gateway.http, AUDIO / "telephone.wav")["status"] == "done"
    assert time.monotonic() - begun < 2 * PATIENCE_SECS
    assert gateway.http.get(f"/jobs/{slow}").json()["status"] == "queued"
    assert hanging.is_alive()


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
