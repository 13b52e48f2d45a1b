"""Webhooks with real receivers: down, slow, resetting, redirecting, gone; and gateways that die between two tries."""

import asyncio
import base64
import hashlib
import hmac
import json
import re
import signal
import socket
import threading
import time
from collections import Counter

import httpcore
import httpx
import msgspec
import nats
import pytest

from broker.topology.declarations import WEBHOOK_ACK_WAIT_SECS
from gateway.outbound.guard import Guard, GuardedBackend
from schemas.webhooks import webhook_id
from tests.support.http import AUDIO, finish, submit
from tests.support.receiver import HANG, RESET, Receiver
from tests.support.system import Gateway, System
from tests.support.webhook_load import EVENT, delivery

TELEPHONE = (AUDIO / "telephone.wav").read_bytes()
FAST = {"WEBHOOK_BACKOFF": "0.1,0.1,0.1,0.1,0.1"}


@pytest.fixture
def done(system: System) -> None:
    """A worker that has every job done at once."""
    script = system.script()
    system.scripted_worker(script)


def job(gateway: Gateway, url: str, **fields: str) -> str:
    return submit(gateway.http, "t.wav", TELEPHONE, webhook_url=url, **fields)


def warmed_up(gateway: Gateway) -> Gateway:
    """Its model is loaded, so that no URL that comes later is told of that."""
    finish(gateway.http, submit(gateway.http, "t.wav", TELEPHONE))
    return gateway


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
    for _ in range(4):
        job(gateway, slow.url)
    ids = [job(gateway, fast.url) for _ in range(5)]
    slow.next()
    told = {fast.next_of("completed")[1]["id"] for _ in ids}
    assert told == set(ids)
    # None had to wait for an attempt at the slow one to end.
    assert "no answer within" not in gateway.log.read_text()
    slow.close()
    fast.close()


@pytest.mark.usefixtures("done")
def test_each_is_delivered_once_by_two_gateways(system: System) -> None:
    receiver = Receiver()
    gateways = [system.gateway(), system.gateway()]
    ids = [job(gateways[n % 2], receiver.url) for n in range(20)]
    seen = Counter(str(receiver.next_of("completed")[1]["id"]) for _ in ids)
    assert seen == Counter(ids)
    # All are told of, so nothing comes into the queue any more: what it still holds is all that could be told again.
    wait_for(system, "WHISPER_WEBHOOKS", 0)
    assert [body for _, body in list(receiver.posts.queue) if body["type"] == "completed"] == []
    receiver.close()


@pytest.mark.usefixtures("done")
def test_what_is_under_way_goes_to_another_gateway_at_once(system: System) -> None:
    receiver = Receiver(lambda number: HANG if number == 1 else 204)
    first = warmed_up(system.gateway())
    job(first, receiver.url, webhook_events="completed")
    headers, _ = receiver.next()
    system.gateway()
    begun = time.monotonic()
    assert first.stop() == 0
    again, _ = receiver.next()
    assert again["webhook-id"] == headers["webhook-id"]
    assert time.monotonic() - begun < WEBHOOK_ACK_WAIT_SECS  # then the claim would have run out by itself
    receiver.close()


@pytest.mark.slow
@pytest.mark.usefixtures("done")
def test_a_gateway_that_is_killed_in_a_try_is_followed_by_another(system: System) -> None:
    receiver = Receiver(lambda number: HANG if number == 1 else 204)
    first = warmed_up(system.gateway())
    ids = [job(first, receiver.url, webhook_events="completed") for _ in range(3)]
    headers, _ = receiver.next_of("completed")
    for job_id in ids:
        finish(first.http, job_id)
    first.stop(signal.SIGKILL)
    system.gateway()
    told = [receiver.next_of("completed") for _ in ids]
    assert told[0][0]["webhook-id"] == headers["webhook-id"]
    assert Counter(body["id"] for _, body in told) == Counter(ids)
    receiver.close()


@pytest.mark.usefixtures("done")
def test_order_is_kept_also_when_the_first_one_fails(system: System) -> None:
    """One is tried again until it is through or given up; those behind it wait."""
    receiver = Receiver(lambda number: 500 if number in (1, 2, 5) else 204)
    gateway = warmed_up(system.gateway(WEBHOOK_BACKOFF="0.3,0.3"))
    ids = [job(gateway, receiver.url, webhook_events="completed") for _ in range(4)]
    told = [receiver.next_of("completed")[1]["id"] for _ in range(7)]
    a, b, c, d = told[0], told[3], told[4], told[6]
    assert told == [a, a, a, b, c, c, d]
    assert {a, b, c, d} == set(ids)
    receiver.close()


async def publish(system: System, *messages: tuple[str, bytes]) -> None:
    client = await nats.connect(system.nats.url)
    js = client.jetstream()
    for subject, body in messages:
        await js.publish(subject, body)
    await client.close()


