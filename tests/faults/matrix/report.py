"""The evidence: verdicts to Markdown. Pure."""

from collections.abc import Sequence

import msgspec

from tests.faults.matrix.cells import LEFT_OUT, NO_RESTART, Cell, Part
from tests.faults.matrix.checking import Facts, Verdict, verdict


class Result(msgspec.Struct, frozen=True):
    cell: Cell
    facts: Facts
    took_secs: float
    tries: int = 1
    """More than one where the signal came too late for the phase."""

    @property
    def verdict(self) -> Verdict:
        return verdict(self.cell, self.facts)


class Run(msgspec.Struct, frozen=True):
    """What the evidence says of its own making."""

    date: str
    machine: str
    commit: str
    command: str
    took_secs: float


HEAD = """# Faults: what dies, when, and what becomes of the jobs

{date}, commit {commit}, on {machine}: `{command}`, {minutes:.0f} minutes. **{passed} of {count} cells passed.**

Real processes, the demo model and its real engine, the real decoder, real signals. Each cell is a system of its own on loopback,
with an ack deadline of 2 s unless it says otherwise: jobs are brought into the phase, an event proves that they are in it, the signal goes to a process
id, and then everything must be done, told and tidied up. After that one more job must be done as ever.

- **KILL**: kill -9, then started again, as a supervisor does it. For the engine and the decoder the worker is that supervisor.
- **TERM**: an orderly stop. Another gateway or worker is there already; nats-server and `up` are away for 5 s.
- **STOP+CONT**: frozen for 5 s, longer than the ack deadline. Another gateway or worker is there. Of `up` the whole tree.
- **restart**: an orderly stop, and started again at once; of `up` by Ctrl-C, of the engine by unload and load.
- On **3 servers** (NATS_REPLICAS=3): the leader of WHISPER_JOBS is killed and started again after 3 s, or frozen for 10 s; a
  restart is that of all three, one after the other, each when all replicas are current again. A queue of 60 jobs is worked off
  meanwhile, ten of them submitted during the fault, and `GET /jobs` is asked four times a second.

What the columns say. *lost*: jobs, segments, ends or webhooks that were accepted and never came, or wrong words. *doubled*: a
second job, segment, end or webhook (another `webhook-id`) for one; a client that sees an event twice, though it resumes
with Last-Event-ID. *retold*: the same webhook-id taken again, which at-least-once allows. *attempts*: the most that a job was
charged when it went on; 2 is right only where a worker falls silent in the middle of a transcription, since the job may have
done it.
*recovery*: seconds from the signal until everything is done, told and tidied up; a freeze or a pause is part of it. A client
that was cut off in its upload sends it again with the same Idempotency-Key; after a KILL of the gateway the key is free
after 30 s. An orderly stop of a worker or of `up` is tried with the default ack wait of 30 s: a worker that does not give its jobs
back fails by that. After an orderly stop of `up` a job that was given back waits for it all the same, because nats-server
does not keep over its own restart that a message was given back.

How the phases are reached: uploading, by a client that stops half-way; queued and loading, by a gate before the real engine;
preparing, by the real decoder, held to twice the speed of playing; transcribing, at the first segment of 73 s of speech;
ending, by a proxy between worker and nats-server that holds the terminal event (for `up`: at that event), or the
acknowledgement; webhook pending, by a receiver that refuses the first try.
"""


def markdown(results: Sequence[Result], run: Run) -> str:
    passed = sum(result.verdict.passed for result in results)
    head = HEAD.format(
        date=run.date,
        commit=run.commit,
        machine=run.machine,
        command=run.command,
        minutes=run.took_secs / 60,
        passed=passed,
        count=len(results),
    )
    parts = [head]
    for part in Part:
        if rows := [result for result in results if result.cell.part is part]:
            parts.append(f"## {part}\n\n{table(rows)}\n{_left_out(part)}")
    if failures := [result for result in results if not result.verdict.passed]:
        parts.append("## What failed\n\n" + "\n".join(map(_failure, failures)) + "\n")
    return "\n".join(parts)


def table(results: Sequence[Result]) -> str:
    lines = [
        "| fault | phase | lost | doubled | retold | attempts | recovery, s | notes |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    lines += [_row(result) for result in results]
    return "\n".join(lines) + "\n"


def _row(result: Result) -> str:
    cell, facts, found = result.cell, result.facts, result.verdict
    recovery = "never" if facts.recovered_secs is None else f"{facts.recovered_secs:.1f}"
    fields = [
        str(cell.fault),
        f"{cell.phase}, {cell.servers} servers" if cell.servers > 1 else str(cell.phase),
        str(len(found.lost)),
        str(len(found.doubled)),
        str(found.retold),
        str(found.attempts),
        recovery,
        _notes(result),
    ]
    return f"| {' | '.join(fields)} |"


def _notes(result: Result) -> str:
    facts, found = result.facts, result.verdict
    notes = [] if found.passed else ["**failed**, see below"]
    if facts.refused:
        notes.append(f"{facts.refused} requests sent again")
    if facts.longest_silence is not None:
        notes.append(f"longest time without an answer {facts.longest_silence:g} s")
    if facts.swept:
        notes.append(f"broken uploads left to the sweep: {facts.swept}")
    if result.tries > 1:
        notes.append(f"try {result.tries}: the phase was over before the signal")
    return "; ".join(notes)


def _left_out(part: Part) -> str:
    """One reason a line, with the phases that it is about."""
    phases: dict[str, list[str]] = {}
    for (of, phase), why in LEFT_OUT.items():
        if of is part:
            phases.setdefault(why, []).append(str(phase))
    for (of, phase), why in NO_RESTART.items():
        if of is part and (of, phase) not in LEFT_OUT:
            phases.setdefault(why, []).append(f"restart while {phase}")
    lines = [f"- {', '.join(which)}: {why}." for why, which in phases.items()]
    return "\n".join(["\nLeft out:\n", *lines, ""]) if lines else ""


def _failure(result: Result) -> str:
    return f"- **{result.cell.name}**: " + "; ".join(" ".join(p.split()) for p in result.verdict.problems)
