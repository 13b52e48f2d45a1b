"""The private names of nats-py that this project leans on: a release that changes one must fail here, and not in production.

pyproject.toml caps nats-py below the next minor version for the same reason.
"""

import inspect

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.client import JetStreamContext as _Js
from nats.micro.request import Request

from broker.client import NatsClient

PRIVATE: list[tuple[type, str, str]] = [
    (Client, "_send_unsubscribe", "broker/pulling.py ends a pull request at the server first"),
    (Client, "_server_info", "broker/client.py reads whether the server has JetStream"),
    (Client, "_nuid", "broker/object_store.py names the chunks of an object"),
    (Subscription, "_pending_queue", "broker/pulling.py keeps messages that arrived late"),
    (Subscription, "_id", "broker/pulling.py names the subscription that ends"),
    (JetStreamContext, "_nc", "broker/ makes requests on the connection under a context"),
    (JetStreamContext, "_prefix", "broker/ makes requests of JetStream's API"),
    (_Js.PushSubscription, "_consumer", "broker/following.py asks whether its consumer exists"),
    (Request, "_msg", "broker/micro.py sees whether a reply is wanted"),
]


@pytest.mark.parametrize(("owner", "name", "why"), PRIVATE, ids=lambda p: p if isinstance(p, str) else None)
def test_a_private_name_is_still_there(owner: type, name: str, why: str) -> None:
    """It is a method, a class attribute, or is set in the constructor."""
    is_set = f"self.{name}" in inspect.getsource(owner) or f"self.{name}:" in inspect.getsource(owner)
    assert hasattr(owner, name) or is_set, why


def test_status_messages_are_told_from_others() -> None:
    assert callable(JetStreamContext.is_status_msg)
    assert JetStreamContext.is_status_msg(Msg(_client=NatsClient(), headers={"Status": "408"}))
