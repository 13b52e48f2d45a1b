"""The model's state machine: which input is legal in which state, the state after it, and the effects to carry out.

    unloaded -> loading -> ready -> unloading -> unloaded        loading -> error
                loading -> waiting_for_gpu -> loading            ready -> waiting_for_gpu

Theory of operation
1. `step` takes the state, an input and the time, and returns the new state and effects. It has no I/O and reads no
   clock; gpu_worker/model/model.py carries the effects out and reports back with further inputs.
2. RULES is the whole machine: a missing key is an input that cannot happen in that state, and raises IllegalInput.
3. `waiting` are the jobs in the worker's hands that want the model. While there are any, the model is being brought to
   `ready`. A job leaves this set when it runs, when it leaves by itself, or through Evict, Dismiss or StepBack.
4. An engine process exists from StartLoad until EndEngine is reported done or the engine has died. StartLoad is given
   only when there is none, EndEngine only when no job runs on it.
5. Out of memory is no error but a reason to wait: at load, and in the middle of a job, which then waits again.
"""

from collections.abc import Callable

import msgspec

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
from schemas.model import ModelState

MAX_DEATHS = 3
"""How many engines in a row may die before a job has run. It is no job's fault then: those that wait are given back."""

Outcome = tuple[Lifecycle, list[Effect]]


def step(life: Lifecycle, given: Input, now: float, policy: LifecyclePolicy) -> Outcome:
    """The life after the given, and what is to be done. Raises IllegalInput, JobInTheWay."""
    rule = RULES[life.state].get(type(given))
    if rule is None:
        raise IllegalInput(f"{type(given).__name__} cannot happen while {life.state}")
    return rule(life, given, now, policy)


def deadline(life: Lifecycle, policy: LifecyclePolicy) -> float | None:
    """Return when TimePassed must be given next, on the clock of `step`; None where no timer is needed."""
    if life.state is ModelState.WAITING_FOR_GPU:
        return life.retry_at
    if life.idle_since is not None and policy.idle_timeout_secs > 0:
        return life.idle_since + policy.idle_timeout_secs
    return None


def _enter(life: Lifecycle, state: ModelState, **changes: object) -> Lifecycle:
    """Change the state, and reset the fields that have a meaning in one state only."""
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
    """Give the waiting jobs back, because the engine has died too often in a row."""
    reason = f"The engine died {life.deaths} times in a row: {why}"
    if not life.waiting:
        return _fail(life, reason)
    back = _enter(life, ModelState.UNLOADED, waiting=frozenset(), deaths=0)
    return back, [StepBack(life.waiting, reason)]


def _evict(life: Lifecycle, also: frozenset[str] = frozenset()) -> list[Effect]:
    leaving = life.waiting | also
    return [Evict(leaving)] if leaving else []


def _stay(life: Lifecycle, given: Input, now: float, policy: LifecyclePolicy) -> Outcome:
    return life, []


def _load_asked(life: Lifecycle, given: LoadAsked, now: float, policy: LifecyclePolicy) -> Outcome:
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


def _unload_asked(life: Lifecycle, given: UnloadAsked, now: float, policy: LifecyclePolicy) -> Outcome:
    empty = frozenset[str]()
    match life.state:
        case ModelState.READY if life.running is None and not life.waiting:
            return _enter(life, ModelState.UNLOADING), [EndEngine()]
        case ModelState.READY if not given.force:
            raise JobInTheWay
        case ModelState.READY if life.running is not None:
            # The engine is ended by JobLeft, when the job has released it.
            return _enter(life, ModelState.UNLOADING, waiting=empty), _evict(life, frozenset({life.running}))
        case ModelState.READY | ModelState.LOADING:
            return _enter(life, ModelState.UNLOADING, waiting=empty), [*_evict(life), EndEngine()]
        case ModelState.UNLOADING:
            return msgspec.structs.replace(life, reload=False, waiting=empty), _evict(life)
        case _:
            return _enter(life, ModelState.UNLOADED, waiting=empty), _evict(life)


def _job_arrived(life: Lifecycle, given: JobArrived, now: float, policy: LifecyclePolicy) -> Outcome:
    if given.job_id == life.running:
        return life, []
    life = msgspec.structs.replace(life, waiting=life.waiting | {given.job_id}, idle_since=None)
    return _load(life) if life.state in (ModelState.UNLOADED, ModelState.ERROR) else (life, [])


