"""Two awaitables against each other, without losing the result of the one that both sides care about."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def unless(
    work: Coroutine[Any, Any, T],
    event: Coroutine[Any, Any, object],
    late: Callable[[T], object] | None = None,
) -> T | None:
    """Return the result of `work`, or None where `event` ends first. The one that is still running is cancelled.

    A result that arrives together with that cancellation is returned all the same. A result that arrives while the
    caller itself is cancelled is given to `late`, because nobody else could take it.
    """
    working, waiting = asyncio.ensure_future(work), asyncio.ensure_future(event)
    try:
        await asyncio.wait([working, waiting], return_when=asyncio.FIRST_COMPLETED)
        await _cancelled(working, waiting)
    except asyncio.CancelledError:
        if late is not None:
            working.add_done_callback(lambda task: _keep(task, late))
        await _cancelled(working, waiting)
        raise
    return None if working.cancelled() else working.result()


def _keep(task: "asyncio.Future[T]", late: Callable[[T], object]) -> None:
    if not task.cancelled() and task.exception() is None:
        late(task.result())


async def _cancelled(*tasks: "asyncio.Future[Any]") -> None:
    """Cancel the tasks and wait until each of them has ended."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
