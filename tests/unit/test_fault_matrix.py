"""The verdict on a fault: what is lost, doubled or charged is seen. And the matrix is as large as it is said to be."""

import re

import msgspec
import pytest

from tests.faults.matrix.cells import CELLS, LEFT_OUT, Cell, Fault, Part, Phase, selected
from tests.faults.matrix.checking import (
    Event,
    Facts,
    Heard,
    Spoken,
    Version,
    charged,
    verdict,
    was_missed,
)
from tests.faults.matrix.report import Result, Run, markdown

CELL = Cell(Fault.STOP, Part.NATS, Phase.TRANSCRIBING)
SAID = Spoken(text="one two three", phrases=[(0.0, 1.0), (2.0, 3.0)], exact=True)
LOOSE = msgspec.structs.replace(SAID, exact=False)
HEARD = Heard(status="done", text="one two three", segments=[(0.0, 1.0), (2.0, 3.0)])
LOG = [
    Event("j", "queued", 1),
    Event("j", "started", 3, attempt=1),
    Event("j", "segment", 4, index=0),
    Event("j", "segment", 5, index=1),
    Event("j", "done", 6),
]


def facts(**changes: object) -> Facts:
    """Of a job that came through, but for the changes."""
    good = Facts(
        signal_at=4.5,
        recovered_secs=2.0,
        spoken={"j": SAID},
        events=LOG,
        heard={"j": HEARD},
        posts=[("msg_1", "j")],
        streams={"j": ["queued 1", "started 2", "segment 3", "segment 4", "done 5"]},
        left={"jobs": 0, "webhooks": 0, "audio": 0},
    )
    return msgspec.structs.replace(good, **changes)


def heard(**changes: object) -> dict[str, Heard]:
    return {"j": msgspec.structs.replace(HEARD, **changes)}


def without(kind: str) -> list[Event]:
    return [event for event in LOG if event.kind != kind]


def test_a_job_that_came_through_passes() -> None:
    found = verdict(CELL, facts())
    assert found.passed
    assert (found.attempts, found.retold) == (1, 0)


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (facts(heard={}), "no gateway knows it"),
        (facts(heard=heard(status="failed", error="engine_crashed")), "failed engine_crashed"),
        (facts(heard=heard(text="one two")), "instead of"),
        (facts(spoken={"j": LOOSE}, heard=heard(text="one")), "of its words are right"),
        (facts(spoken={"j": LOOSE}, heard=heard(segments=[(0.0, 1.0)])), r"nothing was heard at \[\(2"),
        (facts(events=without("done")), "its log has no end"),
        (facts(events=[e for e in LOG if e.index != 0]), r"segments \[0\] are missing"),
        (facts(posts=[]), "no webhook has told its end"),
        (facts(streams={"j": ["queued 1"]}), "never saw its end"),
    ],
)
def test_what_is_lost_is_seen(seen: Facts, words: str) -> None:
    found = verdict(CELL, seen)
    assert not found.passed
    assert len(found.lost) == 1, found
    assert re.search(words, found.lost[0])
    assert found.doubled == []


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (facts(events=[*LOG, Event("k", "queued", 7)]), "k: a job that no client was told of"),
        (facts(events=[*LOG, Event("j", "cancelled", 7)]), "ended 2 times"),
        (facts(events=[*LOG[:-1], LOG[-2], LOG[-1]]), r"segments \[1\] more than once"),
        (facts(events=[*LOG, Event("j", "segment", 7, index=2)]), "segment behind its end"),
        (facts(events=[*LOG, Event("j", "started", 7, attempt=1)]), "started behind its end"),
        (facts(posts=[("msg_1", "j"), ("msg_2", "j")]), "2 webhooks with different ids"),
        (facts(streams={"j": ["queued 1", "done 5", "queued 1"]}), "saw queued 1 more than once"),
    ],
)
def test_what_is_doubled_is_seen(seen: Facts, words: str) -> None:
    found = verdict(CELL, seen)
    assert not found.passed
    assert len(found.doubled) == 1, found
    assert re.search(words, found.doubled[0])
    assert found.lost == []


def test_segments_that_overlap_are_wrong() -> None:
    seen = facts(spoken={"j": LOOSE}, heard=heard(segments=[(0.0, 2.6), (2.0, 3.0)]))
    assert verdict(CELL, seen).lost == ["j: segments overlap"]


def test_a_submission_that_is_published_again_is_nothing_doubled() -> None:
    assert verdict(CELL, facts(events=[*LOG, Event("j", "queued", 7)])).passed


def test_a_webhook_that_comes_again_with_its_id_is_counted_and_allowed() -> None:
    found = verdict(CELL, facts(posts=[("msg_1", "j")] * 3))
    assert (found.passed, found.retold) == (True, 2)


