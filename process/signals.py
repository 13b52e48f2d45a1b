"""How our processes run and stop: on uvloop, until SIGTERM or SIGINT, with an end that always comes.

The first signal asks for the end: the work is cancelled once and cleans up in its own order, for STOP_SECS at most. The
second signal ends the process at once. Neither depends on the work: it may wait for a frozen server, swallow its cancellation or
block the event loop, and the process has still ended before Docker's ten seconds are over.
"""

import asyncio
import logging
import os
import signal
import threading
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import uvloop

from process.exit_status import FAILED, KILLED_BY

log = logging.getLogger(__name__)

STOP_SECS = 8.0
"""Limit of an ordered end, from the signal on. Docker sends SIGKILL after 10 s."""
LAST_WORDS_SECS = 0.5
"""How long before that limit the tasks that still run are logged."""


def run_until_signal(work: Coroutine[Any, Any, None], expected: type[Exception]) -> int:
    """Run `work` until it ends or a signal cancels it. Returns the exit status of the process:

    0 after a signal; 1 after an exception of the kind `expected`, which is logged as one line. Anything else is raised.
    """

    async def main() -> int:
        task = asyncio.ensure_future(work)
        stop = _Stop(asyncio.get_running_loop(), task)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop.on_signal)
        try:
            await task
        except asyncio.CancelledError:
            if not stop.is_asked_for:
                raise
        except expected as error:
            return _failed(stop, [error])
        except BaseExceptionGroup as group:
            # A TaskGroup raises this even where only one of its tasks has failed.
            known, others = group.split(expected)
            if others is not None or known is None:
                raise
            return _failed(stop, _leaves(known))
        return 0

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


class _Stop:
    """What signals do to the process. The handlers are Python's and not the loop's, because they must outlive the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, task: "asyncio.Task[None]") -> None:
        self._loop, self._task = loop, task
        self.is_asked_for = False

    def on_signal(self, number: int, _frame: object) -> None:
        """Begin an ordered end at the first signal. A second one, or one that comes when the work has ended, ends the process."""
        if self.is_asked_for or self._task.done():
            os._exit(KILLED_BY + number)
        self.is_asked_for = True
        # A thread, because the loop may be blocked. os._exit, because sys.exit would wait for threads that hang.
        deadline = threading.Timer(STOP_SECS, os._exit, [0])
        deadline.daemon = True
        deadline.start()
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        self._task.cancel()
        self._loop.call_later(STOP_SECS - LAST_WORDS_SECS, self._log_what_hangs)

    def _log_what_hangs(self) -> None:
        tasks = asyncio.all_tasks(self._loop)
        running = Counter(getattr(task.get_coro(), "__qualname__", task.get_name()) for task in tasks)
        words = ", ".join(f"{count} {name}" for name, count in sorted(running.items()))
        log.warning("no orderly end within %g s, still running: %s", STOP_SECS, words)


def _failed(stop: _Stop, errors: list[BaseException]) -> int:
    """Log the errors. After a signal they are no failure of ours: what we depend on may be stopping as well."""
    for error in errors:
        log.log(logging.WARNING if stop.is_asked_for else logging.ERROR, "%s", error)
    return 0 if stop.is_asked_for else FAILED


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
