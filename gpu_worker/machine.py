"""Is this machine fit for work? Where it is not, the worker takes no jobs, says why, and tries again by itself."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from gpu_worker.blame import Fault, fault_of, in_words, pause_secs
from gpu_worker.gate import Gate

log = logging.getLogger(__name__)


REMEMBERED = 1000
"""Jobs that were given back for this machine's sake."""


class Machine:
    def __init__(self, probe: Callable[[], Awaitable[None]], changed: Callable[[], None]) -> None:
        """`probe` raises what is wrong with the machine now; `changed` is called whenever `trouble` is another."""
        self._probe, self._changed = probe, changed
        self._failures = 0
        """In a row: jobs that were given back for the machine's sake, and probes."""
        self._given_back: dict[int, None] = {}
        self.trouble: str | None = None
        self.gate = Gate(is_open=False)
        """Closed until the first probe, and while there is trouble: no job is to be pulled."""

    def report(self, why: str) -> None:
        """A job has failed by the machine's fault: step back."""
        log.warning("this machine is in trouble: %s", why)
        if self.gate.is_open:  # the second job in hand meets the same trouble as the first
            self._failures += 1
        self.trouble = why
        self.gate.close()
        self._changed()

    def gave_back(self, submission: int) -> None:
        """The submission with this sequence: others should have it, where there are any."""
        while len(self._given_back) >= REMEMBERED:
            del self._given_back[next(iter(self._given_back))]
        self._given_back[submission] = None

    def passes_on(self, submission: int) -> bool:
        """It is for others first. Once each time that it is given back: the others may have failed it as well."""
        return self._given_back.pop(submission, submission) is None

    def proved(self) -> None:
        """A job has come to its own end here: the next pause is a short one again."""
        if self.gate.is_open:
            self._failures = 0

    async def run(self) -> None:
        """Probe at the start and after each trouble, with growing pauses, until cancelled."""
        await self._try()
        while True:
            await self.gate.wait_closed()
            await asyncio.sleep(pause_secs(self._failures))
            await self._try()

    async def _try(self) -> None:
        """Open the gate, or say why not. Raises what is not the machine's fault."""
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
