"""The model's state machine: every (state, event) pair, and any sequence of events against a small world around it."""

import itertools
from typing import get_args

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gpu_worker.model.lifecycle import (
    MAX_DEATHS,
    RULES,
    deadline,
    step,
)
from gpu_worker.model.lifecycle_inputs import (
    Dismiss,
    Effect,
    EndEngine,
    EngineDied,
    EngineEnded,
    Evict,
    GpuPolled,
    Input,
    JobArrived,
    JobLeft,
    JobStarted,
    LoadAsked,
    LoadFailed,
    LoadSucceeded,
    OutOfMemory,
    PollGpu,
    StartLoad,
    StepBack,
    TimePassed,
    UnloadAsked,
)
from gpu_worker.model.lifecycle_state import IllegalInput, JobInTheWay, Lifecycle, LifecyclePolicy
from schemas.model import ModelState as S

POLICY = LifecyclePolicy(idle_timeout_secs=300, gpu_poll_interval_secs=30)
NOW = 1000.0
JOB = frozenset({"j"})

EVENTS: list[Input] = [
    LoadAsked(),
    UnloadAsked(),
    UnloadAsked(force=True),
    JobArrived("j"),
    JobStarted("j"),
    JobLeft("j"),
    LoadSucceeded(),
    LoadFailed("bad file"),
    OutOfMemory("no room"),
    EngineDied("signal 6"),
    EngineDied("no room", out_of_memory=True),
    EngineEnded(),
    GpuPolled(None),
    GpuPolled("no room"),
    TimePassed(),
]

# Where a life is: alone, with a job waiting, with a job running.
LIVES = {
    "unloaded": Lifecycle(),
    "loading": Lifecycle(state=S.LOADING),
    "loading for a job": Lifecycle(state=S.LOADING, waiting=JOB),
    "no vram": Lifecycle(state=S.WAITING_FOR_GPU, reason="no room", retry_at=NOW + 5),
    "no vram, time to look": Lifecycle(state=S.WAITING_FOR_GPU, reason="no room", retry_at=NOW, waiting=JOB),
    "idle": Lifecycle(state=S.READY, idle_since=NOW - 10),
    "idle for long": Lifecycle(state=S.READY, idle_since=NOW - 300),
    "about to run": Lifecycle(state=S.READY, waiting=JOB),
    "running": Lifecycle(state=S.READY, running="j"),
    "unloading": Lifecycle(state=S.UNLOADING),
    "unloading, a job came": Lifecycle(state=S.UNLOADING, waiting=JOB),
    "unloading, evicting": Lifecycle(state=S.UNLOADING, running="j"),
    "error": Lifecycle(state=S.ERROR, reason="bad file"),
}

