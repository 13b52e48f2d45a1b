"""The life of the model over HTTP and NATS, with the real engine on the CPU, and scripted ones where time must stand."""

import asyncio
import concurrent.futures
import json
from typing import Any

import nats
import pytest

from tests.support.http import AUDIO, EXPECTED, events, finish, submit, words
from tests.support.models import (
    ASYNC,
    REFUSE,
    TELEPHONE,
    ModelEvents,
    following,
    load,
    post,
    status,
    wait_for_worker,
)
from tests.support.receiver import Receiver
from tests.support.system import Gateway, System


@pytest.fixture
def gateway(system: System) -> Gateway:
    return system.gateway(**REFUSE)


def start_worker(system: System, gateway: Gateway, **env: str) -> None:
    """A worker that the gateway has heard of."""
    with following(gateway.http) as seen:
        system.worker(WORKER_ID="w1", **env)
        seen.wait_for("model_unloaded")


def test_it_starts_unloaded(system: System, gateway: Gateway) -> None:
    start_worker(system, gateway)
    model = status(gateway.http)
    assert (model["state"], model["worker_id"], model["model"]) == ("unloaded", "w1", "demo")
    assert (model["backend"], model["load_secs"], model["idle_secs_left"]) == (None, None, None)


def test_the_whole_life_in_order(system: System, gateway: Gateway) -> None:
    start_worker(system, gateway)
    with following(gateway.http) as seen:
        answer = gateway.http.post("/model/load")
        assert (answer.status_code, answer.json()["state"]) == (202, "loading")
        ready = seen.wait_for("model_ready")
        assert (ready["backend"], ready["load_secs"] > 0) == ("cpu", True)
        assert 290 < ready["idle_secs_left"] <= 300
        answer = gateway.http.post("/model/unload")
        assert (answer.status_code, answer.json()["state"]) == (202, "unloading")
        unloaded = seen.wait_for("model_unloaded")
        assert unloaded["backend"] is None
        assert unloaded["load_secs"] == ready["load_secs"]
        assert unloaded["last_unload"]["vram_used_before"] is None  # there is no GPU here
        assert seen.names() == [
            "model_status", "model_loading", "model_ready", "model_unloading", "model_unloaded",
        ]  # fmt: skip


def test_load_when_ready_is_200_and_changes_nothing(system: System, gateway: Gateway) -> None:
    start_worker(system, gateway)
    before = load(gateway.http)
    answer = gateway.http.post("/model/load")
    assert (answer.status_code, answer.json()["state"], answer.json()["since"]) == (
        200,
        "ready",
        before["since"],
    )


def test_unload_when_unloaded_is_200(system: System, gateway: Gateway) -> None:
    start_worker(system, gateway)
    assert gateway.http.post("/model/unload").status_code == 200
    assert status(gateway.http)["state"] == "unloaded"


def test_ten_concurrent_loads_are_one(system: System, gateway: Gateway) -> None:
    script = system.script()
    script.plan(load="hold")
    system.scripted_worker(script)
    with following(gateway.http) as seen:
        wait_for_worker(gateway.http)
        with concurrent.futures.ThreadPoolExecutor(10) as pool:
            answers = [pool.submit(gateway.http.post, "/model/load") for _ in range(10)]
            assert {a.result().status_code for a in answers} == {202}
        script.go()
        seen.wait_for("model_ready")
    assert len(script.starts()) == 1
    assert seen.names().count("model_loading") == 1


def test_unload_during_load_wins(system: System, gateway: Gateway) -> None:
    script = system.script()
    script.plan(load="hold")
    system.scripted_worker(script)
    wait_for_worker(gateway.http)
    with following(gateway.http) as seen:
        gateway.http.post("/model/load")
        seen.wait_for("model_loading")
        assert gateway.http.post("/model/unload").status_code == 202
        seen.wait_for("model_unloaded")
    assert script.alive() == []
    assert "model_ready" not in seen.names()


def test_a_job_that_arrives_while_unloading_starts_a_reload(system: System, gateway: Gateway) -> None:
    script = system.script()
    script.plan(job="deaf ok")  # the first engine must be killed, which takes two seconds
    system.scripted_worker(script)
    wait_for_worker(gateway.http)
    load(gateway.http)
    with following(gateway.http) as seen:
        assert gateway.http.post("/model/unload").json()["state"] == "unloading"
        job_id = post(gateway.http, ASYNC).json()["job_id"]
        seen.wait_for("model_loading")
        assert finish(gateway.http, job_id)["status"] == "done"
    assert seen.names().index("model_unloading") < seen.names().index("model_loading")
    assert len(script.starts()) == 2


def test_not_ready_is_503_then_202(system: System, gateway: Gateway) -> None:
    start_worker(system, gateway)
    with following(gateway.http) as seen:
        answer = post(gateway.http)
        assert (answer.status_code, answer.json()["code"]) == (503, "model_not_ready")
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
        seen.wait_for("model_ready")
    answer = post(gateway.http)
    assert answer.status_code == 202
    job = finish(gateway.http, answer.json()["job_id"])
    assert words(job) == " ".join(p["text"] for p in EXPECTED["telephone.wav"]["phrases"])


