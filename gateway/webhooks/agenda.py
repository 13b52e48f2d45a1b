"""Which URLs have deliveries waiting, as far as this gateway knows: whose turn it is, and when others are due. Pure.

An entry may be lost: the next look at the stream finds it again.
"""

import heapq
from collections import OrderedDict

from gateway.webhooks.lanes import Lanes, Reputation

MOST = 100_000
"""How many waiting URLs are remembered."""


class Agenda:
    """The URLs that wait for a turn. A turn begins with `start` and ends with `ended`. Times are the caller's clock, in seconds."""

    def __init__(self) -> None:
        self.reputation = Reputation()
        self._lanes = Lanes(self.reputation)
        self._strangers: OrderedDict[str, None] = OrderedDict()
        """Ids of URLs whose host is not known. Their first delivery has it."""
        self._later: dict[str, tuple[float, bool]] = {}
        """When each URL is due again, and whether a turn before that would be useless."""
        self._times: list[tuple[float, str]] = []
        """A heap of the same times. An entry that differs from `_later` is outdated."""
        self._again: set[str] = set()
        """Ids of URLs that have a turn, and for which a delivery was stored meanwhile."""

    def found(self, webhook_id: str, *, is_new: bool) -> None:
        """Deliveries wait for this URL. With `is_new` one was stored just now, and the URL goes before those that a look has found."""
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
        """Return the id of a URL whose host is not known, or None. The caller reads its first delivery and calls `is_at`."""
        return self._strangers.popitem(last=False)[0] if self._strangers else None

    def is_at(self, webhook_id: str, host: str) -> None:
        """Say at which host and port a URL is. It then waits for its turn."""
        self.reputation.is_at(webhook_id, host)
        self._lanes.add(webhook_id)

    def start(self, now: float) -> str | None:
        """Return the id of the URL whose turn begins now, or None. The caller reports its end with `ended`."""
        while self._times and self._times[0][0] <= now:
            at, webhook_id = heapq.heappop(self._times)
            if self._later.get(webhook_id, (None, False))[0] == at:
                del self._later[webhook_id]
                self._queue(webhook_id, first=False)
        return self._lanes.start(now)

    def next_time(self, now: float) -> float | None:
        """Return when `start` may return an id again, if it has just returned None and nothing else happens; None for never."""
        times = [self._times[0][0] if self._times else None, self._lanes.next_time(now)]
        return min((at for at in times if at is not None), default=None)

    def overrun(self, webhook_id: str) -> None:
        """Report that the turn of a URL takes longer than SLOW_SECS."""
        self._lanes.overrun(webhook_id)

    def ended(self, webhook_id: str, again_at: float | None, *, is_due_then: bool) -> None:
        """Report the end of a turn. `again_at` is when the next one may begin; None where nothing waits for the URL any more."""
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
