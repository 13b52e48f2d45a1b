"""Waiting for a dependency that is away: the one loop that tries again without end."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

log = logging.getLogger(__name__)

RETRY_SECS = 1.0
"""Pause between two attempts."""

T = TypeVar("T")


async def retry_forever(
    what: str, attempt: Callable[[], Awaitable[T]], retry_on: tuple[type[Exception], ...]
) -> T:
    """Return the result of `attempt`, which is awaited again after each exception of the kinds in `retry_on`.

    The loop is endless on purpose: a server that is gone comes back, and the only alternative is to lose the work. The
    first failure is logged as a warning that begins with `what`. `attempt` must be safe to repeat, because it may have
    been carried out where only its answer was lost. Any other exception is raised at once.
    """
    is_logged = False
    while True:
        try:
            return await attempt()
        except retry_on as error:
            if not is_logged:
                log.warning("%s: waiting, will try again: %s", what, error)
            is_logged = True
            await asyncio.sleep(RETRY_SECS)
