"""What is not the file's fault fails no job and costs no attempt: the worker steps back, says why, and tries again."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from gpu_worker.blame import FIRST_PAUSE_SECS
from tests.support.decoders import REAL, SLOW, decoder
from tests.support.disk import exhaust, mounted, read_only_disk
from tests.support.http import AUDIO, events, finish, submit, transcribe
from tests.support.system import Gateway, System
from tests.support.waiting import wait_until

TELEPHONE = AUDIO / "telephone.wav"
ONE_TRY = {"JOB_MAX_ATTEMPTS": "1"}


def queue(gateway: Gateway, path: Path = TELEPHONE) -> str:
    return submit(gateway.http, path.name, path.read_bytes())


def troubles(gateway: Gateway) -> list[str]:
    """What workers say of themselves."""
    return [w["trouble"] for w in gateway.http.get("/health").json()["workers"] if w.get("trouble")]


def attempts(gateway: Gateway, job_id: str) -> list[int]:
    """Of each start of a job that has ended."""
    return [json.loads(e.data)["attempt"] for e in events(gateway.http, job_id) if e.event == "started"]


def check_innocent(gateway: Gateway, job_id: str) -> dict[str, Any]:
    """The job is done, nothing is missing or doubled, and no attempt was charged to it."""
    job = finish(gateway.http, job_id)
    assert job["status"] == "done", job["error"]
    assert [s["index"] for s in job["segments"]] == list(range(len(job["segments"])))
    assert set(attempts(gateway, job_id)) == {1}
    return job


def test_jobs_wait_while_the_spool_is_full(system: System, tmp_path: Path) -> None:
    gateway = system.gateway()
    with mounted(tmp_path / "disk", 8) as disk:
        filler = exhaust(disk)
        worker = system.worker(SPOOL_DIR=str(disk), **ONE_TRY)
        jobs = [queue(gateway) for _ in range(2)]
        wait_until(lambda: "No space left on device" in "".join(troubles(gateway)))
        assert [gateway.http.get(f"/jobs/{job_id}").json()["status"] for job_id in jobs] == ["queued"] * 2
        filler.unlink()
        for job_id in jobs:
            check_innocent(gateway, job_id)
        wait_until(lambda: troubles(gateway) == [])
        assert worker.stop() == 0


@pytest.mark.slow
def test_a_job_whose_audio_fills_the_spool_goes_to_another_worker(system: System, tmp_path: Path) -> None:
    """And does not hold up the others, although it comes back here from time to time."""
    gateway = system.gateway()
    with mounted(tmp_path / "disk", 4) as disk:
        worker = system.worker(SPOOL_DIR=str(disk), **ONE_TRY)
        large = queue(gateway, AUDIO / "long.ogg")  # 4.7 MB when it is decoded
        wait_until(lambda: "spool" in "".join(troubles(gateway)))
        assert transcribe(gateway.http, TELEPHONE)["status"] == "done"
        assert gateway.http.get(f"/jobs/{large}").json()["status"] == "queued"
        system.worker(**ONE_TRY)
        check_innocent(gateway, large)
        assert worker.stop() == 0


def test_jobs_wait_while_the_spool_is_read_only(system: System, tmp_path: Path) -> None:
    gateway = system.gateway()
    with read_only_disk(tmp_path / "disk") as disk:
        worker = system.worker(SPOOL_DIR=str(tmp_path / "disk"), **ONE_TRY)
        job_id = queue(gateway)
        wait_until(lambda: "Read-only file system" in "".join(troubles(gateway)))
        assert gateway.http.get(f"/jobs/{job_id}").json()["status"] == "queued"
        disk.set(False)
        check_innocent(gateway, job_id)
        assert worker.stop() == 0


def test_jobs_wait_while_there_can_be_no_spool(system: System, tmp_path: Path) -> None:
    """A variant that needs no mount: the folder's parent is a file."""
    gateway = system.gateway()
    (tmp_path / "in the way").touch()
    system.worker(SPOOL_DIR=str(tmp_path / "in the way" / "spool"), **ONE_TRY)
    job_id = queue(gateway)
    wait_until(lambda: "Not a directory" in "".join(troubles(gateway)))
    (tmp_path / "in the way").unlink()
    check_innocent(gateway, job_id)