def test_retry_after_is_the_measured_load_time(system: System, gateway: Gateway) -> None:
    start_worker(system, gateway)
    load_secs = load(gateway.http)["load_secs"]
    with following(gateway.http) as seen:
        gateway.http.post("/model/unload")
        seen.wait_for("model_unloaded")
        assert int(post(gateway.http).headers["Retry-After"]) == max(1, -(-load_secs // 1))


def test_503_comes_before_the_body_is_read(system: System, gateway: Gateway) -> None:
    start_worker(system, gateway)

    def endless() -> Any:
        yield b'--x\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'
        while True:
            yield bytes(65536)

    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = gateway.http.post("/jobs", content=endless(), headers=kind)
    assert (answer.status_code, answer.json()["code"]) == (503, "model_not_ready")


def test_respond_async_and_the_setting_queue(system: System, gateway: Gateway) -> None:
    start_worker(system, gateway)
    answer = post(gateway.http, {"Prefer": "wait=10, respond-async"})
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (202, "respond-async")
    assert finish(gateway.http, answer.json()["job_id"])["status"] == "done"
    with following(gateway.http) as seen:
        gateway.http.post("/model/unload")
        seen.wait_for("model_unloaded")
    queueing = system.gateway(JOBS_WHEN_UNLOADED="queue")
    assert finish(queueing.http, post(queueing.http).json()["job_id"])["status"] == "done"


async def test_a_direct_nats_job_triggers_the_load(system: System, gateway: Gateway) -> None:
    await asyncio.to_thread(start_worker, system, gateway)
    client = await nats.connect(system.nats.url)
    js = client.jetstream()
    store = await js.object_store("WHISPER_AUDIO")
    await store.put("direct1", TELEPHONE.read_bytes())
    await js.publish("whisper.jobs.submit.direct1", b"{}")
    job = await asyncio.to_thread(finish, gateway.http, "direct1")
    assert job["status"] == "done"
    assert (await asyncio.to_thread(status, gateway.http))["state"] == "ready"
    await client.close()


def test_no_worker_is_offline(gateway: Gateway) -> None:
    assert status(gateway.http)["state"] == "offline"
    answer = post(gateway.http)
    assert (answer.status_code, answer.json()["code"]) == (503, "model_not_ready")
    assert int(answer.headers["Retry-After"]) >= 1
    assert gateway.http.post("/model/load").status_code == 503
    assert gateway.http.get("/health").json()["model_state"] == "offline"
    assert gateway.http.get("/health/ready").status_code == 200


def test_unload_during_a_job_is_409_and_with_force_it_resumes_after_the_next_load(
    system: System, gateway: Gateway
) -> None:
    """The long file is several stretches of 30 s; the force comes in the middle."""
    start_worker(system, gateway, STRETCH_SECS="30")
    load(gateway.http)
    job_id = submit(gateway.http, "long.ogg", (AUDIO / "long.ogg").read_bytes())
    follower = events(gateway.http, job_id)
    seen_segments = 0
    while seen_segments < 12:  # in the second stretch
        seen_segments += next(follower).event == "segment"
    assert (refused := gateway.http.post("/model/unload")).status_code == 409
    assert refused.json()["code"] == "job_running"
    with following(gateway.http) as seen:
        assert gateway.http.post("/model/unload?force=true").status_code == 202
        unloaded = seen.wait_for("model_unloaded")
    assert unloaded["holds_off"]
    job = gateway.http.get(f"/jobs/{job_id}").json()
    assert job["status"] == "queued"
    assert status(gateway.http)["state"] == "unloaded"
    load(gateway.http)
    job = finish(gateway.http, job_id)
    assert job["status"] == "done"
    spoken = " ".join(p["text"] for p in EXPECTED["long.ogg"]["phrases"]).split()
    assert abs(len(words(job).split()) - len(spoken)) <= 0.03 * len(spoken)
    assert [s["index"] for s in job["segments"]] == list(range(len(job["segments"])))
    starts = [e for e in events(gateway.http, job_id) if e.event == "started"]
    assert [json.loads(e.data)["attempt"] for e in starts] == [1, 1]


def test_a_new_job_wakes_a_worker_that_holds_off(system: System, gateway: Gateway) -> None:
    script = system.script()
    script.plan(job="hold ok")
    system.scripted_worker(script)
    wait_for_worker(gateway.http)
    first = post(gateway.http, ASYNC).json()["job_id"]
    wait_for_segment(gateway, first)
    with following(gateway.http) as seen:
        gateway.http.post("/model/unload?force=true")
        seen.wait_for("model_unloaded")
        second = post(gateway.http, ASYNC).json()["job_id"]
        assert {finish(gateway.http, job)["status"] for job in (first, second)} == {"done"}


def wait_for_segment(gateway: Gateway, job_id: str) -> None:
    assert any(e.event == "segment" for e in iter_until_segment(gateway, job_id))


def iter_until_segment(gateway: Gateway, job_id: str) -> Any:
    for event in events(gateway.http, job_id):
        yield event
        if event.event == "segment":
            return


def test_events_resume_behind_the_last_seen(system: System, gateway: Gateway) -> None:
    start_worker(system, gateway)
    with following(gateway.http) as seen:
        gateway.http.post("/model/load")
        seen.wait_for("model_ready")
        ids = [e.id for e in seen.seen if e.event != "model_status"]
        assert all(ids)
        assert ids == sorted(ids, key=int)
    loading = next(e for e in seen.seen if e.event == "model_loading")
    other = system.gateway()
    again = ModelEvents(other.url, loading.id)
    again.wait_for("model_ready")
    assert again.names() == ["model_ready"]


def test_webhooks_are_told_and_listed_and_removed(system: System, gateway: Gateway) -> None:
    receiver = Receiver(lambda number: 500 if number == 1 else 204)
    start_worker(system, gateway)
    answer = post(gateway.http, ASYNC, webhook_url=receiver.url)
    assert answer.status_code == 202
    [webhook] = gateway.http.get("/webhooks").json()["webhooks"]
    assert webhook["url"] == receiver.url
    first, failed = receiver.next()
    second, body = receiver.next_of("model_ready")
    assert body == failed
    assert first["webhook-id"] == second["webhook-id"]
    assert (body["type"], body["worker_id"], body["model"]["state"]) == ("model_ready", "w1", "ready")
    finish(gateway.http, answer.json()["job_id"])
    gateway.http.post("/model/unload")
    receiver.next_of("model_unloaded")
    assert gateway.http.delete(f"/webhooks/{webhook['id']}").status_code == 204
    assert gateway.http.get("/webhooks").json() == {"webhooks": []}
    assert gateway.http.delete(f"/webhooks/{webhook['id']}").status_code == 404
    with following(gateway.http) as seen:
        gateway.http.post("/model/load")
        seen.wait_for("model_ready")
    assert receiver.posts.empty()
    receiver.close()


async def test_a_url_from_a_direct_nats_job_is_registered_too(system: System, gateway: Gateway) -> None:
    await asyncio.to_thread(start_worker, system, gateway)
    receiver = Receiver()
    client = await nats.connect(system.nats.url)
    js = client.jetstream()
    await (await js.object_store("WHISPER_AUDIO")).put("d1", TELEPHONE.read_bytes())
    await js.publish("whisper.jobs.submit.d1", json.dumps({"webhook_url": receiver.url}).encode())
    assert (await asyncio.to_thread(receiver.next_of, "model_ready"))[1]["worker_id"] == "w1"
    await client.close()
    receiver.close()


STATUS_FIELDS = {
    "v", "state", "since", "reason", "worker_id", "model", "path", "backend", "load_secs", "retry_at",
    "retry_interval_secs", "idle_secs_left", "holds_off", "job_id", "vram", "last_unload",
}  # fmt: skip


def test_status_and_health_have_their_shapes(system: System, gateway: Gateway) -> None:
    script = system.script()
    system.scripted_worker(script, WORKER_ID="w1")
    wait_for_worker(gateway.http)
    ready = load(gateway.http)
    assert set(ready) == STATUS_FIELDS
    assert set(ready["vram"]) == {"total", "used", "free", "used_by_model", "needed"}
    assert ready["vram"]["used_by_model"] == ready["vram"]["needed"] == 3000 * 2**20
    assert ready["backend"] == "CUDA0 (Scripted GPU)"
    health = gateway.http.get("/health").json()
    assert (health["status"], health["reasons"]) == ("ok", [])
    assert set(health) == {
        *("status", "reasons", "broker", "storage", "model_state"),
        *("queue_depth", "dead_letters", "gpu", "workers"),
    }
    assert set(health["gpu"]) == {"name", "driver", "vram_total", "vram_used", "vram_free", "temperature"}
    assert health["gpu"]["name"] == "Scripted GPU"
    for path in ("/health/live", "/health/ready"):
        answer = gateway.http.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_the_worker_is_a_nats_micro_service(system: System, gateway: Gateway) -> None:
    await asyncio.to_thread(start_worker, system, gateway)
    client = await nats.connect(system.nats.url)

    async def ask(subject: str, body: bytes = b"") -> dict[str, Any]:
        return dict(json.loads((await client.request(subject, body, timeout=5)).data))

    assert (await ask("$SRV.PING.whisper-model"))["name"] == "whisper-model"
    info = await ask("$SRV.INFO.whisper-model")
    assert {"whisper.model.status", "whisper.model.load", "whisper.model.unload.w1"} <= {
        e["subject"] for e in info["endpoints"]
    }
    assert (await ask("whisper.model.load"))["state"] == "loading"
    assert (await ask("whisper.model.status.w1"))["state"] in ("loading", "ready")
    refused = await client.request("whisper.model.unload", b"[]", timeout=5)
    assert (refused.headers or {})["Nats-Service-Error-Code"] == "400"
    assert (await ask("whisper.model.unload", b'{"force": true}'))["state"] == "unloading"
    stats = await ask("$SRV.STATS.whisper-model")
    requests = {e["subject"]: e["num_requests"] for e in stats["endpoints"]}
    assert (requests["whisper.model.load"], requests["whisper.model.unload"]) == (1, 2)
    await client.close()
