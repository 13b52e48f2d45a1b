"""The broker is away, in each phase of a job and for however long: that costs the job nothing."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.js import JetStreamContext

from broker import object_reading
from broker.object_store import ObjectStore
from broker.patience import patiently
from schemas.subjects import AUDIO_BUCKET
from tests.faults.test_whose_fault import ONE_TRY, check_innocent, queue
from tests.support.decoders import REAL, decoder
from tests.support.http import events
from tests.support.nats_process import NatsProcess
from tests.support.system import Gateway, System
from tests.support.waiting import wait_until

PATIENCE_SECS = 30


def comes_back(system: System, gateway: Gateway) -> None:
    """After an outage, with what it had stored."""
    time.sleep(0.8)  # the length of the outage is the case
    system.nats.start()
    wait_until(lambda: gateway.http.get("/health").json()["broker"] == "ok")


def test_three_outages_in_one_stretch_are_no_attempt(system: System) -> None:
    """Each longer than the ack wait."""
    script = system.script()
    script.plan(job="drip")
    gateway = system.gateway(JOB_ACK_WAIT_SECS="0.5")
    worker = system.scripted_worker(script, **ONE_TRY, JOB_ACK_WAIT_SECS="0.5")
    job_id = queue(gateway)
    next(e for e in events(gateway.http, job_id) if e.event == "segment")
    for _ in range(3):
        system.nats.stop(signal.SIGKILL)
        comes_back(system, gateway)
        last = len(gateway.http.get(f"/jobs/{job_id}").json()["segments"])
        wait_until(lambda: len(gateway.http.get(f"/jobs/{job_id}").json()["segments"]) > last)  # noqa: B023
    job = check_innocent(gateway, job_id)
    kinds = [e.event for e in events(gateway.http, job_id)]
    assert kinds.count("started") == 1
    assert len(job["segments"]) == 60
    assert len(script.starts()) == 1
    assert "Traceback" not in worker.log.read_text()


def test_an_outage_while_the_job_is_claimed(system: System) -> None:
    """The engine is ready, and the broker is not there to be told."""
    script = system.script()
    script.plan(load="hold")
    gateway = system.gateway()
    worker = system.scripted_worker(script, **ONE_TRY)
    job_id = queue(gateway)
    wait_until(lambda: len(script.starts()) == 1)
    system.nats.stop(signal.SIGKILL)
    script.go()
    wait_until(lambda: "model: loading -> ready" in worker.log.read_text())
    comes_back(system, gateway)
    check_innocent(gateway, job_id)


def test_an_outage_at_the_end_of_the_job(system: System) -> None:
    script = system.script()
    script.plan(job="hold")
    gateway = system.gateway()
    system.scripted_worker(script, **ONE_TRY)
    job_id = queue(gateway)
    next(e for e in events(gateway.http, job_id) if e.event == "segment")
    system.nats.stop(signal.SIGKILL)
    script.go()
    comes_back(system, gateway)
    assert len(check_innocent(gateway, job_id)["segments"]) == 2


def test_an_outage_while_the_file_is_decoded(system: System, tmp_path: Path) -> None:
    """What is then said of the preparation is said when the broker is back."""
    go = tmp_path / "go"
    wait = f'[ "$1" = check ] || until [ -e {go} ]; do sleep 0.05; done; exec {REAL} "$@"'
    waiting = decoder(tmp_path / "bin" / "decoder", f"touch {tmp_path}/$$.began; {wait}")
    gateway = system.gateway()
    system.worker(**waiting, **ONE_TRY)
    job_id = queue(gateway)
    wait_until(lambda: len(list(tmp_path.glob("*.began"))) == 2)  # the probe, and the job
    system.nats.stop(signal.SIGKILL)
    go.touch()
    comes_back(system, gateway)
    check_innocent(gateway, job_id)


async def test_a_server_that_hangs_during_a_fetch_is_waited_for(
    nats_process: NatsProcess, js: JetStreamContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does for 35 s in the field; here a chunk is missed after half a second."""
    monkeypatch.setattr(object_reading, "IDLE_TIMEOUT_SECS", 0.5)
    store, path, size = ObjectStore(js, AUDIO_BUCKET), tmp_path / "audio", 128 * 2**20

    async def audio() -> AsyncIterator[bytes]:
        for _ in range(size // 2**20):
            yield bytes(2**20)

    await store.put("j1", audio())
    fetching = asyncio.create_task(patiently("fetching", lambda: store.get_to_file("j1", path)))
    while not (path.exists() and path.stat().st_size > 0):
        await asyncio.sleep(0)
    nats_process.freeze()
    await asyncio.sleep(2)  # the length of the outage is the case
    assert not fetching.done()
    nats_process.thaw()
    async with asyncio.timeout(PATIENCE_SECS):
        assert await fetching == size
