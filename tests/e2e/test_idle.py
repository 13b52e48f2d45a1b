"""The idle clock in real time, with IDLE_TIMEOUT_SECS=5, and the real engine wherever it need not be held."""

import time
from datetime import datetime
from typing import Any

import pytest

from tests.support.http import finish
from tests.support.models import REFUSE, following, load, post, status, wait_for_worker
from tests.support.receiver import Receiver
from tests.support.system import Gateway, System

IDLE_SECS = 5
IDLE = {"IDLE_TIMEOUT_SECS": str(IDLE_SECS)}


@pytest.fixture
def gateway(system: System) -> Gateway:
    return system.gateway(**REFUSE)


def seconds_between(earlier: dict[str, Any], later: dict[str, Any]) -> float:
    """Between the beginnings of two states of the model."""
    begun, ended = (datetime.fromisoformat(model["since"]) for model in (earlier, later))
    return (ended - begun).total_seconds()


def start(system: System, gateway: Gateway) -> None:
    system.worker(**IDLE)
    wait_for_worker(gateway.http)


def test_an_idle_model_is_unloaded_and_a_job_loads_it_again(system: System, gateway: Gateway) -> None:
    start(system, gateway)
    with following(gateway.http) as seen:
        ready = load(gateway.http)
        assert 0 < ready["idle_secs_left"] <= IDLE_SECS
        unloading = seen.wait_for("model_unloading")
        assert IDLE_SECS <= seconds_between(ready, unloading) < 3 * IDLE_SECS
        assert seen.wait_for("model_unloaded")["idle_secs_left"] is None
        job_id = post(gateway.http, {"Prefer": "respond-async"}).json()["job_id"]
        seen.wait_for("model_ready")
        assert finish(gateway.http, job_id)["status"] == "done"


def test_a_job_resets_the_timer(system: System, gateway: Gateway) -> None:
    start(system, gateway)
    with following(gateway.http) as seen:
        ready = load(gateway.http)
        while status(gateway.http)["idle_secs_left"] > IDLE_SECS / 2:
            time.sleep(0.1)
        job = finish(gateway.http, post(gateway.http).json()["job_id"])
        unloading = seen.wait_for("model_unloading")
    ended = {"since": job["completed_at"]}
    assert seconds_between(ready, unloading) >= 1.5 * IDLE_SECS
    assert (
        seconds_between(ended, unloading) > IDLE_SECS - 1
    )  # the engine is free a moment before the job has ended


def test_not_under_a_running_job(system: System, gateway: Gateway) -> None:
    script = system.script()
    script.plan(job="hold")
    system.scripted_worker(script, **IDLE)
    wait_for_worker(gateway.http)
    ready = load(gateway.http)
    with following(gateway.http) as seen:
        job_id = post(gateway.http).json()["job_id"]
        deadline = time.monotonic() + 1.5 * IDLE_SECS
        while time.monotonic() < deadline:
            model = status(gateway.http)
            assert model["state"] == "ready"
            time.sleep(0.1)
        assert (model["job_id"], model["idle_secs_left"]) == (job_id, None)
        script.go()
        assert finish(gateway.http, job_id)["status"] == "done"
        assert seconds_between(ready, seen.wait_for("model_unloading")) > 2 * IDLE_SECS


def test_never_when_the_timeout_is_0(system: System, gateway: Gateway) -> None:
    system.worker(IDLE_TIMEOUT_SECS="0")
    wait_for_worker(gateway.http)
    assert load(gateway.http)["idle_secs_left"] is None


def test_the_event_and_the_webhook_are_sent(system: System, gateway: Gateway) -> None:
    receiver = Receiver()
    start(system, gateway)
    load(gateway.http)
    with following(gateway.http) as seen:
        finish(gateway.http, post(gateway.http, webhook_url=receiver.url).json()["job_id"])
        unloaded = seen.wait_for("model_unloaded")
    _, told = receiver.next_of("model_unloaded")
    assert told["model"] == unloaded
    receiver.close()
