"""Anything may die at any time: random submits, cancels, duplicates, kills and restarts of real processes.

What must hold is read from the event log alone, at the end: each job that was accepted has exactly one terminal event,
nothing follows it, its segments have no gap and no double. And each webhook has come. `make soak MINUTES=60` does this for as long as asked.
"""

import asyncio
import json
import os
import queue
import random
import signal
import time
import uuid
from collections import defaultdict
from collections.abc import Collection, Coroutine, Iterator
from pathlib import Path
from typing import Any, ClassVar

import httpx
import hypothesis.strategies as st
import nats
import psutil
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from nats.errors import Error as NatsError

from tests.support.http import AUDIO, TERMINAL
from tests.support.receiver import Receiver
from tests.support.system import Gateway, Process, System

pytestmark = pytest.mark.slow

MIN_STEPS = 200
KILLED = ("engine_crashed", "worker_crashed", "model_unavailable", "decode_killed")
STUCK_SECS = 60
FILES = {name: (AUDIO / name).read_bytes() for name in ("telephone.wav", "english.flac", "long.ogg")}
SHORT, LONG = st.sampled_from(["telephone.wav", "english.flac"]), st.just("long.ogg")
SLOT = st.integers(0, 1)
NUMBER = st.integers(0, 10_000)
"""Picks one of what there is. Not a draw from it: what hypothesis draws must not depend on what processes do."""


def pick(choices: Collection[str], number: int) -> str | None:
    return sorted(choices)[number % len(choices)] if choices else None


class World:
    """The processes, and what is known of the jobs; it lives on from one run of the machine to the next."""

    def __init__(self, system: System) -> None:
        self.system, self.steps = system, 0
        self.gateways: list[Gateway | None] = [self.new_gateway(), self.new_gateway()]
        self.workers: list[Process | None] = [self.new_worker(), self.new_worker()]
        self.accepted: set[str] = set()
        """Jobs that somebody was told are stored. Others may be stored too: their answer was lost."""
        self.bodies: dict[str, bytes] = {}
        self.receiver = Receiver()
        self.with_webhook: set[str] = set()
        """Those of the accepted whose end somebody wants to be told."""

    def new_gateway(self) -> Gateway:
        gateway = self.system.gateway(SWEEP_INTERVAL_SECS="1")
        gateway.http.timeout = httpx.Timeout(10)
        return gateway

    def new_worker(self) -> Process:
        return self.system.worker(STRETCH_SECS="30")

    def over_nats(self, work: "Coroutine[Any, Any, None]") -> bool:
        """False where no answer came."""

        async def within() -> None:
            async with asyncio.timeout(10):
                await work

        try:
            asyncio.run(within())
        except (NatsError, OSError, TimeoutError):
            return False
        return True

    async def publish(self, job_id: str, body: bytes, audio: bytes | None = None, times: int = 1) -> None:
        client = await nats.connect(self.system.nats.url, allow_reconnect=False)
        try:
            js = client.jetstream()
            if audio is not None:
                await (await js.object_store("WHISPER_AUDIO")).put(job_id, audio)
            for _ in range(times):
                await js.publish(f"whisper.jobs.submit.{job_id}", body, headers={"Nats-Msg-Id": job_id})
        finally:
            await client.close()


