"""Requests to nats-server that wait for it: an outage of any length costs the work that waits nothing."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from broker.errors import OUTAGES
from process.retry import retry_forever

T = TypeVar("T")


async def patiently(what: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """Return the result of `attempt`, which is repeated while nats-server is away or has no room.

    `what` names the work in the log. `attempt` must be safe to repeat: where its answer was lost, it may have been done.
    Raises every error that is no outage, such as Conflict and Refused.
    """
    return await retry_forever(what, attempt, OUTAGES)
