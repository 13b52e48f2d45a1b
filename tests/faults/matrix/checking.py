"""What was seen of a cell, and the verdict on it. Pure: facts in, verdict out."""

import difflib
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from tests.faults.matrix.cells import Cell, Phase

TERMINAL = frozenset({"done", "failed", "cancelled"})
ALIKE = 0.95
"""Of a recording that may be cut at other places after a fault: how well each word is heard is the model's business."""
OVERLAP_SECS = 0.5


class Event(msgspec.Struct, frozen=True):
    """One event of a job, as nats-server has stored it."""

    job: str
    kind: str
    at: float
    """Seconds since 1970, by nats-server."""
    index: int | None = None
    """Of a segment."""
    attempt: int | None = None
    """Of a claim."""


class Version(msgspec.Struct, frozen=True):
    """What a job's record said at one time."""

    attempts: int
    committed: int
    has_ended: bool


class Heard(msgspec.Struct, frozen=True):
    """A job as a gateway gives it at the end."""

    status: str
    text: str
    segments: list[tuple[float, float]]
    error: str = ""


class Spoken(msgspec.Struct, frozen=True):
    """What a recording says."""

    text: str
    phrases: list[tuple[float, float]]
    exact: bool
    """The same words each time."""


class Facts(msgspec.Struct, kw_only=True):
    """What was seen. Nothing in here is judged."""

    signal_at: float
    """Seconds since 1970."""
    recovered_secs: float | None = None
    """From the signal until everything was done and told, and nothing was left in any queue; None: it never was."""
    spoken: dict[str, Spoken] = {}
    """Each job that a client was told is accepted, and what it says."""
    events: list[Event] = []
    records: dict[str, list[Version]] = {}
    """The versions of each job's record, in order; one that lives for a moment may be missed."""
    heard: dict[str, Heard] = {}
    posts: list[tuple[str, str]] = []
    """Webhook id and job of each POST about a job's end that the receiver has taken."""
    streams: dict[str, list[str]] = {}
    """What one client saw of each job that it followed over HTTP, through all its connections: event names and ids."""
    left: dict[str, int] = {}
    """Messages that are still in queues, and in the store of audio."""
    swept: int = 0
    """Broken uploads that wait for the sweep (an hour)."""
    processes: list[str] = []
    """That live on after everything was stopped, or after `up` was killed."""
    spool: list[str] = []
    """Files that are still there at the end."""
    died: list[str] = []
    """Processes that ended though nobody had asked them to, or with an exit status that is not 0."""
    refused: int = 0
    """Requests that failed and were sent again."""
    longest_silence: float | None = None
    """Seconds between two answers of the gateway, where it was asked again and again."""
    trouble: list[str] = []
    """What went wrong with the trial itself."""


class Verdict(msgspec.Struct, kw_only=True, frozen=True):
    lost: list[str]
    doubled: list[str]
    attempts: int
    """The highest that any job was charged."""
    retold: int
    """Webhooks that were taken more than once, with the same webhook-id: that is what at-least-once allows."""
    other: list[str]

    @property
    def passed(self) -> bool:
        return not (self.lost or self.doubled or self.other)

    @property
    def problems(self) -> list[str]:
        return [*self.lost, *self.doubled, *self.other]


def verdict(cell: Cell, facts: Facts) -> Verdict:
    by_job: dict[str, list[Event]] = defaultdict(list)
    for event in facts.events:
        by_job[event.job].append(event)
    attempts = max((charged(by_job[job], facts.records.get(job, [])) for job in by_job), default=0)
    return Verdict(
        lost=[*_lost(facts, by_job)],
        doubled=[*_doubled(facts, by_job)],
        attempts=attempts,
        retold=sum(count - 1 for count in Counter(told for told, _ in facts.posts).values()),
        other=[*_other(cell, facts, attempts)],
    )


def charged(events: Iterable[Event], versions: Sequence[Version]) -> int:
    """The most attempts that a job was charged.

    A worker that lost its claim to another and lives gives the attempt back: what counts is what is left when the job goes on,
    by a commit (which forgives it) or by its end. Where that cannot be told, it is the highest that a claim told of.
    """
    told = max((event.attempt or 0 for event in events), default=0)
    seen = max((version.attempts for version in versions), default=0)
    if not versions or seen < told or not versions[-1].has_ended:
        return told
    before = Version(0, 0, False)
    highest = 0
    for version in versions:
        if version.committed > before.committed or version.has_ended:
            highest = max(highest, before.attempts)
        before = version
    return highest


