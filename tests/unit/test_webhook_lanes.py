"""Whose turn it is among the URLs that have something waiting, and what a gateway knows of them."""

from collections import Counter
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.webhooks.agenda import Agenda
from gateway.webhooks.lanes import (
    AT_ONCE,
    HOST_FAILURES,
    KEPT_FREE,
    PACE_SECS,
    PLACES,
    PLACES_PER_HOST,
    Lane,
    Lanes,
    Reputation,
)


def lanes(*urls: tuple[str, str]) -> tuple[Lanes, Reputation]:
    """With these URLs, each with its host, waiting."""
    reputation = Reputation()
    found = Lanes(reputation)
    for webhook_id, host in urls:
        reputation.is_at(webhook_id, host)
        found.add(webhook_id)
    return found, reputation


TIMES = count(step=PACE_SECS * 2)
"""A clock that never goes back."""


def started(waiting: Lanes) -> list[str]:
    """All that can start, at a pace that holds up nobody."""
    return list(iter(lambda: waiting.start(next(TIMES)), None))


def many(host: str, number: int) -> list[tuple[str, str]]:
    return [(f"{host}{n}", host) for n in range(number)]


def test_a_url_has_one_turn_at_a_time() -> None:
    waiting, _ = lanes(("a", "h"), ("a", "h"))
    assert started(waiting) == ["a"]
    waiting.add("a")
    assert started(waiting) == []
    waiting.end("a")
    waiting.add("a")
    assert started(waiting) == ["a"]


def test_hosts_take_turns_and_none_has_more_than_its_places() -> None:
    waiting, _ = lanes(*many("x", 100), ("y0", "y"))
    assert started(waiting) == ["x0", "y0", "x1"]
    waiting.end("x0")
    assert started(waiting) == ["x2"]


def test_a_lane_has_so_many_places_and_a_slow_turn_gives_its_place_away() -> None:
    waiting, _ = lanes(*((f"u{n}", f"h{n}") for n in range(100)))
    first = started(waiting)
    assert len(first) == PLACES[Lane.NEW]
    waiting.overrun(first[0])
    assert len(started(waiting)) == 1


@pytest.mark.parametrize("well", [True, False])
def test_those_that_went_well_have_a_lane_of_their_own(well: bool) -> None:
    """All places of the other lanes are taken by turns that do not end."""
    waiting, reputation = lanes(*((f"u{n}", f"h{n}") for n in range(200)))
    while going := started(waiting):
        for webhook_id in going:
            waiting.overrun(webhook_id)
    reputation.is_at("known", "good")
    reputation.went("known", well=well)
    waiting.add("known")
    assert started(waiting) == (["known"] if well else [])


def test_sockets_are_bounded_and_some_are_kept_for_the_proven() -> None:
    waiting, reputation = lanes(*((f"u{n}", f"h{n}") for n in range(2 * AT_ONCE)))
    running = 0
    while going := started(waiting):
        running += len(going)
        for webhook_id in going:
            waiting.overrun(webhook_id)
    assert running == AT_ONCE - KEPT_FREE
    for n in range(AT_ONCE):
        reputation.is_at(f"good{n}", f"good{n}")
        reputation.went(f"good{n}", well=True)
        waiting.add(f"good{n}")
    assert len(started(waiting)) == PLACES[Lane.PROVEN]


def test_new_urls_of_a_host_that_fails_are_poor() -> None:
    """Also those that wait already: the thousand job URLs of a dead host do not use the places of new ones."""
    waiting, reputation = lanes(*many("dead", 50))
    first = started(waiting)
    assert len(first) == PLACES_PER_HOST[Lane.NEW]
    for webhook_id in first:
        waiting.overrun(webhook_id)
        waiting.end(webhook_id)
    third = waiting.start(0)
    assert third is not None
    reputation.went(third, well=False)
    assert len(started(waiting)) == PLACES_PER_HOST[Lane.POOR]
    reputation.is_at("later", "dead")
    assert reputation.lane("later") is Lane.POOR
    reputation.went(third, well=True)
    assert (reputation.lane("later"), reputation.lane(third)) == (Lane.NEW, Lane.PROVEN)


def test_poor_turns_begin_one_after_the_other() -> None:
    """A hundred that fail at the same moment are due at the same moment."""
    waiting, reputation = lanes()
    for n in range(3):
        reputation.is_at(f"u{n}", f"h{n}")
        reputation.went(f"u{n}", well=False)
        waiting.add(f"u{n}")
    reputation.is_at("good", "good")
    reputation.went("good", well=True)
    assert waiting.start(1.0) == "u0"
    assert waiting.start(1.0) is None
    assert waiting.next_time(1.0) == pytest.approx(1.0 + PACE_SECS)
    waiting.add("good")
    assert waiting.start(1.0) == "good"
    assert waiting.start(1.0 + PACE_SECS) == "u1"
    assert waiting.start(1.0 + 2 * PACE_SECS) == "u2"
    assert waiting.next_time(1.0 + 2 * PACE_SECS) is None


def test_a_host_without_a_place_is_not_asked_for_again_and_again() -> None:
    """Nothing is due by the clock: only a turn that ends can make room."""
    waiting, reputation = lanes()
    for webhook_id, host in many("dead", 10):
        reputation.is_at(webhook_id, host)
        reputation.went(webhook_id, well=False)
        waiting.add(webhook_id)
    assert len(started(waiting)) == PLACES_PER_HOST[Lane.POOR]
    assert waiting.start(1e6) is None
    assert waiting.next_time(1e6) is None


