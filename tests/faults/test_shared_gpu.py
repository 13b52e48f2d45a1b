"""A GPU that others use too: no room at load, no room in the middle of a job, and engines that will never load.

Engines and GPU are scripted (tests/support): what they say is what CUDA and NVML say, when they say it is the test's.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.http import events, finish
from tests.support.models import ASYNC, REFUSE, following, load, post, status, unload, wait_for_worker
from tests.support.script import MIB, Script
from tests.support.system import Gateway, System

POLL = {"GPU_POLL_INTERVAL_SECS": "0.3"}


@pytest.fixture
def gateway(system: System) -> Gateway:
    return system.gateway(**REFUSE)


@pytest.fixture
def script(system: System) -> Script:
    return system.script()


def start(system: System, gateway: Gateway, script: Script, **env: str) -> None:
    system.scripted_worker(script, **{**POLL, **env})
    wait_for_worker(gateway.http)


def kinds(gateway: Gateway, job_id: str) -> list[str]:
    return [event.event for event in events(gateway.http, job_id) if event.event != "progress"]


def test_a_hopeless_load_is_not_tried_and_comes_when_memory_does(
    system: System, gateway: Gateway, script: Script
) -> None:
    start(system, gateway, script, GPU_POLL_INTERVAL_SECS="2", JOB_ACK_WAIT_SECS="1")
    assert load(gateway.http)["vram"]["needed"] == 3000 * MIB
    unload(gateway.http)
    script.gpu(others=6000 * MIB)
    with following(gateway.http) as seen:
        job_id = post(gateway.http, ASYNC).json()["job_id"]
        waiting = seen.wait_for("model_waiting_for_gpu")
        assert waiting["reason"] == "The model needs 3,000 MiB of VRAM and 2,192 MiB are free."
        assert waiting["retry_at"] is not None
        refused = post(gateway.http)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
        assert "2,192 MiB are free" in refused.json()["detail"]
        script.gpu(others=0)
        seen.wait_for("model_ready")
    assert finish(gateway.http, job_id)["status"] == "done"
    assert kinds(gateway, job_id).count("started") == 1
    assert len(script.starts()) == 2


@pytest.mark.parametrize("times", [1, 3])
def test_out_of_memory_at_load_is_tried_again(
    system: System, gateway: Gateway, script: Script, times: int
) -> None:
    script.plan(load=" ".join(["oom"] * times + ["ok"]))
    start(system, gateway, script)
    with following(gateway.http) as seen:
        job_id = post(gateway.http, ASYNC).json()["job_id"]
        assert "cudaMalloc failed: out of memory" in seen.wait_for("model_waiting_for_gpu")["reason"]
        assert finish(gateway.http, job_id)["status"] == "done"
    assert len(script.starts()) == times + 1
    assert kinds(gateway, job_id).count("started") == 1


def test_out_of_memory_in_the_middle_of_a_job_is_no_attempt(
    system: System, gateway: Gateway, script: Script
) -> None:
    script.plan(job="oom oom oom oom ok")  # more often than JOB_MAX_ATTEMPTS
    start(system, gateway, script)
    with following(gateway.http) as seen:
        job_id = post(gateway.http, ASYNC).json()["job_id"]
        assert "out of memory" in seen.wait_for("model_waiting_for_gpu")["reason"]
        assert finish(gateway.http, job_id)["status"] == "done"
    assert kinds(gateway, job_id) == ["queued", "started", "segment", "done"]
    assert len(script.starts()) == 5


def test_what_was_found_before_the_memory_ran_out_is_kept(
    system: System, gateway: Gateway, script: Script
) -> None:
    script.plan(job="half half half half ok")
    start(system, gateway, script)
    job_id = post(gateway.http, ASYNC).json()["job_id"]
    job = finish(gateway.http, job_id)
    assert job["status"] == "done"
    first, second = job["segments"]
    assert first["text"].startswith(" first half")
    assert second["text"].startswith(" all of it")
    assert first["end"] <= second["start"]
    # Each engine found the first half again, and the last one something else, so that it went on behind it.
    assert kinds(gateway, job_id) == ["queued", "started", "segment", "segment", "done"]
    assert len(script.starts()) == 5
    whole, *again, rest = [order.spans for order in script.orders()]
    assert again == [whole] * 4
    assert rest[0][0] > whole[0][0]


def test_a_waiting_job_is_kept_alive_and_can_be_cancelled(
    system: System, gateway: Gateway, script: Script
) -> None:
    """Kept alive for longer than JOB_ACK_WAIT_SECS: a job that was delivered again would be prepared again."""
    script.plan(load="oom")
    worker = system.scripted_worker(script, JOB_ACK_WAIT_SECS="1", GPU_POLL_INTERVAL_SECS="0.5")
    wait_for_worker(gateway.http)
    with following(gateway.http) as seen:
        job_id = post(gateway.http, ASYNC).json()["job_id"]
        for _ in range(6):
            seen.wait_for("model_waiting_for_gpu")
        answer = gateway.http.delete(f"/jobs/{job_id}")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert kinds(gateway, job_id) == ["queued", "cancelled"]
    assert gateway.http.get("/health").json()["queue_depth"] == 0
    assert status(gateway.http)["job_id"] is None
    assert "delivered again" not in worker.log.read_text()


def test_unload_ends_the_waiting(system: System, gateway: Gateway, script: Script) -> None:
    script.plan(load="oom")
    start(system, gateway, script, GPU_POLL_INTERVAL_SECS="30")
    with following(gateway.http) as seen:
        gateway.http.post("/model/load")
        seen.wait_for("model_waiting_for_gpu")
        assert gateway.http.post("/model/unload").status_code == 200
        seen.wait_for("model_unloaded")
    assert script.alive() == []


def test_what_the_unload_gave_back_is_measured(system: System, gateway: Gateway, script: Script) -> None:
    script.gpu(others=1000 * MIB)
    start(system, gateway, script)
    load(gateway.http)
    report = unload(gateway.http)["last_unload"]
    assert (report["vram_used_before"], report["vram_used_after"]) == (4000 * MIB, 1000 * MIB)


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        ("fail", "no kernel image is available for execution on the device"),
        ("abort", "GGML_ASSERT(false) failed"),
        ("garbage", "gibberish"),
        ("hang", "said nothing for 1 s"),
    ],
)
def test_a_load_that_fails_is_an_error_and_not_tried_again_until_asked(
    system: System, gateway: Gateway, script: Script, plan: str, reason: str
) -> None:
    script.plan(load=f"{plan} ok")
    start(system, gateway, script, ENGINE_LOAD_TIMEOUT_SECS="1")
    with following(gateway.http) as seen:
        gateway.http.post("/model/load")
        assert reason in seen.wait_for("model_error")["reason"]
    refused = post(gateway.http)
    assert (refused.status_code, refused.json()["code"]) == (503, "model_unavailable")
    assert reason in refused.json()["detail"]
    assert gateway.http.get("/health").json()["status"] == "degraded"
    assert (len(script.starts()), script.alive()) == (1, [])
    assert load(gateway.http)["state"] == "ready"


def test_a_load_that_somebody_kills_is_tried_again(system: System, gateway: Gateway, script: Script) -> None:
    """As the kernel does when memory is short: that says nothing about the model."""
    script.plan(load="hold ok")
    start(system, gateway, script)
    with following(gateway.http) as seen:
        job_id = post(gateway.http, ASYNC).json()["job_id"]
        seen.wait_for("model_loading")
        while not script.alive():
            pass
        os.kill(script.alive()[0], signal.SIGKILL)
        assert finish(gateway.http, job_id)["status"] == "done"
    assert len(script.starts()) == 2


def test_a_queued_job_is_told_why_there_is_no_model(system: System, gateway: Gateway, script: Script) -> None:
    script.plan(load="fail")
    start(system, gateway, script)
    job = finish(gateway.http, post(gateway.http, ASYNC).json()["job_id"])
    assert (job["status"], job["error"]["code"]) == ("failed", "model_unavailable")
    assert "no kernel image" in job["error"]["message"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: None, "There is no model file at"),
        (lambda data: data[: len(data) // 2], "it is cut off"),
        (lambda data: b"RIFF" + data[4:], "it is no ggml file"),
    ],
    ids=["missing", "truncated", "foreign"],
)
def test_a_bad_model_file_is_seen_before_an_engine_is_started(
    system: System,
    gateway: Gateway,
    script: Script,
    demo_model: Path,
    tmp_path: Path,
    damage: Callable[[bytes], bytes | None],
    reason: str,
) -> None:
    path, good = tmp_path / "model.bin", demo_model.read_bytes()
    if (bad := damage(good)) is not None:
        path.write_bytes(bad)
    start(system, gateway, script, WHISPER_MODEL_PATH=str(path))
    with following(gateway.http) as seen:
        gateway.http.post("/model/load")
        assert reason in seen.wait_for("model_error")["reason"]
    assert script.starts() == []
    path.write_bytes(good)
    assert load(gateway.http)["state"] == "ready"


@pytest.mark.parametrize("plan", ["abort", "garbage"])
def test_an_engine_that_dies_under_a_job_costs_an_attempt(
    system: System, gateway: Gateway, script: Script, plan: str
) -> None:
    script.plan(job=f"{plan} ok")
    start(system, gateway, script)
    job_id = post(gateway.http, ASYNC).json()["job_id"]
    assert finish(gateway.http, job_id)["status"] == "done"
    assert kinds(gateway, job_id) == ["queued", "started", "started", "segment", "done"]


def test_an_engine_that_ignores_orders_is_killed(system: System, gateway: Gateway, script: Script) -> None:
    script.plan(job="deaf ok")
    start(system, gateway, script, ABORT_GRACE_SECS="0.3")
    job_id = post(gateway.http, ASYNC).json()["job_id"]
    with following(gateway.http) as seen:
        while status(gateway.http)["job_id"] != job_id:
            pass
        [engine] = script.alive()
        assert gateway.http.delete(f"/jobs/{job_id}").json()["status"] == "cancelled"
        seen.wait_for("model_unloaded")
    assert engine not in script.alive()
    assert finish(gateway.http, post(gateway.http, ASYNC).json()["job_id"])["status"] == "done"
