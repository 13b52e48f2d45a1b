"""The model's state machine: what may happen to it in which state, what that makes of it, and what is to be done.

    unloaded -> loading -> ready -> unloading -> unloaded        loading -> error
                loading -> waiting_for_gpu -> loading            ready -> waiting_for_gpu

Theory of operation
1. `step` takes the state, an event and the time, and gives the new state and effects. It does nothing itself and reads
   no clock; gpu_worker/model/model.py carries the effects out and reports back with further events.
2. RULES is the whole machine: a missing key is an event that cannot happen in that state, and raises IllegalEvent.
3. `waiting` are the jobs in the worker's hands that want the model. While there are any, the model is on its way to
   them: they leave only by being run, by leaving themselves, or through Evict, Dismiss or StepBack, which tell them.
4. An engine process exists from StartLoad until EndEngine is reported done or the engine has died. StartLoad is given
   only when there is none, EndEngine only when no job runs on it.
5. Out of memory is not an error but a time to wait: at load, and in the middle of a job, which then waits as well.
"""

from collections.abc import Callable

import msgspec

from gpu_worker.model.lifecycle_inputs import (
    Dismiss,
    Effect,
    EndEngine,
    EngineDied,
    EngineEnded,
    Event,
    Evict,
    GpuPolled,
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
from schemas.model import ModelState

MAX_DEATHS = 3
"""So often in a row an engine may die without having run a job. That is no job's fault: those that wait go back."""


class LifecyclePolicy(msgspec.Struct, kw_only=True, frozen=True):
    """Seconds."""

    idle_timeout_secs: float
    """0: never unload."""
    gpu_poll_interval_secs: float


class Lifecycle(msgspec.Struct, kw_only=True, frozen=True):
    """All times are on the clock that `step` is given."""

    state: ModelState = ModelState.UNLOADED
    waiting: frozenset[str] = frozenset()
    """Ids of the jobs that want the model."""
    running: str | None = None
    """The job that has it."""
    reason: str | None = None
    """Why it is in error, or what it waits for."""
    retry_at: float | None = None
    """When the GPU is looked at again; only while waiting for it."""
    idle_since: float | None = None
    """Since when nobody wants the model that is ready."""
    reload: bool = False
    """A load was asked for while unloading."""
    deaths: int = 0
    """Of engines, since a job last ran."""


Outcome = tuple[Lifecycle, list[Effect]]


class IllegalEvent(Exception):
    """The event cannot happen in this state: a mistake of the caller."""


class JobInTheWay(Exception):
    """Unloading is refused: a job has the model or is about to."""


def step(life: Lifecycle, event: Event, now: float, policy: LifecyclePolicy) -> Outcome:
    """The life after the event, and what is to be done. Raises IllegalEvent, JobInTheWay."""
    rule = RULES[life.state].get(type(event))
    if rule is None:
        raise IllegalEvent(f"{type(event).__name__} cannot happen while {life.state}")
    return rule(life, event, now, policy)


def deadline(life: Lifecycle, policy: LifecyclePolicy) -> float | None:
    """When TimePassed will have something to do; None: not until something else happens."""
    if life.state is ModelState.WAITING_FOR_GPU:
        return life.retry_at
    if life.idle_since is not None and policy.idle_timeout_secs > 0:
        return life.idle_since + policy.idle_timeout_secs
    return None


def _enter(life: Lifecycle, state: ModelState, **changes: object) -> Lifecycle:
    """A new state forgets what belonged to the last one."""
    fresh: dict[str, object] = {"reason": None, "retry_at": None, "idle_since": None, "reload": False}
    return msgspec.structs.replace(life, state=state, **(fresh | changes))


def _load(life: Lifecycle) -> Outcome:
    return _enter(life, ModelState.LOADING), [StartLoad()]


def _wait(life: Lifecycle, reason: str, now: float, policy: LifecyclePolicy) -> Outcome:
    retry_at = now + policy.gpu_poll_interval_secs
    return _enter(life, ModelState.WAITING_FOR_GPU, reason=reason, retry_at=retry_at), []


def _fail(life: Lifecycle, reason: str) -> Outcome:
    failed = _enter(life, ModelState.ERROR, reason=reason, waiting=frozenset(), deaths=0)
    return failed, [Dismiss(life.waiting, reason)] if life.waiting else []


def _step_back(life: Lifecycle, why: str) -> Outcome:
    """The engine has died too often in a row."""
    reason = f"The engine died {life.deaths} times in a row: {why}"
    if not life.waiting:
        return _fail(life, reason)
    back = _enter(life, ModelState.UNLOADED, waiting=frozenset(), deaths=0)
    return back, [StepBack(life.waiting, reason)]


def _evict(life: Lifecycle, also: frozenset[str] = frozenset()) -> list[Effect]:
    leaving = life.waiting | also
    return [Evict(leaving)] if leaving else []


def _stay(life: Lifecycle, event: Event, now: float, policy: LifecyclePolicy) -> Outcome:
    return life, []


def _load_asked(life: Lifecycle, event: LoadAsked, now: float, policy: LifecyclePolicy) -> Outcome:
    match life.state:
        case ModelState.UNLOADED | ModelState.ERROR:
            return _load(life)
        case ModelState.WAITING_FOR_GPU:
            return msgspec.structs.replace(life, retry_at=now), []
        case ModelState.UNLOADING:
            return msgspec.structs.replace(life, reload=True), []
        case _:
            idle = life.idle_since if life.idle_since is None else now
            return msgspec.structs.replace(life, idle_since=idle), []


def _unload_asked(life: Lifecycle, event: UnloadAsked, now: float, policy: LifecyclePolicy) -> Outcome:
    empty = frozenset[str]()
    match life.state:
        case ModelState.READY if life.running is None and not life.waiting:
            return _enter(life, ModelState.UNLOADING), [EndEngine()]
        case ModelState.READY if not event.force:
            raise JobInTheWay
        case ModelState.READY if life.running is not None:
            # The engine is ended when the job has let go of it.
            return _enter(life, ModelState.UNLOADING, waiting=empty), _evict(life, frozenset({life.running}))
        case ModelState.READY | ModelState.LOADING:
            return _enter(life, ModelState.UNLOADING, waiting=empty), [*_evict(life), EndEngine()]
        case ModelState.UNLOADING:
            return msgspec.structs.replace(life, reload=False, waiting=empty), _evict(life)
        case _:
            return _enter(life, ModelState.UNLOADED, waiting=empty), _evict(life)


def _job_arrived(life: Lifecycle, event: JobArrived, now: float, policy: LifecyclePolicy) -> Outcome:
    if event.job_id == life.running:
        return life, []
    life = msgspec.structs.replace(life, waiting=life.waiting | {event.job_id}, idle_since=None)
    return _load(life) if life.state in (ModelState.UNLOADED, ModelState.ERROR) else (life, [])


def _job_started(life: Lifecycle, event: JobStarted, now: float, policy: LifecyclePolicy) -> Outcome:
    if life.running is not None or event.job_id not in life.waiting:
        raise IllegalEvent(f"job {event.job_id} is not next")
    waiting = life.waiting - {event.job_id}
    return msgspec.structs.replace(life, running=event.job_id, waiting=waiting, deaths=0), []


def _job_left(life: Lifecycle, event: JobLeft, now: float, policy: LifecyclePolicy) -> Outcome:
    if event.job_id != life.running and event.job_id not in life.waiting:
        return life, []
    was_running = event.job_id == life.running
    running = None if was_running else life.running
    waiting = life.waiting - {event.job_id}
    idle = now if life.state is ModelState.READY and running is None and not waiting else None
    left = msgspec.structs.replace(life, running=running, waiting=waiting, idle_since=idle)
    return left, [EndEngine()] if was_running and life.state is ModelState.UNLOADING else []


def _load_succeeded(life: Lifecycle, event: LoadSucceeded, now: float, policy: LifecyclePolicy) -> Outcome:
    return _enter(life, ModelState.READY, idle_since=None if life.waiting else now), []


def _load_failed(life: Lifecycle, event: LoadFailed, now: float, policy: LifecyclePolicy) -> Outcome:
    return _fail(life, event.reason)


def _out_of_memory(life: Lifecycle, event: OutOfMemory, now: float, policy: LifecyclePolicy) -> Outcome:
    return _wait(life, event.reason, now, policy)


def _engine_died(life: Lifecycle, event: EngineDied, now: float, policy: LifecyclePolicy) -> Outcome:
    if event.out_of_memory:
        wanting = life.waiting | ({life.running} if life.running is not None else set())
        life = msgspec.structs.replace(life, running=None, waiting=wanting)
        return _wait(life, event.reason, now, policy)
    # The job that ran on it sees the same death and goes back to the queue, where its attempts are counted.
    life = msgspec.structs.replace(life, running=None, deaths=life.deaths + 1)
    if not life.waiting:
        return _enter(life, ModelState.UNLOADED), []
    if life.deaths >= MAX_DEATHS:
        return _step_back(life, event.reason)
    return _load(life)


def _died_loading(life: Lifecycle, event: EngineDied, now: float, policy: LifecyclePolicy) -> Outcome:
    """Somebody has killed it, which says nothing about the model: it is tried again, but not for ever."""
    life = msgspec.structs.replace(life, deaths=life.deaths + 1)
    if life.deaths >= MAX_DEATHS:
        return _step_back(life, event.reason)
    return _load(life)


def _engine_ended(life: Lifecycle, event: EngineEnded, now: float, policy: LifecyclePolicy) -> Outcome:
    return _load(life) if life.waiting or life.reload else (_enter(life, ModelState.UNLOADED), [])


def _gpu_polled(life: Lifecycle, event: GpuPolled, now: float, policy: LifecyclePolicy) -> Outcome:
    return _load(life) if event.lack is None else _wait(life, event.lack, now, policy)


def _time_passed(life: Lifecycle, event: TimePassed, now: float, policy: LifecyclePolicy) -> Outcome:
    due = deadline(life, policy)
    if due is None or now < due:
        return life, []
    if life.state is ModelState.WAITING_FOR_GPU:
        return msgspec.structs.replace(life, retry_at=None), [PollGpu()]
    return _enter(life, ModelState.UNLOADING), [EndEngine()]


Rule = Callable[..., Outcome]

_ANYWHERE: dict[type[Event], Rule] = {
    LoadAsked: _load_asked,
    UnloadAsked: _unload_asked,
    JobArrived: _job_arrived,
    JobLeft: _job_left,
    TimePassed: _time_passed,
    GpuPolled: _stay,  # the answer may come when nobody waits any more
    EngineDied: _stay,  # so may the news of a death
}

RULES: dict[ModelState, dict[type[Event], Rule]] = {
    ModelState.UNLOADED: _ANYWHERE,
    ModelState.LOADING: _ANYWHERE
    | {
        LoadSucceeded: _load_succeeded,
        LoadFailed: _load_failed,
        OutOfMemory: _out_of_memory,
        EngineDied: _died_loading,
    },
    ModelState.WAITING_FOR_GPU: _ANYWHERE | {GpuPolled: _gpu_polled},
    ModelState.READY: _ANYWHERE | {JobStarted: _job_started, EngineDied: _engine_died},
    # A load that ends while it is being ended is no news: EngineEnded follows.
    ModelState.UNLOADING: _ANYWHERE
    | {EngineEnded: _engine_ended, LoadSucceeded: _stay, LoadFailed: _stay, OutOfMemory: _stay},
    ModelState.ERROR: _ANYWHERE,
}
