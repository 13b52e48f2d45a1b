"""Gateways and workers that die, kill -9, in each state of the model; and what fifty lives leave behind."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from tests.support.http import AUDIO, TERMINAL, events, finish, submit
from tests.support.models import (
    ASYNC,
    REFUSE,
    ModelEvents,
    following,
    load,
    post,
    status,
    unload,
    wait_for_worker,
)
from tests.support.script import MIB, Script
from tests.support.system import Gateway, Process, System


@pytest.fixture
def gateway(system: System) -> Gateway:
    return system.gateway(**REFUSE)


@pytest.fixture
def script(system: System) -> Script:
    return system.script()


class State:
    """How to bring a model into a state, with a job or without, and what follows when it is let go on."""

    def __init__(
        self, plan: dict[str, str], with_job: bool, onward: Callable[[Gateway, Script], Any], *follows: str
    ) -> None:
        self.plan, self.with_job, self.onward, self.follows = plan, with_job, onward, list(follows)

    def reach(self, name: str, gateway: Gateway) -> tuple[str, str | None]:
        """The id of the event that tells of it, and the job's."""
        job_id = None
        with following(gateway.http) as seen:
            if self.with_job:
                job_id = post(gateway.http, ASYNC).json()["job_id"]
            elif name != "unloaded":
                gateway.http.post("/model/load")
            if name == "unloaded":
                return "", None
            if name == "running":
                segment = next(e for e in events(gateway.http, str(job_id)) if e.event == "segment")
                assert segment.id
                name = "ready"
            if name == "unloading":
                seen.wait_for("model_ready")
                gateway.http.post("/model/unload")
            seen.wait_for(f"model_{name}")
            return seen.seen[-1].id, job_id


def ask_to_load(gateway: Gateway, script: Script) -> None:
    gateway.http.post("/model/load")


STATES = {
    "unloaded": State({}, False, ask_to_load, "model_loading", "model_ready"),
    "loading": State({"load": "hold"}, True, lambda _, script: script.go(), "model_ready"),
    "waiting_for_gpu": State({"load": "oom ok"}, True, ask_to_load, "model_loading", "model_ready"),
    "ready": State({}, False, lambda g, _: g.http.post("/model/unload"), "model_unloading", "model_unloaded"),
    "running": State({"job": "hold"}, True, lambda _, script: script.go()),
    "unloading": State({"job": "deaf"}, False, lambda *_: None, "model_unloaded"),
    "error": State({"load": "fail ok"}, False, ask_to_load, "model_loading", "model_ready"),
}


@pytest.mark.parametrize("name", STATES)
def test_a_gateway_that_is_killed_loses_nothing(
    system: System, gateway: Gateway, script: Script, name: str
) -> None:
    state = STATES[name]
    script.plan(**state.plan)
    system.scripted_worker(script)
    wait_for_worker(gateway.http)
    last, job_id = state.reach(name, gateway)
    before = status(gateway.http)
    gateway.stop(signal.SIGKILL)
    again = system.gateway(**REFUSE)
    after = status(again.http)
    if name != "unloading":  # which goes on meanwhile
        assert (after["state"], after["since"]) == (before["state"], before["since"])
    resumed = ModelEvents(again.url, last)
    if not last:
        resumed.wait_for("model_status")
    state.onward(again, script)
    for kind in state.follows:
        resumed.wait_for(kind)
    assert [n for n in resumed.names() if n != "model_status"] == state.follows
    if job_id is not None:
        job = finish(again.http, job_id)
        assert job["status"] == "done"
        assert [s["index"] for s in job["segments"]] == list(range(len(job["segments"])))