async def letters(system: System) -> list[tuple[str, str]]:
    """Subject and reason of each dead letter."""
    client = await nats.connect(system.nats.url)
    js, found = client.jetstream(), []
    for seq in range(1, (await js.stream_info("WHISPER_DEAD")).state.messages + 1):
        headers = (await js.get_msg("WHISPER_DEAD", seq)).headers or {}
        found.append((headers["Whisper-Subject"], headers["Whisper-Reason"]))
    await client.close()
    return found


NOT_JSON = [b"", b"{}", b"nonsense", b"\xff", b'{"x": "\xff"}', b"[" * 100_000, b"null", b"7", b'{"x": 1}']


@pytest.mark.usefixtures("done")
def test_what_cannot_be_used_is_a_dead_letter_and_the_next_one_comes(system: System) -> None:
    gateway, receiver = system.gateway(), Receiver()
    queue = f"whisper.webhooks.{webhook_id(receiver.url)}"
    good = msgspec.json.decode(msgspec.json.encode(delivery(receiver.url, 1)))
    odd = [
        {**good, "webhook": {**good["webhook"], "url": url}}
        for url in (
            "http://a..b/",
            f"http://{'a' * 64}/",
            "",
            "file:///etc/passwd",
            "http://a\0b/",
            "http://a:0/",
        )
    ]
    odd += [{**good, "id": "\u00e4"}, {**good, "model": None, "record": {"id": "x"}}, {**good, "type": 7}]
    bodies = NOT_JSON + [json.dumps(each).encode() for each in odd]
    messages = [(queue, body) for body in bodies]
    messages += [(f"whisper.webhooks.{token}", b"{}") for token in ("a$b", "\u00e4", "x" * 65)]
    asyncio.run(publish(system, *messages))
    wait_for(system, "WHISPER_WEBHOOKS", 0)
    wait_for(system, "WHISPER_DEAD", len(messages))
    assert all(reason for _, reason in asyncio.run(letters(system)))
    job_id = job(gateway, receiver.url, webhook_events="completed")
    assert receiver.next_of("completed")[1]["id"] == job_id
    assert gateway.http.get("/health").status_code == 200
    receiver.close()


@pytest.mark.usefixtures("done")
def test_a_delivery_of_a_later_version_is_sent_as_it_is(system: System) -> None:
    """A newer gateway has put it there; in a rolling upgrade an older one may send it."""
    gateway, receiver = system.gateway(), Receiver()
    job_id = job(gateway, receiver.url, webhook_events="completed")
    finish(gateway.http, job_id)
    client_record = httpx.get(f"{gateway.url}/jobs/{job_id}").json()
    record = {
        "v": 2, "id": job_id, "status": "done", "request": {"future": 1}, "created_at": client_record["created_at"],
        "future": [1],
    }  # fmt: skip
    told = msgspec.json.decode(msgspec.json.encode(delivery(receiver.url, 1)))
    told = {**told, "v": 2, "type": "paused", "model": None, "record": record, "future": {"x": 1}}
    asyncio.run(publish(system, (f"whisper.webhooks.{told['webhook']['id']}", json.dumps(told).encode())))
    _, body = receiver.next_of("paused")
    assert body["id"] == job_id
    receiver.close()


@pytest.mark.usefixtures("done")
def test_events_that_cannot_be_used_hold_up_no_other(system: System) -> None:
    gateway, receiver = system.gateway(), Receiver()
    subjects = [
        "whisper.events.job.x.started",
        "whisper.events.job.x.done",
        "whisper.events.model.w.model_ready",
    ]
    messages = [(subject, body) for subject in subjects for body in NOT_JSON]
    submissions = [
        {"webhook_url": "http://a..b/"},
        {"webhook_url": f"http://{'a' * 64}/"},
        {"webhook_url": 7},
    ]
    queued = [*NOT_JSON, *(json.dumps(each).encode() for each in submissions)]
    messages += [("whisper.events.job.x.queued", body) for body in queued]
    asyncio.run(publish(system, *messages))
    job_id = job(gateway, receiver.url, webhook_events="completed")
    assert receiver.next_of("completed")[1]["id"] == job_id
    told = asyncio.run(letters(system))
    assert {subject for subject, _ in told} >= set(subjects)
    assert all(reason for _, reason in told)


@pytest.mark.usefixtures("done")
def test_a_url_that_only_fails_is_told_of_the_model_no_more_until_it_works(system: System) -> None:
    down = threading.Event()
    receiver = Receiver(lambda _: 500 if down.is_set() else 204)
    gateway = warmed_up(system.gateway(WEBHOOK_BACKOFF=",", WEBHOOK_FAILING_SECS="0"))
    event = ("whisper.events.model.w.model_ready", msgspec.json.encode(EVENT))

    def listed_as_failing(expected: bool) -> None:
        deadline = time.monotonic() + 20
        while (gateway.http.get("/webhooks").json()["webhooks"][0]["failing_since"] is not None) != expected:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    down.set()
    finish(gateway.http, job(gateway, receiver.url))
    assert receiver.next()[1]["type"] == "completed"
    listed_as_failing(True)
    asyncio.run(publish(system, event))
    down.clear()
    finish(gateway.http, job(gateway, receiver.url))
    assert receiver.next()[1]["type"] == "completed"  # and nothing of the model before it
    listed_as_failing(False)
    asyncio.run(publish(system, event))
    assert receiver.next()[1]["type"] == "model_ready"
    receiver.close()


