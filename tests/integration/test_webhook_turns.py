"""A URL's turn, between two gateways."""

from typing import Any

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from broker.settings import BrokerSettings
from broker.webhook_queues import Claim, WebhookQueues
from broker.webhooks import WebhookDeliveries
from gateway.assembly import assemble
from gateway.settings import GatewaySettings
from gateway.webhooks.turn import Means, TurnEnd, take_turn
from tests.support.webhook_load import delivery

URL = "http://127.0.0.1:9/hook"
ID = delivery(URL, 0).webhook.id


class LateArrival(WebhookQueues):
    """Something is stored between the last look at the queue and the release of the claim."""

    async def release(self, claim: Claim) -> None:
        await WebhookDeliveries(self._js).add(delivery(URL, 1))
        await super().release(claim)


async def means(
    client: Client, js: JetStreamContext, settings: BrokerSettings, queues: WebhookQueues
) -> Means:
    gateway = await assemble(GatewaySettings(nats_url=settings.nats_url), client, js)
    found: dict[str, Any] = {**vars(gateway._sender._means), "queues": queues}
    return Means(**found)


@pytest.mark.parametrize(("kind", "expected"), [(WebhookQueues, None), (LateArrival, 0.0)])
async def test_what_is_stored_while_a_claim_keeps_others_out_is_not_overlooked(
    client: Client,
    js: JetStreamContext,
    broker_settings: BrokerSettings,
    kind: type[WebhookQueues],
    expected: float | None,
) -> None:
    """Its hint may have gone to a gateway that could not claim the queue then."""
    turns = await means(client, js, broker_settings, await kind.open(js, "ours"))
    assert await take_turn(turns, ID) == TurnEnd(again_secs=expected)
