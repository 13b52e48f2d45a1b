"""The state of the model's state machine (gpu_worker/model/lifecycle.py): what is kept between two inputs. Pure."""

import msgspec

from schemas.model import ModelState


class LifecyclePolicy(msgspec.Struct, kw_only=True, frozen=True):
    """The settings that the state machine needs, in seconds."""

    idle_timeout_secs: float
    """The model is unloaded after this time without a job; 0 means never."""
    gpu_poll_interval_secs: float


class Lifecycle(msgspec.Struct, kw_only=True, frozen=True):
    """Where the model is in its life. All times are on the clock that `step` is given, in seconds."""

    state: ModelState = ModelState.UNLOADED
    waiting: frozenset[str] = frozenset()
    """Ids of the jobs that want the model."""
    running: str | None = None
    """Id of the job that uses the engine."""
    reason: str | None = None
    """Why the model is in `error`, or what it waits for."""
    retry_at: float | None = None
    """When the GPU is looked at again. Set in `waiting_for_gpu` only."""
    idle_since: float | None = None
    """Since when the model is ready and no job wants it."""
    reload: bool = False
    """A load was asked for during an unload, so it follows at once."""
    deaths: int = 0
    """How many engines have died since a job last ran."""


class IllegalInput(Exception):
    """The input cannot happen in this state: a mistake of the caller."""


class JobInTheWay(Exception):
    """Unloading is refused, because a job uses the model or waits for it."""