def was_missed(cell: Cell, facts: Facts) -> bool:
    """The signal came when the phase was over already: the trial says nothing, and is made again."""
    ends = {
        Phase.UPLOADING: "queued",
        Phase.PREPARING: "started",
        Phase.LOADING: "started",
        Phase.TRANSCRIBING: "done",
    }
    if cell.phase not in ends:
        return False  # held until the signal was sent, or a moment and no phase
    kind = ends[cell.phase]
    return any(event.kind == kind and event.at < facts.signal_at for event in facts.events)


def _lost(facts: Facts, by_job: dict[str, list[Event]]) -> Iterator[str]:
    told = {job for _, job in facts.posts}
    for job, spoken in facts.spoken.items():
        heard = facts.heard.get(job)
        kinds = {event.kind for event in by_job.get(job, [])}
        if heard is None:
            yield f"{job}: no gateway knows it"
        elif heard.status != "done":
            yield f"{job}: {heard.status} {heard.error}".rstrip()
        elif wrong := difference(spoken, heard):
            yield f"{job}: {wrong}"
        if "done" not in kinds:
            yield f"{job}: its log has no end: {sorted(kinds)}"
        if missing := _gaps(by_job.get(job, [])):
            yield f"{job}: segments {missing} are missing"
        if job not in told:
            yield f"{job}: no webhook has told its end"
    for job, seen in facts.streams.items():
        if not any(line.split()[0] in TERMINAL for line in seen):
            yield f"{job}: who followed it never saw its end"


def _gaps(events: Iterable[Event]) -> list[int]:
    indexes = {event.index for event in events if event.index is not None}
    return sorted(set(range(max(indexes, default=-1) + 1)) - indexes)


def _doubled(facts: Facts, by_job: dict[str, list[Event]]) -> Iterator[str]:
    for job in by_job.keys() - facts.spoken.keys():
        yield f"{job}: a job that no client was told of"
    for job, events in by_job.items():
        ends = [event.kind for event in events if event.kind in TERMINAL]
        if len(ends) > 1:
            yield f"{job}: ended {len(ends)} times ({', '.join(ends)})"
        indexes = Counter(event.index for event in events if event.index is not None)
        if twice := sorted(index for index, count in indexes.items() if count > 1):
            yield f"{job}: segments {twice} more than once"
        kinds = [event.kind for event in events]
        behind = kinds[kinds.index(ends[0]) + 1 :] if ends else []
        # The same submission, published again, is told again: it is no event of a run.
        if after := [kind for kind in behind if kind != "queued" and kind not in TERMINAL]:
            yield f"{job}: {', '.join(after)} behind its end"
    for job in facts.spoken:
        if len(ids := {told for told, of in facts.posts if of == job}) > 1:
            yield f"{job}: {len(ids)} webhooks with different ids told its end"
    for job, seen in facts.streams.items():
        if twice_seen := [line for line, count in Counter(seen).items() if count > 1]:
            yield f"{job}: who followed it saw {', '.join(twice_seen)} more than once"


def difference(spoken: Spoken, heard: Heard) -> str:
    """How what was heard differs from what is said; empty where it does not."""
    if spoken.exact:
        return "" if heard.text == spoken.text else f"{heard.text!r} instead of {spoken.text!r}"
    alike = difflib.SequenceMatcher(None, heard.text.split(), spoken.text.split(), autojunk=False).ratio()
    if alike < ALIKE:
        return f"only {alike:.0%} of its words are right"
    silent = [p for p in spoken.phrases if not any(s < p[1] and p[0] < e for s, e in heard.segments)]
    if silent:
        return f"nothing was heard at {silent}"
    if any(a[1] > b[0] + OVERLAP_SECS for a, b in itertools.pairwise(heard.segments)):
        return "segments overlap"
    return ""


def _other(cell: Cell, facts: Facts, attempts: int) -> Iterator[str]:
    if attempts > cell.attempts_allowed:
        yield f"{attempts} attempts were charged, {cell.attempts_allowed} at the most would be right"
    if facts.recovered_secs is None:
        yield "it did not recover in time"
    elif cell.recovery_allowed_secs and facts.recovered_secs > cell.recovery_allowed_secs:
        yield f"after {facts.recovered_secs:.0f} s: what was in hand was not given back at the orderly stop"
    for where, count in facts.left.items():
        if count:
            yield f"{count} messages are left in {where}"
    if facts.processes:
        yield f"processes left: {', '.join(facts.processes)}"
    if facts.spool:
        yield f"files left in the spool: {', '.join(facts.spool)}"
    yield from facts.died
    yield from facts.trouble
    if was_missed(cell, facts):
        yield "the signal came after the phase"
