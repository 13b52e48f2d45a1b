"""Webhooks with real receivers: down, slow, resetting, redirecting, gone; and gateways that die between two tries."""

import asyncio
import base64
import hashlib
import hmac
import json
import re
import signal
import socket
import time
from collections import Counter

import httpcore
import httpx
import nats
import pytest

from gateway.webhooks.guard import Guard, GuardedBackend
from tests.support.http import AUDIO, finish, submit
from tests.support.receiver import HANG, RESET, Receiver
from tests.support.system import Gateway, System

TELEPHONE = (AUDIO / "telephone.wav").read_bytes()
FAST = {"WEBHOOK_BACKOFF": "0.1,0.1,0.1,0.1,0.1"}


@pytest.fixture
def done(system: System) -> None:
    """A worker that has every job done at once."""
    script = system.script()
    system.scripted_worker(script)


def job(gateway: Gateway, url: str, **fields: str) -> str:
    return submit(gateway.http, "t.wav", TELEPHONE, webhook_url=url, **fields)


async def waiting(system: System, stream: str) -> int:
    client = await nats.connect(system.nats.url)
    info = await client.jetstream().stream_info(stream)
    await client.close()
    return int(info.state.messages)


def wait_for(system: System, stream: str, count: int) -> None:
    """Until so many messages are there."""
    deadline = time.monotonic() + 20
    while (found := asyncio.run(waiting(system, stream))) != count:
        assert time.monotonic() < deadline, f"{found} in {stream}"
        time.sleep(0.05)


@pytest.mark.parametrize("trouble", [500, 302, 404, RESET])
@pytest.mark.usefixtures("done")
def test_a_delivery_is_tried_until_it_succeeds(system: System, trouble: int) -> None:
    elsewhere = Receiver(host="127.0.0.2")
    receiver = Receiver(lambda number: trouble if number <= 3 else 200, location=elsewhere.url)
    gateway = system.gateway(**FAST)
    job_id = job(gateway, receiver.url)
    tries = [receiver.next_of("completed") for _ in range(4)]
    assert len({headers["webhook-id"] for headers, _ in tries}) == 1
    assert all(int(headers["webhook-timestamp"]) > 0 for headers, _ in tries)
    assert tries[0][1] == {"type": "completed", **gateway.http.get(f"/jobs/{job_id}").json()}
    assert tries[0][1]["segments"]
    assert all(body == tries[0][1] for _, body in tries)
    wait_for(system, "WHISPER_WEBHOOKS", 0)
    assert asyncio.run(waiting(system, "WHISPER_DEAD")) == 0
    assert elsewhere.posts.empty()
    receiver.close()
    elsewhere.close()


