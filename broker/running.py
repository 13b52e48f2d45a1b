"""How our processes run: uvloop, one line of log per event, and an orderly end on SIGTERM and SIGINT."""

import asyncio
import logging
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import uvloop

from broker.errors import BrokerError

log = logging.getLogger(__name__)


def set_up_logging(level: str) -> None:
    """To stderr, with time, level and module."""
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )


def run_until_signal(work: Coroutine[Any, Any, None]) -> int:
    """Run `work` until it ends or a signal cancels it; the exit status of the process."""

    async def main() -> int:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
        for sig in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sig, task.cancel)
        try:
            await task
        except asyncio.CancelledError:
            return 0
        except BrokerError as error:
            log.error("%s", error)
            return 1
        return 0

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())