@pytest.mark.usefixtures("done")
def test_secrets_in_a_url_are_sent_and_not_shown(system: System) -> None:
    receiver = Receiver(lambda number: 500 if number == 1 else 204)
    gateway = system.gateway(WEBHOOK_BACKOFF=",", LOG_LEVEL="debug")
    url = f"http://name:hidden1@127.0.0.1:{receiver.port}/hook?token=hidden2#hidden3"
    finish(gateway.http, job(gateway, url, webhook_events="completed"))
    headers, _ = receiver.next_of("completed")
    assert headers["authorization"] == f"Basic {base64.b64encode(b'name:hidden1').decode()}"
    wait_for(system, "WHISPER_WEBHOOKS", 0)
    [(_, reason), *_] = asyncio.run(letters(system))
    listed = gateway.http.get("/webhooks").text
    assert f"http://127.0.0.1:{receiver.port}/hook" in reason
    assert f'"http://127.0.0.1:{receiver.port}/hook"' in listed
    for text in (reason, listed, gateway.log.read_text()):
        assert "hidden" not in text
    receiver.close()


async def all_events(system: System) -> list[tuple[str, str]]:
    """Subject and body of each event, as every publisher may read them."""
    client = await nats.connect(system.nats.url)
    follower = await client.jetstream().subscribe("whisper.events.>", ordered_consumer=True)
    found, pending = [], 1
    while pending:
        message = await follower.next_msg(timeout=5)
        found.append((message.subject, message.data.decode()))
        pending = message.metadata.num_pending
    await client.close()
    return found


@pytest.mark.usefixtures("done")
def test_no_event_has_user_and_password_of_a_webhook(system: System) -> None:
    """A job that came over NATS says them itself, in its submission."""
    receiver = Receiver()
    gateway = system.gateway(LOG_LEVEL="debug")
    url = f"http://na%40me:hidden@127.0.0.1:{receiver.port}/hook"
    submitted = job(gateway, url)
    streamed = finish(gateway.http, submitted)
    body = json.dumps({"webhook_url": url.replace("hidden", "hidden2"), "audio": "none"}).encode()
    asyncio.run(publish(system, ("whisper.jobs.submit.theirs", body)))
    for pair in ("na@me:hidden", "na@me:hidden2"):
        headers, _ = receiver.until("completed" if pair == "na@me:hidden" else "failed")[-1]
        assert headers["authorization"] == f"Basic {base64.b64encode(pair.encode()).decode()}"
    told = asyncio.run(all_events(system))
    assert any(submitted in subject and "127.0.0.1" in body for subject, body in told)
    assert not [
        body for subject, body in told if "hidden" in body and subject != "whisper.events.job.theirs.queued"
    ]
    shown = [gateway.http.get(path).text for path in ("/jobs", f"/jobs/{submitted}", "/webhooks", "/health")]
    assert "hidden" not in f"{shown} {streamed} {gateway.log.read_text()}"
    receiver.close()


@pytest.mark.usefixtures("done")
def test_the_password_of_another_url_cannot_be_used(system: System) -> None:
    """A publisher reads the id of a URL in the events of others."""
    receiver, mine = Receiver(), Receiver(host="127.0.0.2")
    gateway = system.gateway()
    url = f"http://name:hidden@127.0.0.1:{receiver.port}/hook"
    finish(gateway.http, job(gateway, url, webhook_events="completed"))
    receiver.next_of("completed")
    body = json.dumps({"audio": "none", "webhook_url": mine.url, "webhook_id": webhook_id(url)}).encode()
    asyncio.run(publish(system, ("whisper.jobs.submit.theirs", body)))
    gateway.wait_for_log(re.compile(f"webhook {webhook_id(url)}: no such URL"))
    assert mine.posts.empty()
    receiver.close()
    mine.close()


@pytest.mark.usefixtures("done")
def test_progress_is_tried_once_and_is_no_dead_letter(system: System) -> None:
    receiver = Receiver(lambda _: 500)
    gateway = system.gateway(**FAST)
    finish(gateway.http, job(gateway, receiver.url, webhook_events="progress"))
    first = receiver.until(
        "progress"
    )  # a job's events become deliveries after its end has been told to others
    wait_for(system, "WHISPER_WEBHOOKS", 0)
    posts = [*first, *receiver.rest()]
    tries = Counter(h["webhook-id"] for h, b in posts if b["type"] == "progress")
    assert tries
    assert set(tries.values()) == {1}
    assert not [reason for _, reason in asyncio.run(letters(system)) if "progress" in reason]
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
    posts = receiver.until("completed")
    wait_for(system, "WHISPER_WEBHOOKS", 0)
    told = [(h, b) for h, b in [*posts, *receiver.rest()] if b["type"] != "model_ready"]
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