@pytest.mark.usefixtures("done")
def test_the_schedule_is_kept_and_then_it_is_given_up(system: System) -> None:
    """The receiver is down; later it is up, and what was given up is requeued."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    gateway = system.gateway(WEBHOOK_BACKOFF="0.2,0.4")
    finish(gateway.http, job(gateway, f"http://127.0.0.1:{port}/hook"))
    wait_for(system, "WHISPER_DEAD", 2)  # the job's, and model_ready's
    log = gateway.log.read_text()
    assert log.count("try 3: ConnectError") == 2
    assert "again in 0.2 s" in log
    assert "again in 0.4 s" in log
    assert gateway.http.get("/health").json()["dead_letters"] == 2
    receiver = Receiver(lambda number: 500 if number <= 2 else 204, port=port)

    async def requeue() -> list[str]:
        client = await nats.connect(system.nats.url)
        js, reasons = client.jetstream(), []
        for seq in (1, 2):
            message = await js.get_msg("WHISPER_DEAD", seq)
            headers = message.headers or {}
            reasons.append(headers["Whisper-Reason"])
            await js.publish(headers["Whisper-Subject"], message.data or b"")
        await client.close()
        return reasons

    assert all("try 3" in reason for reason in asyncio.run(requeue()))
    wait_for(system, "WHISPER_WEBHOOKS", 0)
    assert Counter(b["type"] for _, b in receiver.posts.queue) == {"completed": 3, "model_ready": 3}
    receiver.close()


@pytest.mark.usefixtures("done")
def test_a_delivery_outlives_its_gateway(system: System) -> None:
    receiver = Receiver(lambda number: 500 if number == 1 else 204)
    first = system.gateway(WEBHOOK_BACKOFF="1.5")
    job(first, receiver.url)
    headers, _ = receiver.next()
    first.wait_for_log(re.compile("again in 1.5 s"))
    first.stop(signal.SIGKILL)
    system.gateway(WEBHOOK_BACKOFF="1.5")
    while receiver.next()[0]["webhook-id"] != headers["webhook-id"]:
        pass
    receiver.close()


@pytest.mark.usefixtures("done")
def test_a_slow_receiver_delays_no_other(system: System) -> None:
    slow, fast = Receiver(lambda _: HANG), Receiver(host="127.0.0.2")
    gateway = system.gateway()
    for _ in range(20):
        job(gateway, slow.url)
    ids = [job(gateway, fast.url) for _ in range(5)]
    begun = time.monotonic()
    told = {fast.next_of("completed")[1]["id"] for _ in ids}
    assert told == set(ids)
    assert time.monotonic() - begun < 8  # the slow one has not even run into its 10 s
    slow.close()
    fast.close()


@pytest.mark.usefixtures("done")
def test_each_is_delivered_once_by_two_gateways(system: System) -> None:
    receiver = Receiver()
    gateways = [system.gateway(), system.gateway()]
    ids = [job(gateways[n % 2], receiver.url) for n in range(20)]
    for job_id in ids:
        finish(gateways[0].http, job_id)
    wait_for(system, "WHISPER_WEBHOOKS", 0)
    seen = Counter(body["id"] for _, body in list(receiver.posts.queue) if body["type"] == "completed")
    assert seen == Counter(ids)
    receiver.close()


@pytest.mark.usefixtures("done")
def test_410_unregisters(system: System) -> None:
    receiver = Receiver(lambda _: 410)
    gateway = system.gateway(**FAST)
    finish(gateway.http, job(gateway, receiver.url))
    deadline = time.monotonic() + 20
    while gateway.http.get("/webhooks").json()["webhooks"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    wait_for(system, "WHISPER_WEBHOOKS", 0)
    assert asyncio.run(waiting(system, "WHISPER_DEAD")) == 0
    receiver.close()


@pytest.mark.usefixtures("done")
def test_both_secrets_sign_while_they_are_rotated(system: System) -> None:
    receiver = Receiver()
    new = b"a new secret of 24 bytes"
    gateway = system.gateway(WEBHOOK_SECRET=f"whsec_{base64.b64encode(new).decode()}, old secret")
    job(gateway, receiver.url)
    headers, _ = receiver.next()
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + receiver.raw[0]
    expected = [
        "v1," + base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
        for secret in (new, b"old secret")
    ]
    assert headers["webhook-signature"].split(" ") == expected
    receiver.close()


def test_a_job_chooses_what_it_tells(system: System) -> None:
    receiver = Receiver()
    gateway = system.gateway()
    system.worker(STRETCH_SECS="30")
    events = "started,progress,completed"
    job_id = submit(
        gateway.http,
        "long.ogg",
        (AUDIO / "long.ogg").read_bytes(),
        webhook_url=receiver.url,
        webhook_events=events,
    )
    finished = finish(gateway.http, job_id)
    wait_for(system, "WHISPER_WEBHOOKS", 0)
    told = [(h, b) for h, b in list(receiver.posts.queue) if b["type"] != "model_ready"]
    kinds = Counter(body["type"] for _, body in told)
    assert (kinds["started"], kinds["completed"]) == (1, 1)
    ran = httpx.get(f"{gateway.url}/jobs/{job_id}").json()
    seconds = float(ran["completed_at"][17:26].rstrip("Z")) - float(ran["started_at"][17:26].rstrip("Z"))
    assert 1 <= kinds["progress"] <= seconds % 60 + 2  # one a second, and the seconds begin anywhere
    assert len({h["webhook-id"] for h, _ in told}) == len(told)
    progress = next(body for _, body in told if body["type"] == "progress")
    assert (progress["status"], 0 < progress["progress"] < 100) == ("running", True)
    cancelled = submit(gateway.http, "long.ogg", b"x", webhook_url=receiver.url, webhook_events="failed")
    assert finish(gateway.http, cancelled)["status"] == "failed"
    assert receiver.next_of("failed")[1]["error"]["code"] == "audio_undecodable"
    assert finished["status"] == "done"
    receiver.close()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/hook",
        "http://localhost:8080/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/",
        "http://0.0.0.0/",
        "http://224.0.0.1/",
        "http://2130706433/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "http://exa mple/",
    ],
)
def test_addresses_that_are_not_public_are_refused_at_submission(system: System, url: str) -> None:
    gateway = system.gateway(WEBHOOK_ALLOW_CIDRS="")
    answer = gateway.http.post("/jobs", files={"audio": ("t.wav", TELEPHONE)}, data={"webhook_url": url})
    assert (answer.status_code, answer.json()["field"]) == (422, "webhook_url")
    assert gateway.http.get("/webhooks").json() == {"webhooks": []}
    assert gateway.http.get("/jobs").json()["jobs"] == []


@pytest.mark.usefixtures("done")
async def test_they_are_refused_again_when_they_are_connected_to(system: System) -> None:
    """A direct NATS publisher passes no gateway's check."""
    receiver = Receiver()
    gateway = await asyncio.to_thread(system.gateway, WEBHOOK_ALLOW_CIDRS="", **FAST)
    client = await nats.connect(system.nats.url)
    js = client.jetstream()
    await (await js.object_store("WHISPER_AUDIO")).put("direct", TELEPHONE)
    await js.publish("whisper.jobs.submit.direct", json.dumps({"webhook_url": receiver.url}).encode())
    job = await asyncio.to_thread(finish, gateway.http, "direct")
    assert job["status"] == "done"
    await asyncio.to_thread(wait_for, system, "WHISPER_DEAD", 1)
    dead = await js.get_msg("WHISPER_DEAD", 1)
    assert "127.0.0.1, which is no public address" in (dead.headers or {})["Whisper-Reason"]
    listed: httpx.Response = await asyncio.to_thread(gateway.http.get, "/webhooks")
    assert listed.json() == {"webhooks": []}
    assert receiver.posts.empty()
    await client.close()
    receiver.close()


class OneAddress(Guard):
    """Every name is 127.0.0.1, the first time; a name server may say something else the next."""

    def __init__(self) -> None:
        super().__init__([])
        self.asked: list[str] = []

    async def address(self, host: str, port: int) -> str:
        self.asked.append(host)
        return "127.0.0.1" if len(self.asked) == 1 else "192.0.2.1"


async def test_the_address_that_was_checked_is_the_one_that_is_connected_to() -> None:
    receiver, guard = Receiver(), OneAddress()
    async with httpcore.AsyncConnectionPool(network_backend=GuardedBackend(guard)) as pool:
        url = f"http://receiver.example:{receiver.port}/hook"
        answer = await pool.request("POST", url, content=b'{"type": "x"}')
    assert answer.status == 204
    assert guard.asked == ["receiver.example"]
    assert receiver.next()[0]["host"] == f"receiver.example:{receiver.port}"
    receiver.close()
