"""Whether this machine is fit for work. While it is not, the worker takes no jobs, publishes why, and probes again."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gpu_worker.blame import Fault, fault_of, in_words, pause_secs
from gpu_worker.gate import Gate

log = logging.getLogger(__name__)

REMEMBERED = 1000
"""How many submissions that were given back because of this machine are remembered."""


class Machine:
    """The state of this machine, as far as jobs depend on it."""

    def __init__(self, probe: Callable[[], Awaitable[None]], changed: Callable[[], None]) -> None:
        """`probe` raises what is wrong with the machine; `changed` is called whenever `trouble` has changed."""
        self._probe, self._changed = probe, changed
        self._failures = 0
        """Failures in a row: jobs that were given back because of this machine, and probes."""
        self._given_back: dict[int, None] = {}
        self.trouble: str | None = None
        """What is wrong, as a sentence; None where nothing is."""
        self.gate = Gate(is_open=False)
        """Closed until the first probe has succeeded, and while there is trouble: no job is pulled then."""

    def report(self, why: str) -> None:
        """A job has failed by a fault of this machine: take no more jobs until a probe succeeds."""
        log.warning("this machine is in trouble: %s", why)
        # The second job in hand meets the same trouble as the first, which counts once.
        if self.gate.is_open:
            self._failures += 1
        self.trouble = why
        self.gate.close()
        self._changed()

    def gave_back(self, submission: int) -> None:
        """Remember that the submission with this stream sequence was given back, so that other workers get it first."""
        while len(self._given_back) >= REMEMBERED:
            del self._given_back[next(iter(self._given_back))]
        self._given_back[submission] = None

    def passes_on(self, submission: int) -> bool:
        """Whether other workers should get this submission first. True once for each time that it was given back."""
        return self._given_back.pop(submission, submission) is None

    def proved(self) -> None:
        """A job has come to its end here, so the next pause is a short one again."""
        if self.gate.is_open:
            self._failures = 0

    async def run(self) -> None:
        """Probe at the start and after each trouble, with growing pauses, until cancelled."""
        await self._probe_once()
        while True:
            await self.gate.wait_closed()
            await asyncio.sleep(pause_secs(self._failures))
            await self._probe_once()

    async def _probe_once(self) -> None:
        """Open the gate, or keep the reason in `trouble`. Raises errors that are not the machine's fault."""
        try:
            await self._probe()
        except Exception as error:
            if fault_of(error) is not Fault.MACHINE:
                raise
            self._failures += 1
            if self.trouble != in_words(error):
                log.warning("this machine is in trouble: %s", in_words(error))
            self.trouble = in_words(error)
        else:
            if self.trouble is not None:
                log.info("this machine takes jobs again")
            self.trouble = None
            self.gate.open()
        self._changed()
