"""Where one run of a job has spent its time, for the job's record. Pure."""

import msgspec

from gpu_worker.audio.plan import Plan
from gpu_worker.engine.protocol import Finished
from schemas.jobs import JobRequest, Timings


class Waits(msgspec.Struct, kw_only=True):
    """Seconds that a job has spent waiting."""

    queue: float
    """For a worker to take it."""
    model: float = 0.0
    """For the model to be loaded."""
    turn: float = 0.0
    """For the engine to be ready and free, loading included."""


def timings(
    request: JobRequest, waits: Waits, plan: Plan, calls: list[Finished], publish_secs: float
) -> Timings:
    """Return the timings of a job. `calls` has the last reply of the engine for each stretch that this run has transcribed."""
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
    return Timings(
        upload=request.upload_secs,
        windows=sum(call.windows for call in calls),
        generated=sum(call.generated for call in calls),
        fallbacks=sum(call.fallbacks for call in calls),
        **{name: round(value, 4) for name, value in secs.items()},
    )