@pytest.mark.parametrize("name", STATES)
def test_a_worker_that_is_killed_leaves_no_engine_and_loses_no_job(
    system: System, gateway: Gateway, script: Script, name: str
) -> None:
    state = STATES[name]
    script.plan(**state.plan)
    worker = system.scripted_worker(script)
    wait_for_worker(gateway.http)
    _, job_id = state.reach(name, gateway)
    engines = [psutil.Process(pid) for pid in script.alive()]
    worker.stop(signal.SIGKILL)
    if state.plan != {"job": "deaf"}:  # a scripted engine that ignores even its worker's death
        assert psutil.wait_procs(engines, timeout=5)[1] == []
    for engine in engines:
        if engine.is_running():
            engine.kill()
    assert status(gateway.http)["state"] == "offline"
    script.plan()
    with following(gateway.http) as seen:
        system.scripted_worker(script)
        seen.wait_for("model_unloaded")
        if job_id is None:
            gateway.http.post("/model/load")
        seen.wait_for("model_ready")
    if job_id is not None:
        assert finish(gateway.http, job_id)["status"] == "done"
        kinds = [e.event for e in events(gateway.http, job_id)]
        assert sum(kind in TERMINAL for kind in kinds) == 1


def test_a_dead_worker_is_offline_within_seconds(system: System, gateway: Gateway) -> None:
    worker = system.worker()
    wait_for_worker(gateway.http)
    assert gateway.http.get("/health").json()["model_state"] == "unloaded"
    worker.stop(signal.SIGKILL)
    deadline = time.monotonic() + 15
    while gateway.http.get("/health").json()["model_state"] != "offline":
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_worker_that_stops_in_order_is_offline_at_once(system: System, gateway: Gateway) -> None:
    worker = system.worker()
    wait_for_worker(gateway.http)
    assert worker.stop() == 0
    assert gateway.http.get("/health").json()["model_state"] == "offline"


@pytest.mark.parametrize("fate", ["killed", "frozen"])
def test_what_is_told_to_stop_stops_also_without_a_server(system: System, fate: str) -> None:
    """Within the 10 s that Docker gives a container, in order, with jobs in hand and a client on a stream."""
    worker, gateway, long = system.worker(), system.gateway(), AUDIO / "long.ogg"
    jobs = [submit(gateway.http, long.name, long.read_bytes()) for _ in range(3)]
    segment = next(e for e in events(gateway.http, jobs[0]) if e.event == "segment")
    assert segment.id
    with following(gateway.http):
        if fate == "killed":
            system.nats.stop(signal.SIGKILL)
        else:
            system.nats.freeze()
        for process in (worker, gateway):
            os.kill(process.pid, signal.SIGTERM)
        assert [process.wait(10) for process in (worker, gateway)] == [0, 0]
    for process in (worker, gateway):
        assert "Traceback" not in process.log.read_text()
    if fate == "frozen":
        system.nats.stop(signal.SIGKILL)


def open_files(worker: Process) -> int:
    return psutil.Process(worker.pid).num_fds()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_fifty_lives_leave_no_engine_and_no_file_descriptor(system: System, gateway: Gateway) -> None:
    """The real engine, fifty times loaded and unloaded."""
    worker = system.worker()
    wait_for_worker(gateway.http)
    after_few = 0
    for number in range(50):
        load(gateway.http)
        unload(gateway.http)
        if number == 4:
            after_few = open_files(worker)
    assert open_files(worker) <= after_few
    assert psutil.Process(worker.pid).children(recursive=True) == []


def test_memory_that_comes_and_goes_never_loses_a_job(
    system: System, gateway: Gateway, script: Script
) -> None:
    """Others take the GPU whenever we let go of it, ten times over; each time our job waits for them."""
    system.scripted_worker(script, GPU_POLL_INTERVAL_SECS="0.2")
    wait_for_worker(gateway.http)
    load(gateway.http)
    for _ in range(10):
        unload(gateway.http)
        script.gpu(others=8000 * MIB)
        with following(gateway.http) as seen:
            job_id = post(gateway.http, ASYNC).json()["job_id"]
            seen.wait_for("model_waiting_for_gpu")
            script.gpu(others=0)
            seen.wait_for("model_ready")
        assert finish(gateway.http, job_id)["status"] == "done"
    assert len(script.starts()) == 11
