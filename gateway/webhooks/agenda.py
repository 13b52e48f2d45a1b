"""What a gateway knows of the queues that wait for its URLs: whose turn it is, and when others come up. Pure.

It may forget: what is not here is found again by the next look at the stream.
"""

import heapq
from collections import OrderedDict

from gateway.webhooks.lanes import Lanes, Reputation

MOST = 100_000
"""URLs that are known to wait."""


class Agenda:
    def __init__(self) -> None:
        self.reputation = Reputation()
        self._lanes = Lanes(self.reputation)
        self._strangers: OrderedDict[str, None] = OrderedDict()
        """URLs whose host is not known: their first delivery tells it."""
        self._later: dict[str, tuple[float, bool]] = {}
        """When each comes up again, and whether nothing can be done before."""
        self._times: list[tuple[float, str]] = []
        """A heap of the same; entries that `_later` does not bear out are out of date."""
        self._again: set[str] = set()
        """Those in a turn, for which something came meanwhile."""

    def found(self, webhook_id: str, *, is_new: bool) -> None:
        """Something waits for this URL. `is_new`: it has just been stored, and goes before what a look has found."""
        _, is_due_then = self._later.get(webhook_id, (0.0, True))
        if webhook_id in self._later and (is_due_then or not is_new):
            return
        if webhook_id in self._lanes:
            if is_new:
                self._again.add(webhook_id)
            return
        if webhook_id not in self._later and len(self._lanes) + len(self._strangers) >= MOST:
            return
        self._later.pop(webhook_id, None)
        self._queue(webhook_id, first=is_new)

    def stranger(self) -> str | None:
        """One whose first delivery is to be looked at; `is_at` or `nothing_waits` follows."""
        return self._strangers.popitem(last=False)[0] if self._strangers else None

    def is_at(self, webhook_id: str, host: str) -> None:
        self.reputation.is_at(webhook_id, host)
        self._lanes.add(webhook_id)

    def start(self, now: float) -> str | None:
        """The URL that is to have a turn now; `ended` follows."""
        while self._times and self._times[0][0] <= now:
            at, webhook_id = heapq.heappop(self._times)
            if self._later.get(webhook_id, (None, False))[0] == at:
                del self._later[webhook_id]
                self._queue(webhook_id, first=False)
        return self._lanes.start(now)

    def next_time(self, now: float) -> float | None:
        """When `start` may have something, after it had nothing `now`, though nothing else has changed."""
        times = [self._times[0][0] if self._times else None, self._lanes.next_time(now)]
        return min((at for at in times if at is not None), default=None)

    def overrun(self, webhook_id: str) -> None:
        """Its turn takes long."""
        self._lanes.overrun(webhook_id)

    def ended(self, webhook_id: str, again_at: float | None, *, is_due_then: bool) -> None:
        """Its turn is over. Its queue is empty where `again_at` is None."""
        self._lanes.end(webhook_id)
        came = webhook_id in self._again
        self._again.discard(webhook_id)
        if again_at is None or (came and not is_due_then):
            if came:
                self._queue(webhook_id, first=True)
        elif len(self._later) < MOST:
            self._later[webhook_id] = (again_at, is_due_then)
            heapq.heappush(self._times, (again_at, webhook_id))

    def _queue(self, webhook_id: str, *, first: bool) -> None:
        if self.reputation.host(webhook_id) is not None:
            self._lanes.add(webhook_id)
        else:
            self._strangers[webhook_id] = None
            if first:
                self._strangers.move_to_end(webhook_id, last=False)
