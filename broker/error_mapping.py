"""The only place that turns errors of nats-py and of nats-server into those of broker/errors.py."""

import asyncio
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import nats.errors
from nats.js.errors import APIError, NoStreamResponseError

from broker.errors import StorageFull, SubjectFull
from broker.verdict import Condition, verdict


class ConnectionFacts:
    """What nats-server has said of the connection outside the answers to requests. A process has one connection."""

    def __init__(self) -> None:
        self.denials = 0
        """How many requests were denied for want of a permission."""
        self.denied = ""
        """The last denial, as the server has worded it."""
        self.has_jetstream = True
        """Whether the server, or another one of its cluster, has JetStream."""
        self.refused_at = -math.inf
        """When the store had no room last, on time.monotonic."""

    def condition(self, denials_before: int) -> Condition:
        """Return what is known for a request before which there were so many denials."""
        denied = self.denied if self.denials > denials_before else None
        return Condition(has_jetstream=self.has_jetstream, denied=denied)


facts = ConnectionFacts()
"""Written by broker/connection.py."""


@contextmanager
def mapped_errors() -> Iterator[None]:
    """Turn errors of nats-py inside the block into broker errors; broker/verdict.py decides into which.

    It also raises CancelledError where nats-py has lost one, after success and failure alike. nats-py uses asyncio.wait_for, which
    before Python 3.12 forgets a cancellation that comes together with the result, and its publish catches cancellations. Without
    this an upload lived on after its client had gone, and a worker after its SIGTERM.
    """
    task = asyncio.current_task()
    before, denials = task.cancelling() if task else 0, facts.denials
    try:
        yield
    except (nats.errors.Error, APIError, NoStreamResponseError, OSError, TimeoutError) as error:
        if task and task.cancelling() > before:
            raise asyncio.CancelledError from error
        ours = verdict(error, facts.condition(denials))
        if isinstance(ours, StorageFull) and not isinstance(ours, SubjectFull):
            facts.refused_at = time.monotonic()
        raise ours from error
    if task and task.cancelling() > before:
        raise asyncio.CancelledError


def refused_lately(within_secs: float) -> bool:
    """Whether the store had no room for something of this process within the last `within_secs`."""
    return time.monotonic() - facts.refused_at < within_secs