def _job_started(life: Lifecycle, given: JobStarted, now: float, policy: LifecyclePolicy) -> Outcome:
    if life.running is not None or given.job_id not in life.waiting:
        raise IllegalInput(f"job {given.job_id} is not next")
    waiting = life.waiting - {given.job_id}
    return msgspec.structs.replace(life, running=given.job_id, waiting=waiting, deaths=0), []


def _job_left(life: Lifecycle, given: JobLeft, now: float, policy: LifecyclePolicy) -> Outcome:
    if given.job_id != life.running and given.job_id not in life.waiting:
        return life, []
    was_running = given.job_id == life.running
    running = None if was_running else life.running
    waiting = life.waiting - {given.job_id}
    idle = now if life.state is ModelState.READY and running is None and not waiting else None
    left = msgspec.structs.replace(life, running=running, waiting=waiting, idle_since=idle)
    return left, [EndEngine()] if was_running and life.state is ModelState.UNLOADING else []


def _load_succeeded(life: Lifecycle, given: LoadSucceeded, now: float, policy: LifecyclePolicy) -> Outcome:
    return _enter(life, ModelState.READY, idle_since=None if life.waiting else now), []


def _load_failed(life: Lifecycle, given: LoadFailed, now: float, policy: LifecyclePolicy) -> Outcome:
    return _fail(life, given.reason)


def _out_of_memory(life: Lifecycle, given: OutOfMemory, now: float, policy: LifecyclePolicy) -> Outcome:
    return _wait(life, given.reason, now, policy)


def _engine_died(life: Lifecycle, given: EngineDied, now: float, policy: LifecyclePolicy) -> Outcome:
    if given.out_of_memory:
        wanting = life.waiting | ({life.running} if life.running is not None else set())
        life = msgspec.structs.replace(life, running=None, waiting=wanting)
        return _wait(life, given.reason, now, policy)
    # The job that ran on this engine sees the same death and returns to the queue, where its attempts are counted.
    life = msgspec.structs.replace(life, running=None, deaths=life.deaths + 1)
    if not life.waiting:
        return _enter(life, ModelState.UNLOADED), []
    if life.deaths >= MAX_DEATHS:
        return _step_back(life, given.reason)
    return _load(life)


def _died_loading(life: Lifecycle, given: EngineDied, now: float, policy: LifecyclePolicy) -> Outcome:
    """Somebody has killed the engine, which says nothing about the model: the load is repeated, up to MAX_DEATHS times."""
    life = msgspec.structs.replace(life, deaths=life.deaths + 1)
    if life.deaths >= MAX_DEATHS:
        return _step_back(life, given.reason)
    return _load(life)


def _engine_ended(life: Lifecycle, given: EngineEnded, now: float, policy: LifecyclePolicy) -> Outcome:
    return _load(life) if life.waiting or life.reload else (_enter(life, ModelState.UNLOADED), [])


def _gpu_polled(life: Lifecycle, given: GpuPolled, now: float, policy: LifecyclePolicy) -> Outcome:
    return _load(life) if given.lack is None else _wait(life, given.lack, now, policy)


def _time_passed(life: Lifecycle, given: TimePassed, now: float, policy: LifecyclePolicy) -> Outcome:
    due = deadline(life, policy)
    if due is None or now < due:
        return life, []
    if life.state is ModelState.WAITING_FOR_GPU:
        return msgspec.structs.replace(life, retry_at=None), [PollGpu()]
    return _enter(life, ModelState.UNLOADING), [EndEngine()]


Rule = Callable[..., Outcome]

_ANYWHERE: dict[type[Input], Rule] = {
    LoadAsked: _load_asked,
    UnloadAsked: _unload_asked,
    JobArrived: _job_arrived,
    JobLeft: _job_left,
    TimePassed: _time_passed,
    # The answer to PollGpu may arrive when nobody waits any more.
    GpuPolled: _stay,
    # The news of a death may arrive late as well.
    EngineDied: _stay,
}

RULES: dict[ModelState, dict[type[Input], Rule]] = {
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
    # A load that ends while EndEngine is under way changes nothing: EngineEnded follows.
    ModelState.UNLOADING: _ANYWHERE
    | {EngineEnded: _engine_ended, LoadSucceeded: _stay, LoadFailed: _stay, OutOfMemory: _stay},
    ModelState.ERROR: _ANYWHERE,
}