def test_a_single_failure_does_not_condemn_a_host() -> None:
    reputation = Reputation()
    for n in range(HOST_FAILURES):
        reputation.is_at(f"u{n}", "shared")
        reputation.went(f"u{n}", well=n == 1)
    reputation.is_at("new", "shared")
    assert reputation.lane("new") is Lane.NEW
    assert reputation.lane("u0") is Lane.POOR


def test_what_is_remembered_is_bounded() -> None:
    reputation = Reputation(remembered=10)
    for n in range(100):
        reputation.is_at(f"u{n}", f"h{n}")
        reputation.went(f"u{n}", well=True)
    assert reputation.host("u89") is None
    assert reputation.host("u99") == "h99"


STEPS = st.lists(st.tuples(st.sampled_from(["add", "end", "slow", "well", "bad"]), st.integers(0, 400)))


@given(STEPS)
def test_whatever_happens_the_limits_hold_and_nobody_is_forgotten(steps: list[tuple[str, int]]) -> None:
    waiting, reputation = lanes()
    running, queued, slow = dict[str, None](), set[str](), set[str]()
    for step, number in steps:
        webhook_id = f"u{number}"
        reputation.is_at(webhook_id, f"h{number % 7}")
        going = list(running)
        match step:
            case "add":
                if webhook_id not in waiting:
                    queued.add(webhook_id)
                waiting.add(webhook_id)
            case "end" | "slow" if going:
                chosen = going[number % len(going)]
                if step == "slow":
                    waiting.overrun(chosen)
                    slow.add(chosen)
                else:
                    waiting.end(chosen)
                    del running[chosen]
                    slow.discard(chosen)
            case "well" | "bad":
                reputation.went(webhook_id, well=step == "well")
            case _:
                pass  # nothing has a turn that could end
        for begun in started(waiting):
            queued.remove(begun)
            running[begun] = None
        assert len(running) <= AT_ONCE
        per_host = Counter(int(u[1:]) % 7 for u in running if u not in slow)
        assert all(number <= sum(PLACES_PER_HOST.values()) for number in per_host.values())
        assert len(waiting) == len(running) + len(queued)
    while running or queued:  # everybody has a turn in the end
        for webhook_id in running:
            waiting.end(webhook_id)
        running = dict.fromkeys(started(waiting))
        assert running or not queued
        queued -= set(running)


def known(agenda: Agenda, *ids: str) -> None:
    for webhook_id in ids:
        agenda.reputation.is_at(webhook_id, webhook_id)


def test_a_stranger_is_looked_at_first_and_hints_go_before_what_a_look_finds() -> None:
    agenda = Agenda()
    for webhook_id in ("a", "b"):
        agenda.found(webhook_id, is_new=False)
    agenda.found("c", is_new=True)
    assert agenda.start(0) is None
    assert list(iter(agenda.stranger, None)) == ["c", "a", "b"]
    agenda.is_at("c", "host")
    assert agenda.start(0) == "c"


def test_what_is_not_due_waits_whatever_is_told() -> None:
    agenda = Agenda()
    known(agenda, "a")
    agenda.found("a", is_new=True)
    assert agenda.start(0) == "a"
    agenda.ended("a", again_at=10, is_due_then=True)
    for is_new in (True, False):
        agenda.found("a", is_new=is_new)
    assert agenda.start(9) is None
    assert agenda.next_time(9) == 10
    assert agenda.start(10) == "a"
    assert agenda.next_time(10) is None


def test_what_another_gateway_has_is_tried_again_when_something_new_comes() -> None:
    agenda = Agenda()
    known(agenda, "a")
    agenda.found("a", is_new=True)
    assert agenda.start(0) == "a"
    agenda.ended("a", again_at=15, is_due_then=False)
    agenda.found("a", is_new=False)
    assert agenda.start(1) is None
    agenda.found("a", is_new=True)
    assert agenda.start(1) == "a"
    agenda.ended("a", again_at=None, is_due_then=False)
    assert agenda.start(15) is None  # the time that was noted before is out of date


@pytest.mark.parametrize(
    ("again_at", "is_due_then", "expected"),
    [(None, False, "a"), (15, False, "a"), (15, True, None)],
)
def test_what_comes_during_a_turn_is_not_overlooked(
    again_at: float | None, is_due_then: bool, expected: str | None
) -> None:
    agenda = Agenda()
    known(agenda, "a")
    agenda.found("a", is_new=True)
    assert agenda.start(0) == "a"
    agenda.found("a", is_new=True)
    agenda.ended("a", again_at=again_at, is_due_then=is_due_then)
    assert agenda.start(1) == expected


def test_an_empty_queue_is_forgotten() -> None:
    agenda, ids = Agenda(), [f"u{n}" for n in range(100)]
    known(agenda, *ids)
    for webhook_id in ids:
        agenda.found(webhook_id, is_new=True)
    for now in count():
        begun = list(iter(lambda now=now: agenda.start(now), None))  # type: ignore[misc]
        if not begun:
            break
        for webhook_id in begun:
            agenda.ended(webhook_id, again_at=None, is_due_then=False)
    assert agenda.next_time(1e9) is None
    assert len(agenda._lanes) == 0