SAME = "same"
# (life, event) -> (state after, effects). What is not here stays as it is, or is illegal as RULES says.
EXPECTED: dict[tuple[str, Input], tuple[S, list[Effect]]] = {
    ("unloaded", LoadAsked()): (S.LOADING, [StartLoad()]),
    ("unloaded", JobArrived("j")): (S.LOADING, [StartLoad()]),
    ("loading", UnloadAsked()): (S.UNLOADING, [EndEngine()]),
    ("loading", UnloadAsked(force=True)): (S.UNLOADING, [EndEngine()]),
    ("loading", JobArrived("j")): (S.LOADING, []),
    ("loading", LoadSucceeded()): (S.READY, []),
    ("loading", LoadFailed("bad file")): (S.ERROR, []),
    ("loading", OutOfMemory("no room")): (S.WAITING_FOR_GPU, []),
    ("loading", EngineDied("signal 6")): (S.LOADING, [StartLoad()]),
    ("loading", EngineDied("no room", out_of_memory=True)): (S.LOADING, [StartLoad()]),
    ("loading for a job", EngineDied("signal 6")): (S.LOADING, [StartLoad()]),
    ("loading for a job", EngineDied("no room", out_of_memory=True)): (S.LOADING, [StartLoad()]),
    ("loading for a job", UnloadAsked()): (S.UNLOADING, [Evict(JOB), EndEngine()]),
    ("loading for a job", UnloadAsked(force=True)): (S.UNLOADING, [Evict(JOB), EndEngine()]),
    ("loading for a job", JobLeft("j")): (S.LOADING, []),
    ("loading for a job", LoadSucceeded()): (S.READY, []),
    ("loading for a job", LoadFailed("bad file")): (S.ERROR, [Dismiss(JOB, "bad file")]),
    ("loading for a job", OutOfMemory("no room")): (S.WAITING_FOR_GPU, []),
    ("no vram", LoadAsked()): (S.WAITING_FOR_GPU, []),
    ("no vram", UnloadAsked()): (S.UNLOADED, []),
    ("no vram", UnloadAsked(force=True)): (S.UNLOADED, []),
    ("no vram", JobArrived("j")): (S.WAITING_FOR_GPU, []),
    ("no vram", GpuPolled(None)): (S.LOADING, [StartLoad()]),
    ("no vram", GpuPolled("no room")): (S.WAITING_FOR_GPU, []),
    ("no vram, time to look", UnloadAsked()): (S.UNLOADED, [Evict(JOB)]),
    ("no vram, time to look", UnloadAsked(force=True)): (S.UNLOADED, [Evict(JOB)]),
    ("no vram, time to look", JobLeft("j")): (S.WAITING_FOR_GPU, []),
    ("no vram, time to look", GpuPolled(None)): (S.LOADING, [StartLoad()]),
    ("no vram, time to look", GpuPolled("no room")): (S.WAITING_FOR_GPU, []),
    ("no vram, time to look", TimePassed()): (S.WAITING_FOR_GPU, [PollGpu()]),
    ("idle", LoadAsked()): (S.READY, []),
    ("idle", UnloadAsked()): (S.UNLOADING, [EndEngine()]),
    ("idle", UnloadAsked(force=True)): (S.UNLOADING, [EndEngine()]),
    ("idle", JobArrived("j")): (S.READY, []),
    ("idle", EngineDied("signal 6")): (S.UNLOADED, []),
    ("idle", EngineDied("no room", out_of_memory=True)): (S.WAITING_FOR_GPU, []),
    ("idle for long", LoadAsked()): (S.READY, []),
    ("idle for long", UnloadAsked()): (S.UNLOADING, [EndEngine()]),
    ("idle for long", UnloadAsked(force=True)): (S.UNLOADING, [EndEngine()]),
    ("idle for long", JobArrived("j")): (S.READY, []),
    ("idle for long", EngineDied("signal 6")): (S.UNLOADED, []),
    ("idle for long", EngineDied("no room", out_of_memory=True)): (S.WAITING_FOR_GPU, []),
    ("idle for long", TimePassed()): (S.UNLOADING, [EndEngine()]),
    ("about to run", UnloadAsked(force=True)): (S.UNLOADING, [Evict(JOB), EndEngine()]),
    ("about to run", JobStarted("j")): (S.READY, []),
    ("about to run", JobLeft("j")): (S.READY, []),
    ("about to run", EngineDied("signal 6")): (S.LOADING, [StartLoad()]),
    ("about to run", EngineDied("no room", out_of_memory=True)): (S.WAITING_FOR_GPU, []),
    ("running", UnloadAsked(force=True)): (S.UNLOADING, [Evict(JOB)]),
    ("running", JobLeft("j")): (S.READY, []),
    ("running", EngineDied("signal 6")): (S.UNLOADED, []),
    ("running", EngineDied("no room", out_of_memory=True)): (S.WAITING_FOR_GPU, []),
    ("unloading", LoadAsked()): (S.UNLOADING, []),
    ("unloading", JobArrived("j")): (S.UNLOADING, []),
    ("unloading", EngineEnded()): (S.UNLOADED, []),
    ("unloading, a job came", LoadAsked()): (S.UNLOADING, []),
    ("unloading, a job came", UnloadAsked()): (S.UNLOADING, [Evict(JOB)]),
    ("unloading, a job came", UnloadAsked(force=True)): (S.UNLOADING, [Evict(JOB)]),
    ("unloading, a job came", JobLeft("j")): (S.UNLOADING, []),
    ("unloading, a job came", EngineEnded()): (S.LOADING, [StartLoad()]),
    ("unloading, evicting", LoadAsked()): (S.UNLOADING, []),
    ("unloading, evicting", JobLeft("j")): (S.UNLOADING, [EndEngine()]),
    ("unloading, evicting", EngineEnded()): (S.UNLOADED, []),
    ("error", LoadAsked()): (S.LOADING, [StartLoad()]),
    ("error", JobArrived("j")): (S.LOADING, [StartLoad()]),
    ("error", UnloadAsked()): (S.UNLOADED, []),
    ("error", UnloadAsked(force=True)): (S.UNLOADED, []),
}
ILLEGAL: dict[S, set[type[Input]]] = {
    S.UNLOADED: {JobStarted, LoadSucceeded, LoadFailed, OutOfMemory, EngineEnded},
    S.LOADING: {JobStarted, EngineEnded},
    S.WAITING_FOR_GPU: {JobStarted, LoadSucceeded, LoadFailed, OutOfMemory, EngineEnded},
    S.READY: {LoadSucceeded, LoadFailed, OutOfMemory, EngineEnded},
    S.UNLOADING: {JobStarted},
    S.ERROR: {JobStarted, LoadSucceeded, LoadFailed, OutOfMemory, EngineEnded},
}
REFUSED = {("about to run", UnloadAsked()), ("running", UnloadAsked())}
NOT_NEXT = {"idle", "idle for long", "running"}


