"""What is taken out of a queue takes nothing else with it."""

from datetime import UTC, datetime

import pytest
from nats.js import JetStreamContext

from broker.deleting import delete_subject
from broker.errors import Conflict
from broker.event_log import EventLog
from broker.job_records import JobRecords
from broker.settings import BrokerSettings
from broker.webhook_queues import Claim, WebhookQueues
from broker.webhooks import WebhookDeliveries, WebhookUrls
from broker.work_queue import WorkQueue
from schemas import subjects
from schemas.events import Progress
from schemas.jobs import JobRequest
from schemas.webhooks import Webhook, WebhookDelivery

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


async def left(js: JetStreamContext, stream: str, pattern: str = ">") -> int:
    info = await js.stream_info(stream, subjects_filter=pattern)
    return sum((info.state.subjects or {}).values())


async def test_a_cancelled_job_does_not_make_the_server_forget_another(
    js: JetStreamContext, broker_settings: BrokerSettings
) -> None:
    """Two in work, the second is cancelled, and then the worker of both is never heard of again."""
    queue, records = WorkQueue(js, broker_settings), await JobRecords.open(js)
    for job_id in ("first", "second", "third"):
        await queue.submit(job_id, JobRequest())
    assert [(await queue.pull()).job_id for _ in range(2)] == ["first", "second"]
    await records.unqueue("second")
    third = await queue.pull()
    assert third.job_id == "third"
    await third.ack()
    again = await queue.pull()  # after the ack deadline
    assert again.job_id == "first"
    await again.ack()
    assert await records.queue_depth() == 0


async def test_a_removed_webhook_takes_its_own_deliveries_along_and_no_others(js: JetStreamContext) -> None:
    urls, deliveries, queues = (
        await WebhookUrls.open(js),
        WebhookDeliveries(js),
        await WebhookQueues.open(js, "g"),
    )
    for name in ("one", "two"):
        webhook = Webhook(id=name, url=f"http://{name}.example/", created_at=NOW)
        await urls.register(webhook)
        await deliveries.add(WebhookDelivery(id=name, webhook=webhook, type="completed"))
    claim = await queues.claim("two")
    assert isinstance(claim, Claim)
    assert await urls.remove("two")
    assert await queues.first("two") is None
    assert await queues.first("one") is not None
    with pytest.raises(Conflict):  # whoever was at it learns that it is gone
        await queues.release(claim)


@pytest.mark.parametrize("count", [0, 1, 300])
async def test_all_of_a_subject_and_nothing_else_goes(js: JetStreamContext, count: int) -> None:
    log = EventLog(js)
    await log.append(Progress(job_id="other", at=NOW, percent=1))
    for number in range(count):
        await log.append(Progress(job_id="j1", at=NOW, percent=number % 100))
    await delete_subject(js, subjects.EVENTS_STREAM, subjects.all_events_of("j1"))
    assert await left(js, subjects.EVENTS_STREAM, subjects.all_events_of("j1")) == 0
    assert await left(js, subjects.EVENTS_STREAM, subjects.all_events_of("other")) == 1
