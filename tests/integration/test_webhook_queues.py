"""The queue of deliveries to one URL: one gateway at a time, by the server's clock."""

import asyncio
from datetime import timedelta

import pytest
from nats.js import JetStreamContext

from broker.errors import Conflict
from broker.webhook_queues import Claim, NotNow, WebhookQueues
from broker.webhooks import WebhookDeliveries, WebhookUrls
from schemas import subjects
from schemas.webhooks import QueueState
from tests.support.webhook_load import EVENT, delivery

URL = "http://one.example/"
ID = delivery(URL, 0).webhook.id


@pytest.fixture
async def ours(js: JetStreamContext) -> WebhookQueues:
    return await WebhookQueues.open(js, "ours", lease_secs=0.5)


@pytest.fixture
async def theirs(js: JetStreamContext) -> WebhookQueues:
    return await WebhookQueues.open(js, "theirs", lease_secs=0.5)


async def claimed(queues: WebhookQueues) -> Claim:
    found = await queues.claim(ID)
    assert isinstance(found, Claim), found
    return found


async def test_first_in_first_out(js: JetStreamContext, ours: WebhookQueues) -> None:
    deliveries = WebhookDeliveries(js)
    for number in range(3):
        await deliveries.add(delivery(URL, number))
        await deliveries.add(delivery("http://other.example/", number))
    for number in range(3):
        first = await ours.first(ID)
        assert first is not None
        assert f'"msg_{number}_{ID}"'.encode() in first.body
        await ours.remove(first)
        await ours.remove(first)  # also where another gateway was faster
    assert await ours.first(ID) is None
    assert await ours.waiting() == [delivery("http://other.example/", 0).webhook.id]


async def test_a_claim_shuts_others_out_until_it_is_released(
    ours: WebhookQueues, theirs: WebhookQueues
) -> None:
    claim = await claimed(ours)
    refused = await theirs.claim(ID)
    assert isinstance(refused, NotNow)
    assert (0 < refused.secs <= 0.5, refused.is_due_then) == (True, False)
    await ours.release(claim)
    await claimed(theirs)


async def test_of_many_gateways_at_once_one_has_it(js: JetStreamContext) -> None:
    gateways = [await WebhookQueues.open(js, f"g{n}") for n in range(10)]
    for _ in range(5):
        found = await asyncio.gather(*(queues.claim(ID) for queues in gateways))
        [(winner, claim)] = [
            (queues, claim) for queues, claim in zip(gateways, found, strict=True) if isinstance(claim, Claim)
        ]
        await winner.release(claim)


async def test_the_claim_of_a_dead_gateway_runs_out_and_it_notices_when_it_comes_back(
    ours: WebhookQueues, theirs: WebhookQueues
) -> None:
    claim = await claimed(ours)
    await asyncio.sleep(0.6)
    taken = await claimed(theirs)
    claim.renewed_at = -1e9
    with pytest.raises(Conflict):
        await ours.renew(claim)
    with pytest.raises(Conflict):
        await ours.release(claim)
    with pytest.raises(Conflict):
        await ours.put_off(claim, 1, 1, 9)
    await theirs.release(taken)


async def test_a_gateway_goes_on_with_its_own_claim(ours: WebhookQueues) -> None:
    """It lost the answer of the server, or the turn ended with an outage."""
    await claimed(ours)
    await claimed(ours)


async def test_a_failed_try_is_counted_and_not_due_for_anybody_before_its_time(
    ours: WebhookQueues, theirs: WebhookQueues
) -> None:
    await ours.put_off(await claimed(ours), 7, 2, 0.5)
    for queues in (ours, theirs):
        refused = await queues.claim(ID)
        assert isinstance(refused, NotNow)
        assert (0 < refused.secs <= 0.5, refused.is_due_then) == (True, True)
    await asyncio.sleep(0.6)
    claim = await claimed(theirs)
    assert (claim.state.seq, claim.state.tries) == (7, 2)


async def test_only_the_server_s_clock_counts(ours: WebhookQueues, theirs: WebhookQueues) -> None:
    """Nothing but what the server told decides; a gateway's own clock is not looked at."""
    await ours.put_off(await claimed(ours), 7, 2, 3600)
    theirs.clock.set(theirs.clock.now() + timedelta(seconds=3601))
    claim = await claimed(theirs)
    await theirs.release(claim)


@pytest.mark.parametrize(
    "body", [b"", b"nonsense", b"\xff", b"[" * 100_000, b'{"owner": 7}', b'{"v": 2, "owner": null}']
)
async def test_an_entry_that_cannot_be_read_is_nobody_s(
    js: JetStreamContext, ours: WebhookQueues, body: bytes
) -> None:
    await js.publish(f"$KV.{subjects.WEBHOOK_QUEUES_BUCKET}.{ID}", body)
    claim = await claimed(ours)
    assert claim.state == QueueState(owner="ours", v=claim.state.v)


async def test_an_absurd_delay_does_not_hold_a_queue_for_ever(
    js: JetStreamContext, ours: WebhookQueues
) -> None:
    await js.publish(f"$KV.{subjects.WEBHOOK_QUEUES_BUCKET}.{ID}", b'{"delay_secs": 1e8}')
    refused = await ours.claim(ID)
    assert isinstance(refused, NotNow)
    assert refused.secs <= 24 * 3600


@pytest.mark.parametrize("token", ["*", ">", "a$b", "\u00e4", "x" * 65])
async def test_a_subject_that_is_no_url_s_reads_nothing_else(
    js: JetStreamContext, ours: WebhookQueues, token: str
) -> None:
    await WebhookDeliveries(js).add(delivery(URL, 0))
    assert await ours.first(token) is None
    assert await ours.strays(token) == []


async def test_a_hint_follows_each_delivery(js: JetStreamContext, ours: WebhookQueues) -> None:
    hinted = asyncio.Queue[str]()
    async with ours.hints(hinted.put):
        await js.publish(subjects.webhook("anybody"), b"{}")
        await ours.offer("offered")
        async with asyncio.timeout(5):
            assert [await hinted.get() for _ in range(2)] == ["anybody", "offered"]


async def test_since_when_a_url_fails_is_kept_until_it_works(js: JetStreamContext) -> None:
    urls, webhook = await WebhookUrls.open(js), delivery(URL, 0).webhook
    await urls.mark(webhook.id, EVENT.at)  # never registered: nothing is kept
    assert await urls.registered() == []
    await urls.register(webhook)
    for at in (EVENT.at, EVENT.at + timedelta(hours=1)):
        await urls.mark(webhook.id, at)
        assert [w.failing_since for w in await urls.registered()] == [EVENT.at]
    await urls.register(webhook)  # a job names it again
    assert [w.failing_since for w in await urls.registered()] == [EVENT.at]
    await urls.mark(webhook.id, None)
    assert [w.failing_since for w in await urls.registered()] == [None]


@pytest.mark.parametrize("body", [b"", b"nonsense", b"\xff", b"[" * 100_000, b'{"id": 7}'])
async def test_a_url_s_entry_that_cannot_be_read_hides_no_other(js: JetStreamContext, body: bytes) -> None:
    urls, webhook = await WebhookUrls.open(js), delivery(URL, 0).webhook
    await urls.register(webhook)
    await js.publish(f"$KV.{subjects.WEBHOOK_URLS_BUCKET}.bad", body)
    assert [w.url for w in await urls.registered()] == [URL]
    await urls.mark("bad", EVENT.at)
    assert await urls.remove("bad")