def test_the_cases_cover_every_state_and_every_event() -> None:
    assert {life.state for life in LIVES.values()} == set(RULES) == set(S) - {S.OFFLINE, S.UNKNOWN}
    assert {type(event) for event in EVENTS} == set(get_args(Input))


@pytest.mark.parametrize(("name", "event"), list(itertools.product(LIVES, EVENTS)), ids=str)
def test_every_pair(name: str, event: Input) -> None:
    life = LIVES[name]
    if type(event) in ILLEGAL[life.state] or (isinstance(event, JobStarted) and name in NOT_NEXT):
        with pytest.raises(IllegalInput):
            step(life, event, NOW, POLICY)
    elif (name, event) in REFUSED:
        with pytest.raises(JobInTheWay):
            step(life, event, NOW, POLICY)
    else:
        after, effects = step(life, event, NOW, POLICY)
        state, wanted = EXPECTED.get((name, event), (life.state, []))
        assert (after.state, effects) == (state, wanted)
        if (name, event) not in EXPECTED:
            assert after == life


def after(*events: Input, now: float = NOW) -> Lifecycle:
    life = Lifecycle()
    for event in events:
        life, _ = step(life, event, now, POLICY)
    return life


def test_a_job_that_runs_out_of_memory_waits_for_it() -> None:
    running = after(JobArrived("j"), LoadSucceeded(), JobStarted("j"))
    life, _ = step(running, EngineDied("no room", out_of_memory=True), NOW, POLICY)
    assert (life.waiting, life.running, life.reason, life.retry_at) == (JOB, None, "no room", NOW + 30)


def test_a_load_request_looks_at_the_gpu_now() -> None:
    waiting = after(LoadAsked(), OutOfMemory("no room"))
    assert deadline(waiting, POLICY) == NOW + 30
    asked, _ = step(waiting, LoadAsked(), NOW + 1, POLICY)
    assert step(asked, TimePassed(), NOW + 1, POLICY)[1] == [PollGpu()]


def test_idle_time_begins_with_the_last_job_and_with_each_load_request() -> None:
    life = after(JobArrived("j"), LoadSucceeded(), JobStarted("j"))
    assert deadline(life, POLICY) is None
    life, _ = step(life, JobLeft("j"), NOW + 50, POLICY)
    assert deadline(life, POLICY) == NOW + 350
    life, _ = step(life, LoadAsked(), NOW + 60, POLICY)
    assert deadline(life, POLICY) == NOW + 360
    never = msgspec.structs.replace(POLICY, idle_timeout_secs=0)
    assert deadline(life, never) is None


def test_an_engine_that_keeps_dying_before_a_job_begins_is_no_jobs_fault() -> None:
    life = after(JobArrived("j"), LoadSucceeded())
    for _ in range(MAX_DEATHS - 1):
        life, effects = step(life, EngineDied("signal 9"), NOW, POLICY)
        assert effects == [StartLoad()]
        life, _ = step(life, LoadSucceeded(), NOW, POLICY)
    life, effects = step(life, EngineDied("signal 9"), NOW, POLICY)
    assert (life.state, life.waiting, life.deaths) == (S.UNLOADED, frozenset(), 0)
    assert effects == [StepBack(JOB, "The engine died 3 times in a row: signal 9")]


def test_a_load_that_is_killed_is_tried_again_and_then_the_job_goes_back() -> None:
    life = after(JobArrived("j"))
    for _ in range(MAX_DEATHS - 1):
        life, effects = step(life, EngineDied("signal 9"), NOW, POLICY)
        assert (life.state, life.waiting, effects) == (S.LOADING, JOB, [StartLoad()])
    life, effects = step(life, EngineDied("signal 9"), NOW, POLICY)
    assert life.state is S.UNLOADED
    assert [type(effect) for effect in effects] == [StepBack]


def test_a_load_for_nobody_that_is_killed_ends_in_an_error_that_says_so() -> None:
    life = after(LoadAsked(), *[EngineDied("signal 9")] * MAX_DEATHS)
    assert (life.state, life.reason) == (S.ERROR, "The engine died 3 times in a row: signal 9")


def test_unload_undoes_a_load_asked_while_unloading() -> None:
    life = after(LoadAsked(), UnloadAsked(), LoadAsked())
    assert step(life, EngineEnded(), NOW, POLICY)[1] == [StartLoad()]
    life, _ = step(life, UnloadAsked(), NOW, POLICY)
    assert step(life, EngineEnded(), NOW, POLICY)[0].state is S.UNLOADED


