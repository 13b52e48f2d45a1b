"""Where one run of a job has spent its time, put together for its record."""

import msgspec

from gpu_worker.engine.protocol import Finished
from gpu_worker.job.preparing import Plan
from schemas.jobs import JobRequest, Timings


class Waits(msgspec.Struct, kw_only=True):
    """What a job has waited for, in seconds."""

    queue: float
    """A worker."""
    model: float = 0.0
    """The model to be loaded."""
    turn: float = 0.0
    """The engine, the time for the model included."""


def timings(
    request: JobRequest, waits: Waits, plan: Plan, calls: list[Finished], publish_secs: float
) -> Timings:
    """`calls` is what the engine has told of each stretch."""
    secs = {
        "queue": waits.queue,
        "fetch": plan.fetch_secs,
        "decode": plan.decode_secs,
        "plan": plan.plan_secs,
        "load": waits.model,
        "wait": max(0.0, waits.turn - waits.model),
        "engine": sum(call.engine_secs for call in calls),
        "mel": sum(call.mel_secs for call in calls),
        "encode": sum(call.encode_secs for call in calls),
        "tokens": sum(call.tokens_secs for call in calls),
        "publish": publish_secs,
    }
    return Timings(upload=request.upload_secs, **{name: round(value, 4) for name, value in secs.items()})