def test_a_broken_ffmpeg_on_path_does_not_matter(system: System, tmp_path: Path) -> None:
    """As in the middle of an upgrade of the machine's packages: the decoder needs none of them."""
    decoder(tmp_path / "bin" / "ffmpeg", "echo 'ffmpeg: error while loading shared libraries' >&2; exit 127")
    gateway = system.gateway()
    system.worker(PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}", **ONE_TRY)
    check_innocent(gateway, queue(gateway))


@pytest.mark.parametrize("status", [126, 127])
def test_jobs_wait_while_no_decoder_can_be_started(system: System, tmp_path: Path, status: int) -> None:
    mended = tmp_path / "mended"
    body = f'[ -e {mended} ] && exec {REAL} "$@"; echo "libavcodec.so.59: cannot open" >&2; exit {status}'
    gateway = system.gateway()
    system.worker(**decoder(tmp_path / "decoder", body), **ONE_TRY)
    job_id = queue(gateway)
    wait_until(lambda: "libavcodec.so.59" in "".join(troubles(gateway)))
    assert gateway.http.get(f"/jobs/{job_id}").json()["status"] == "queued"
    mended.touch()
    check_innocent(gateway, job_id)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_a_decoder_that_is_killed_again_and_again_fails_no_job(
    system: System, tmp_path: Path, sig: signal.Signals
) -> None:
    kills = tmp_path / "kills"
    kills.touch()
    body = f'[ "$1" = check ] || [ $(wc -l < {kills}) -gt 4 ] && exec {REAL} "$@"; echo $$ >> {kills}; exec {SLOW} "$@"'
    gateway = system.gateway()
    system.worker(**decoder(tmp_path / "decoder", body), **ONE_TRY)
    job_id = queue(gateway, AUDIO / "long.ogg")
    killed = 0
    while killed < 5:
        wait_until(lambda: len(kills.read_text().split()) > killed)  # noqa: B023
        process = psutil.Process(int(kills.read_text().split()[killed]))
        wait_until(lambda: is_decoding(process))  # noqa: B023
        process.send_signal(sig)
        killed += 1
    check_innocent(gateway, job_id)


def is_decoding(process: psutil.Process) -> bool:
    """It has opened what it writes."""
    return any(file.path.endswith("pcm") for file in process.open_files())


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL])
def test_engines_that_are_killed_cost_nothing_but_pauses(system: System, sig: signal.Signals) -> None:
    script = system.script()
    script.plan(job="hold")
    gateway = system.gateway()
    system.scripted_worker(script, **ONE_TRY)
    job_id, kills = queue(gateway), list[float]()
    for number in range(3):
        wait_until(lambda: len(script.orders()) > number)  # noqa: B023
        if number < 2:
            os.kill(script.starts()[-1], sig)
            kills.append(time.monotonic())
    script.go()
    assert kills[1] - kills[0] > FIRST_PAUSE_SECS
    check_innocent(gateway, job_id)
    assert len(attempts(gateway, job_id)) == 3


def test_a_load_that_is_killed_again_and_again_fails_no_job(system: System) -> None:
    script = system.script()
    script.plan(load="hold")
    gateway = system.gateway()
    system.scripted_worker(script, **ONE_TRY)
    job_id = queue(gateway)
    for number in range(3):
        wait_until(lambda: len(script.starts()) > number)  # noqa: B023
        os.kill(script.starts()[-1], signal.SIGKILL)
    wait_until(lambda: "died 3 times in a row" in "".join(troubles(gateway)))
    assert gateway.http.get(f"/jobs/{job_id}").json()["status"] == "queued"
    script.go()
    check_innocent(gateway, job_id)