class World(RuleBasedStateMachine):
    """Engines, jobs and a clock around the machine; every effect is taken at its word."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.life = 0.0, Lifecycle()
        self.engine = ""  # "", "loading", "ready", "ending"
        self.polling = 0
        self.jobs: dict[str, str] = {}  # id -> waiting, running, evicted, dismissed
        self.count = 0

    @initialize(idle=st.sampled_from([0.0, 5.0]))
    def set_policy(self, idle: float) -> None:
        self.policy = LifecyclePolicy(idle_timeout_secs=idle, gpu_poll_interval_secs=3.0)

    def send(self, event: Input) -> None:
        self.life, effects = step(self.life, event, self.now, self.policy)
        for effect in effects:
            match effect:
                case StartLoad():
                    assert self.engine == "", "a second engine"
                    self.engine = "loading"
                case EndEngine():
                    assert "running" not in self.jobs.values(), "unloaded under a job"
                    assert self.engine in ("loading", "ready")
                    self.engine = "ending"
                case PollGpu():
                    self.polling += 1
                case Evict(ids):
                    for job in ids:
                        self.jobs[job] = "evicting" if self.jobs[job] == "running" else "evicted"
                case Dismiss(ids, _) | StepBack(ids, _):
                    for job in ids:
                        assert self.jobs[job] == "waiting"
                        self.jobs[job] = "dismissed"

    def among(self, *states: str) -> list[str]:
        return [job for job, state in self.jobs.items() if state in states]

    @rule()
    def load(self) -> None:
        self.send(LoadAsked())

    @rule(force=st.booleans())
    def unload(self, force: bool) -> None:
        busy = bool(self.among("running", "waiting")) and self.life.state is S.READY
        try:
            self.send(UnloadAsked(force))
            assert force or not busy
        except JobInTheWay:
            assert busy
            assert not force

    @rule()
    def job_arrives(self) -> None:
        self.count += 1
        job = f"job{self.count}"
        self.jobs[job] = "waiting"
        self.send(JobArrived(job))

    @precondition(lambda self: self.life.state is S.READY and self.life.running is None and self.life.waiting)
    @rule(data=st.data())
    def job_starts(self, data: st.DataObject) -> None:
        assert self.engine == "ready"
        job = data.draw(st.sampled_from(sorted(self.life.waiting)))
        self.jobs[job] = "running"
        self.send(JobStarted(job))

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def job_leaves(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from(sorted(self.jobs)))
        del self.jobs[job]
        self.send(JobLeft(job))

    @precondition(lambda self: self.engine == "loading")
    @rule()
    def load_is_killed(self) -> None:
        self.engine = ""
        self.send(EngineDied("killed"))

    @precondition(lambda self: self.engine == "loading")
    @rule(how=st.sampled_from([LoadSucceeded(), LoadFailed("bad"), OutOfMemory("full")]))
    def load_ends(self, how: Input) -> None:
        self.engine = "ready" if isinstance(how, LoadSucceeded) else ""
        self.send(how)

    @precondition(lambda self: self.engine == "ending")
    @rule(loaded_first=st.booleans())
    def engine_ends(self, loaded_first: bool) -> None:
        if loaded_first:
            self.send(LoadSucceeded())
        self.engine = ""
        self.send(EngineEnded())

    @precondition(lambda self: self.engine == "ready")
    @rule(oom=st.booleans())
    def engine_dies(self, oom: bool) -> None:
        if self.life.state is S.READY:
            self.engine = ""
            for job in self.among("running"):
                if oom:
                    self.jobs[job] = "waiting"
                else:
                    del self.jobs[job]
        self.send(EngineDied("dead", oom))

    @precondition(lambda self: self.polling)
    @rule(lack=st.sampled_from([None, "full"]))
    def gpu_is_polled(self, lack: str | None) -> None:
        self.polling -= 1
        self.send(GpuPolled(lack))

    @rule(secs=st.floats(0, 6))
    def time_passes(self, secs: float) -> None:
        self.now += secs
        self.send(TimePassed())

    @invariant()
    def the_machine_knows_the_world(self) -> None:
        engines = {S.LOADING: {"loading"}, S.READY: {"ready"}, S.UNLOADING: {"loading", "ready", "ending"}}
        assert self.engine in engines.get(self.life.state, {""})
        assert set(self.among("waiting")) == self.life.waiting
        assert self.among("running", "evicting") == ([self.life.running] if self.life.running else [])

    @invariant()
    def no_waiting_job_is_forgotten(self) -> None:
        if self.life.waiting:
            assert self.life.state not in (S.UNLOADED, S.ERROR)
        if self.life.state is S.WAITING_FOR_GPU:
            assert self.life.retry_at is not None or self.polling
        if self.life.state is S.UNLOADING:
            assert self.engine == "ending" or self.life.running is not None

    @invariant()
    def only_an_idle_model_has_an_idle_time(self) -> None:
        alone = self.life.state is S.READY and not self.life.running and not self.life.waiting
        assert (self.life.idle_since is not None) == alone


World.TestCase.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)
TestWorld = World.TestCase
