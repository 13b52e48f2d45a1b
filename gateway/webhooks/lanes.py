"""Which URL has its turn next. Pure.

A URL has one turn at a time, so that its deliveries keep their order. Turns run in three lanes, each with places of its own:
for URLs whose last delivery was taken fast, for URLs that nothing is known of, and for slow or failing ones. So receivers that do
not answer wait for each other, and delay nobody else. A turn that takes longer than SLOW_SECS moves to the lane of the slow
ones, whether there is a place or not, so that its place in the other lane is free after a second at the latest.

Within a lane hosts take turns, and each host has a limit: a thousand URLs of one host do not hold up another host.
"""

from collections import Counter, OrderedDict, deque
from enum import IntEnum
from typing import TypeVar

SLOW_SECS = 1.0
"""A turn or a delivery that takes longer counts as slow."""
AT_ONCE = 256
"""Turns of one gateway in all lanes together, which is also the number of its sockets."""
KEPT_FREE = 64
"""How many of AT_ONCE only proven URLs may use, because slow turns that have moved are counted in no lane's places."""
HOST_FAILURES = 3
"""Failures in a row after which the unknown URLs of a host are expected to fail as well."""
REMEMBERED = 50_000
"""How many URLs and hosts are remembered, the last used ones."""


class Lane(IntEnum):
    """The lanes, in the order in which free places are filled."""

    PROVEN = 0
    NEW = 1
    POOR = 2


PLACES = {Lane.PROVEN: 32, Lane.NEW: 32, Lane.POOR: 32}
PLACES_PER_HOST = {Lane.PROVEN: 8, Lane.NEW: 2, Lane.POOR: 4}
"""Turns at a time in each lane, in all and for each host."""
PACE_SECS = 0.02
"""Seconds between the starts of two turns in the poor lane, so that many which fail together do not start together."""

V = TypeVar("V")


class Reputation:
    """How the last deliveries to each URL and host have gone."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._hosts: OrderedDict[str, str] = OrderedDict()
        self._well: OrderedDict[str, bool] = OrderedDict()
        self._failures: OrderedDict[str, int] = OrderedDict()
        """Failures of each host since its last success."""

    def host(self, webhook_id: str) -> str | None:
        """Return host and port of a URL; None where nothing is known of it."""
        return self._hosts.get(webhook_id)

    def is_at(self, webhook_id: str, host: str) -> None:
        """Remember at which host and port a URL is."""
        self._keep(self._hosts, webhook_id, host)

    def went(self, webhook_id: str, *, well: bool) -> None:
        """Remember a delivery. `well` means that it was taken, and fast."""
        host = self._hosts.get(webhook_id, "")
        self._keep(self._well, webhook_id, well)
        self._keep(self._failures, host, 0 if well else self._failures.get(host, 0) + 1)

    def lane(self, webhook_id: str) -> Lane:
        """Return the lane that a URL belongs to now."""
        match self._well.get(webhook_id):
            case True:
                return Lane.PROVEN
            case False:
                return Lane.POOR
            case None:
                failures = self._failures.get(self._hosts.get(webhook_id, ""), 0)
                return Lane.POOR if failures >= HOST_FAILURES else Lane.NEW

    def _keep(self, kept: OrderedDict[str, V], key: str, value: V) -> None:
        kept[key] = value
        kept.move_to_end(key)
        if len(kept) > self._remembered:
            kept.popitem(last=False)


class Lanes:
    """The URLs that wait for a turn, and those that have one."""

    def __init__(self, reputation: Reputation) -> None:
        self._reputation = reputation
        self._waiting: dict[Lane, OrderedDict[str, deque[str]]] = {lane: OrderedDict() for lane in Lane}
        """Ids of waiting URLs by lane and host."""
        self._queued: set[str] = set()
        self._running: dict[str, tuple[Lane, str]] = {}
        self._in_lane, self._of_host = Counter[Lane](), Counter[tuple[Lane, str]]()
        self._paced_until = 0.0
        """When the next turn of the poor lane may start."""

    def __len__(self) -> int:
        """How many URLs wait or have a turn."""
        return len(self._queued) + len(self._running)

    def __contains__(self, webhook_id: object) -> bool:
        """Whether a URL waits or has a turn."""
        return webhook_id in self._queued or webhook_id in self._running

    def add(self, webhook_id: str) -> None:
        """Let a URL wait, behind the others of its host, which the reputation must know. No effect for one that is here."""
        if webhook_id not in self:
            self._queued.add(webhook_id)
            self._enqueue(self._reputation.lane(webhook_id), webhook_id)

    def start(self, now: float) -> str | None:
        """Begin the next turn and return the id of its URL; None where none waits, or where there is no place now."""
        for lane in Lane:
            if self._has_place(lane) and (lane is not Lane.POOR or now >= self._paced_until):
                found = self._take(lane)
                if found is not None:
                    self._paced_until = now + PACE_SECS if lane is Lane.POOR else self._paced_until
                    return found
        return None

    def next_time(self, now: float) -> float | None:
        """Return when a URL of the poor lane may start that only the pace holds up at `now`; None where there is none."""
        held_up = self._paced_until > now and self._waiting[Lane.POOR] and self._has_place(Lane.POOR)
        return self._paced_until if held_up else None

    def overrun(self, webhook_id: str) -> None:
        """Move a turn that has become slow to the poor lane."""
        self._reputation.went(webhook_id, well=False)
        lane, host = self._running[webhook_id]
        self._count(lane, host, -1)
        self._count(Lane.POOR, host, 1)
        self._running[webhook_id] = (Lane.POOR, host)

    def end(self, webhook_id: str) -> None:
        """End a turn."""
        lane, host = self._running.pop(webhook_id)
        self._count(lane, host, -1)

    def _has_place(self, lane: Lane) -> bool:
        most = AT_ONCE if lane is Lane.PROVEN else AT_ONCE - KEPT_FREE
        return self._in_lane[lane] < PLACES[lane] and len(self._running) < most

    def _enqueue(self, lane: Lane, webhook_id: str) -> None:
        host = self._reputation.host(webhook_id) or ""
        self._waiting[lane].setdefault(host, deque()).append(webhook_id)

    def _take(self, lane: Lane) -> str | None:
        hosts, full = self._waiting[lane], 0
        while full < len(hosts):
            host = next(iter(hosts))
            hosts.move_to_end(host)
            if self._of_host[lane, host] >= PLACES_PER_HOST[lane]:
                # Each of these hosts has a turn, so there are few of them.
                full += 1
            elif (webhook_id := self._pop(lane, host)) is not None:
                self._queued.remove(webhook_id)
                self._running[webhook_id] = (lane, host)
                self._count(lane, host, 1)
                return webhook_id
        return None

    def _pop(self, lane: Lane, host: str) -> str | None:
        """Take the first URL of a host. URLs that have become poor while they waited move to their new lane."""
        waiting = self._waiting[lane][host]
        found = None
        while waiting and found is None:
            found = waiting.popleft()
            if (now := self._reputation.lane(found)) > lane:
                self._enqueue(now, found)
                found = None
        if not waiting:
            del self._waiting[lane][host]
        return found

    def _count(self, lane: Lane, host: str, change: int) -> None:
        self._in_lane[lane] += change
        self._of_host[lane, host] += change
        if not self._of_host[lane, host]:
            del self._of_host[lane, host]
