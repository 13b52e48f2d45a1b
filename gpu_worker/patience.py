"""The broker's faults are waited for: an outage of any length, in any phase, costs a job nothing."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from broker.errors import BrokerError
from gpu_worker.blame import Fault, fault_of

log = logging.getLogger(__name__)

BROKER_RETRY_SECS = 1.0

T = TypeVar("T")


async def patiently(what: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """Do it, again and again while the broker cannot be reached: endless, because a server that is gone comes back.

    `attempt` must be safe to repeat: where its answer was lost, it may have been done. Raises what is no outage, such as
    Conflict and Refused.
    """
    is_told = False
    while True:
        try:
            return await attempt()
        except BrokerError as error:
            if fault_of(error) is not Fault.BROKER:
                raise
            if not is_told:
                log.warning("%s waits for the broker: %s", what, error)
            is_told = True
            await asyncio.sleep(BROKER_RETRY_SECS)