def test_an_attempt_is_charged_only_where_the_job_may_have_ended_its_worker() -> None:
    twice = facts(events=[LOG[0], LOG[1], Event("j", "started", 3.5, attempt=2), *LOG[2:]])
    assert verdict(CELL, twice).attempts == 2
    guilty = [cell for cell in CELLS if verdict(cell, twice).passed]
    assert {(c.fault, c.part, c.phase) for c in guilty} == {
        (fault, part, Phase.TRANSCRIBING)
        for fault in (Fault.KILL, Fault.STOP)
        for part in (Part.WORKER, Part.UP)
    }


def test_an_attempt_that_is_given_back_is_not_charged() -> None:
    """A worker that was frozen claims the job of its successor, which then lets it go and says that it lives."""
    events = [LOG[0], LOG[1], Event("j", "started", 3.5, attempt=2), *LOG[2:]]
    claimed, again = Version(1, 0, False), Version(2, 0, False)
    committed, ended = Version(1, 1, False), Version(1, 1, True)
    assert charged(events, [claimed, again, claimed, committed, ended]) == 1
    assert charged(events, [claimed, again, committed, ended]) == 2
    assert charged(events, [claimed, again, Version(2, 0, True)]) == 2
    assert charged(events, []) == 2
    assert charged(events, [claimed, committed, ended]) == 2, "the second claim was not seen: its word counts"
    assert charged(events, [claimed, again, claimed]) == 2, "nor was the end"
    given_back = facts(events=events, records={"j": [claimed, again, claimed, committed, ended]})
    assert verdict(CELL, given_back).passed


@pytest.mark.parametrize(
    "seen",
    [
        facts(recovered_secs=None),
        facts(left={"jobs": 1}),
        facts(left={"audio": 1}),
        facts(processes=["gpu_worker"]),
        facts(spool=["a/pcm"]),
        facts(died=["worker-2 ended by itself with status 1"]),
        facts(trouble=["TimeoutError: decoder never came"]),
        facts(signal_at=6.5),
    ],
)
def test_what_is_left_over_is_seen(seen: Facts) -> None:
    found = verdict(CELL, seen)
    assert not found.passed
    assert (found.lost, found.doubled, len(found.other)) == ([], [], 1)


def test_an_orderly_stop_must_not_wait_for_the_ack_deadline() -> None:
    slow = facts(recovered_secs=29.0)
    assert verdict(CELL, slow).passed
    found = verdict(Cell(Fault.TERM, Part.WORKER, Phase.TRANSCRIBING), slow)
    assert len(found.other) == 1
    assert "not given back" in found.other[0]


def test_a_signal_after_the_phase_is_tried_again() -> None:
    assert not was_missed(CELL, facts(signal_at=5.9))
    assert was_missed(CELL, facts(signal_at=6.1))
    loading = msgspec.structs.replace(CELL, phase=Phase.LOADING)
    assert was_missed(loading, facts(signal_at=3.1))


def test_the_matrix_has_every_fault_part_and_phase_or_a_reason() -> None:
    assert len(CELLS) >= 60
    assert len({cell.name for cell in CELLS}) == len(CELLS)
    tried = {(cell.part, cell.phase) for cell in CELLS}
    for part in Part:
        for phase in Phase:
            if phase is not Phase.QUEUE:
                assert ((part, phase) in tried) != ((part, phase) in LEFT_OUT), (part, phase)
    assert {(cell.fault, cell.part) for cell in CELLS} == {
        (fault, part) for fault in Fault for part in Part if (fault, part) != (Fault.RESTART, Part.DECODER)
    }
    long_queue = [cell.fault for cell in CELLS if cell.servers == 3 and cell.phase is Phase.QUEUE]
    assert long_queue == [Fault.KILL, Fault.STOP, Fault.RESTART]


def test_cells_are_selected_by_words() -> None:
    assert {(cell.fault, cell.part) for cell in selected("kill WORKER")} == {(Fault.KILL, Part.WORKER)}
    assert {cell.part for cell in selected("up")} == {Part.UP}
    assert {cell.phase for cell in selected("nats acknow")} == {Phase.ACKING}
    assert selected("") == CELLS
    assert selected("no such cell") == []


def test_the_evidence_tells_what_failed() -> None:
    run = Run(date="2026-01-01", machine="2 cores", commit="abc", command="make faults", took_secs=60)
    good = Result(CELL, facts(), 1.0)
    bad = Result(Cell(Fault.KILL, Part.UP, Phase.QUEUED), facts(posts=[], recovered_secs=None), 1.0)
    text = markdown([good, bad], run)
    assert "**1 of 2 cells passed.**" in text
    assert "| STOP+CONT | transcribing | 0 | 0 | 0 | 1 | 2.0 |  |" in text
    assert "| KILL | queued | 1 | 0 | 0 | 1 | never | **failed**, see below |" in text
    assert "- **KILL up queued**: j: no webhook has told its end; it did not recover in time" in text