class Faults(RuleBasedStateMachine):
    world: ClassVar[World]

    @rule(slot=SLOT, name=SHORT | LONG, key=st.sampled_from(["", "", "", "a", "b", "c"]))
    def submit(self, slot: int, name: str, key: str) -> None:
        """Without a key, with a webhook."""
        self.world.steps += 1
        gateway = self.world.gateways[slot]
        if gateway is None:
            return
        headers = {"Idempotency-Key": f"{key}-{name}"} if key else {}
        fields = {} if key else {"webhook_url": self.world.receiver.url}
        try:
            files = {"audio": (name, FILES[name])}
            answer = gateway.http.post("/jobs", data=fields, files=files, headers=headers)
        except httpx.HTTPError:
            return
        assert answer.status_code in (200, 202, 409, 503), answer.text
        if answer.status_code in (200, 202):
            self.world.accepted.add(answer.json()["job_id"])
            if fields:
                self.world.with_webhook.add(answer.json()["job_id"])

    @rule(name=SHORT, times=st.integers(1, 3), beam=st.sampled_from([1, 5]))
    def publish(self, name: str, times: int, beam: int) -> None:
        self.world.steps += 1
        job_id, body = uuid.uuid4().hex, json.dumps({"options": {"beam_size": beam}}).encode()
        self.world.bodies[job_id] = body
        if self.world.over_nats(self.world.publish(job_id, body, FILES[name], times)):
            self.world.accepted.add(job_id)

    @rule(number=NUMBER)
    def publish_again(self, number: int) -> None:
        """The same job, also long after it has ended: it is not run a second time."""
        self.world.steps += 1
        if job_id := pick(self.world.bodies, number):
            self.world.over_nats(self.world.publish(job_id, self.world.bodies[job_id]))

    @rule(seldom=st.integers(0, 4))
    def publish_nonsense(self, seldom: int) -> None:
        self.world.steps += 1
        if seldom:
            return
        self.world.over_nats(self.world.publish(f"bad-{uuid.uuid4().hex}", b"nonsense"))

    @rule(slot=SLOT, number=NUMBER)
    def cancel(self, slot: int, number: int) -> None:
        self.world.steps += 1
        job_id, gateway = pick(self.world.accepted, number), self.world.gateways[slot]
        if gateway is None or job_id is None:
            return
        try:
            answer = gateway.http.delete(f"/jobs/{job_id}")
        except httpx.HTTPError:
            return
        assert answer.status_code in (200, 409, 503), answer.text

    @rule(slot=SLOT, sig=st.sampled_from([signal.SIGKILL, signal.SIGTERM]), at_once=st.booleans())
    def end_or_start_a_worker(self, slot: int, sig: signal.Signals, at_once: bool) -> None:
        self.world.steps += 1
        worker = self.world.workers[slot]
        if worker is not None:
            worker.stop(sig)
        self.world.workers[slot] = self.world.new_worker() if worker is None or at_once else None

    @rule(slot=SLOT)
    def kill_an_engine(self, slot: int) -> None:
        self.world.steps += 1
        if (worker := self.world.workers[slot]) is None:
            return
        for engine in psutil.Process(worker.pid).children():
            try:
                engine.kill()
            except psutil.NoSuchProcess:  # it was just ending
                continue

    @rule(slot=SLOT, at_once=st.booleans())
    def kill_or_start_a_gateway(self, slot: int, at_once: bool) -> None:
        self.world.steps += 1
        gateway = self.world.gateways[slot]
        if gateway is not None:
            gateway.stop(signal.SIGKILL)
        self.world.gateways[slot] = self.world.new_gateway() if gateway is None or at_once else None

    @rule(sig=st.sampled_from([signal.SIGKILL, signal.SIGTERM]))
    def restart_the_server(self, sig: signal.Signals) -> None:
        self.world.steps += 1
        self.world.system.nats.stop(sig)
        self.world.system.nats.start()

    @rule(secs=st.sampled_from([0.2, 1.0, 3.0]))
    def freeze_the_server(self, secs: float) -> None:
        """Longer than the ack deadline, too."""
        self.world.steps += 1
        self.world.system.nats.freeze()
        time.sleep(secs)  # nothing can be waited for: it is the silence that matters
        self.world.system.nats.thaw()

    @rule(secs=st.sampled_from([0.2, 0.5, 1.0]))
    def let_it_work(self, secs: float) -> None:
        self.world.steps += 1
        time.sleep(secs)  # it is the point that nothing is waited for


@pytest.fixture
def world(tmp_path: Path, demo_model: Path) -> Iterator[World]:
    system = System(tmp_path, demo_model)
    world = World(system)
    yield world
    world.receiver.close()
    system.close()
    print(system.logs()[-20_000:])


