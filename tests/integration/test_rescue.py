"""Messages that nats-server's consumer has forgotten."""

import asyncio
from contextlib import AsyncExitStack

from nats.aio.client import Client
from nats.js import JetStreamContext

from broker.connection import connect
from broker.dead_letters import DeadLetters
from broker.rescue import REASON, Rescue
from broker.settings import BrokerSettings
from broker.work_queue import WorkQueue
from schemas import subjects
from schemas.jobs import JobRequest


async def make_it_forget(js: JetStreamContext, queue: WorkQueue, *job_ids: str) -> None:
    """As an operator may do it: purge one of the jobs in work, and nats-server believes that those before are done."""
    for job_id in (*job_ids, "purged", "next"):
        await queue.submit(job_id, JobRequest(filename=job_id))
    assert [(await queue.pull()).job_id for _ in (*job_ids, "purged")] == [*job_ids, "purged"]
    await js.purge_stream(subjects.JOBS_STREAM, subject=subjects.submit("purged"))
    await (await queue.pull()).ack()
    while (await js.consumer_info(subjects.JOBS_STREAM, subjects.GPU_WORKER_CONSUMER)).num_ack_pending:
        await asyncio.sleep(0.1)
    assert (await js.stream_info(subjects.JOBS_STREAM)).state.messages == len(job_ids)


async def test_what_is_forgotten_is_put_back_at_the_second_look(
    js: JetStreamContext, broker_settings: BrokerSettings
) -> None:
    queue, dead, rescue = WorkQueue(js, broker_settings), DeadLetters(js), Rescue(js, DeadLetters(js))
    await make_it_forget(js, queue, "j1")
    before = await js.get_msg(subjects.JOBS_STREAM, subject=subjects.submit("j1"))
    assert await rescue.once() == 0
    assert await rescue.once() == 1
    after = await js.get_msg(subjects.JOBS_STREAM, subject=subjects.submit("j1"))
    assert after.data == before.data
    assert (after.seq or 0) > (before.seq or 0)
    assert await dead.count() == 0
    assert (await queue.pull()).job_id == "j1"


async def test_what_is_not_forgotten_is_left_alone(
    js: JetStreamContext, broker_settings: BrokerSettings
) -> None:
    queue = WorkQueue(js, broker_settings)
    await queue.submit("done", JobRequest())
    await queue.submit("waiting", JobRequest())
    await (await queue.pull()).ack()
    rescue = Rescue(js, DeadLetters(js))
    assert [await rescue.once() for _ in range(3)] == [0, 0, 0]
    assert (await queue.pull()).job_id == "waiting"


async def test_a_rescue_that_was_interrupted_is_finished(client: Client, js: JetStreamContext) -> None:
    """Its message was taken out of the queue and not yet put back: it is a dead letter, and another gateway goes on."""
    dead = DeadLetters(js)
    await dead.keep("whisper.dead.rescued.forged", "whisper.model.unload", b"{}", REASON, "somebody")
    await dead.keep(subjects.rescued("j1"), subjects.submit("j1"), b"{}", REASON, "rescue 1")
    await dead.add(subjects.submit("bad"), b"nonsense", "not JSON", "submit 2")
    await Rescue(js, dead).once()
    assert (await js.get_msg(subjects.JOBS_STREAM, subject=subjects.submit("j1"))).data == b"{}"
    # What is no message of our queues is published by nobody, and holds up nothing.
    assert [letter.subject for letter in await dead.all()] == ["whisper.model.unload", subjects.submit("bad")]


async def test_gateways_that_rescue_at_once_put_each_back_once(
    js: JetStreamContext, broker_settings: BrokerSettings
) -> None:
    queue = WorkQueue(js, broker_settings)
    jobs = {f"j{number}" for number in range(10)}
    await make_it_forget(js, queue, *jobs)
    async with AsyncExitStack() as stack:
        connections = [js]
        for number in range(3):
            _, another = await stack.enter_async_context(connect(broker_settings, f"gateway {number}"))
            connections.append(another)
        rescues = [Rescue(each, DeadLetters(each)) for each in connections]
        assert await asyncio.gather(*(rescue.once() for rescue in rescues)) == [0, 0, 0, 0]
        await asyncio.gather(*(rescue.once() for rescue in rescues))
    assert await DeadLetters(js).count() == 0
    assert (await js.stream_info(subjects.JOBS_STREAM)).state.messages == len(jobs)
    assert {(await queue.pull()).job_id for _ in jobs} == jobs