def wait_until_all_is_done(world: World) -> None:
    """With everybody there again, the queue runs empty; how long that takes depends on how long was played."""
    world.workers = [worker or world.new_worker() for worker in world.workers]
    gateway = world.gateways[0] or world.new_gateway()
    shortest, since = float("inf"), time.monotonic()
    while (depth := (health := gateway.http.get("/health").json())["queue_depth"]) != 0:
        if depth < shortest:
            shortest, since = depth, time.monotonic()
        assert time.monotonic() < since + STUCK_SECS, (health, asyncio.run(queue_of(world.system.nats.url)))
        time.sleep(0.2)


def wait_until_all_is_told(world: World) -> None:
    """Each job's end, at least once: a gateway that dies after its POST has one made again."""
    missing = set(world.with_webhook)
    while missing:
        try:
            _, notice = world.receiver.posts.get(timeout=STUCK_SECS)
        except queue.Empty:
            pytest.fail(f"no webhook for {missing}")
        if notice["type"] in ("completed", "failed", "cancelled"):
            missing.discard(notice["id"])


async def queue_of(url: str) -> object:
    """What nats-server believes of a queue that does not run empty."""
    client = await nats.connect(url)
    js = client.jetstream()
    told = await js.stream_info("WHISPER_JOBS"), await js.consumer_info("WHISPER_JOBS", "gpu-worker")
    await client.close()
    return told


async def log_of(url: str) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Type and body of each job's events, in order, read with nats-py alone."""
    client = await nats.connect(url)
    js = client.jetstream()
    count = (
        await js.stream_info("WHISPER_EVENTS", subjects_filter="whisper.events.job.>")
    ).state.subjects or {}
    sub = await js.subscribe("whisper.events.job.>", stream="WHISPER_EVENTS", ordered_consumer=True)
    found: dict[str, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for _ in range(sum(count.values())):
        message = await sub.next_msg(timeout=10)
        *_, job_id, kind = message.subject.split(".")
        body = json.loads(message.data) if kind != "queued" else {}
        found[job_id].append((kind, body))
    await client.close()
    return found


def check(world: World) -> None:
    log = asyncio.run(log_of(world.system.nats.url))
    assert world.accepted <= set(log)
    ends: dict[str, int] = defaultdict(int)
    for job_id, events in log.items():
        kinds = [kind for kind, _ in events]
        if job_id.startswith("bad-"):
            assert kinds.count("invalid") == 1, (job_id, kinds)
            # nats-server makes `queued` of a submission right after it has stored it: kill -9 may come between.
            assert set(kinds) <= {"queued", "invalid"}
            continue
        terminal = [kind for kind in kinds if kind in TERMINAL]
        assert len(terminal) == 1, (job_id, kinds)
        after = kinds[kinds.index(terminal[0]) + 1 :]
        assert set(after) <= {"queued"}, (job_id, kinds)  # the same submission, published again
        indexes = [body["segment"]["index"] for kind, body in events if kind == "segment"]
        assert indexes == list(range(len(indexes))), (job_id, indexes)
        body = next(body for kind, body in events if kind in TERMINAL)
        error = body["record"]["error"]
        ends[error["code"] if error else terminal[0]] += 1
        # The files are good, and what is killed is not their fault: only too many kills in a row can fail a job.
        assert error is None or error["code"] in KILLED, error
    print(f"{world.steps} steps, {len(log)} jobs: {dict(ends)}")
    assert ends["done"] > 0


def run(world: World, *, examples: int, **how: Any) -> None:
    Faults.world = world
    run_state_machine_as_test(
        Faults,
        settings=settings(
            max_examples=examples,
            stateful_step_count=60,
            deadline=None,
            database=None,
            phases=[Phase.generate],  # what has happened to real processes cannot be shrunk
            suppress_health_check=list(HealthCheck),
            **how,
        ),
    )


@pytest.mark.timeout(0)
def test_whatever_dies_no_job_is_lost_or_doubled(world: World) -> None:
    minutes = float(os.environ.get("SOAK_MINUTES", "0"))
    deadline = time.monotonic() + 60 * minutes
    while world.steps < MIN_STEPS:
        run(world, examples=4, derandomize=not minutes)
    while time.monotonic() < deadline:
        random.seed()
        run(world, examples=5)
    wait_until_all_is_done(world)
    check(world)
    wait_until_all_is_told(world)
    assert world.steps >= MIN_STEPS
