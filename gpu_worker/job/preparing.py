"""Everything that is done to a job before it needs the GPU: fetch, decode, find speech, plan."""

import asyncio
import itertools
import threading
import time
from pathlib import Path

from broker.errors import ObjectCorrupt, ObjectMissing
from broker.object_store import ObjectStore
from broker.patience import patiently
from gpu_worker.audio import decoding as audio
from gpu_worker.audio import vad
from gpu_worker.audio.plan import Plan
from gpu_worker.audio.stretches import Stretch
from gpu_worker.audio.stretches import plan as plan_stretches
from gpu_worker.settings import WorkerSettings
from schemas.errors import ErrorCode, JobError
from schemas.jobs import JobRequest


async def prepare(
    objects: ObjectStore, settings: WorkerSettings, job_id: str, request: JobRequest, folder: Path
) -> Plan | JobError:
    """Fetch the job's audio into `folder`, decode it there and plan it. Returns a JobError where the audio is at fault.

    Raises MachineTrouble or OSError where this machine is at fault. While nats-server is away, the fetch waits.
    """
    source, pcm = folder / "audio", folder / "pcm"
    times = [time.monotonic()]
    try:
        await patiently(
            f"job {job_id}: fetching", lambda: objects.get_to_file(request.audio or job_id, source)
        )
        times.append(time.monotonic())
        samples = await audio.decode(
            source, pcm, timeout_secs=settings.decode_timeout_secs, max_secs=settings.max_audio_secs
        )
    except ObjectMissing as error:
        return JobError(code=ErrorCode.AUDIO_MISSING, message=f"The audio is not in the bucket: {error}.")
    except ObjectCorrupt as error:
        return JobError(code=ErrorCode.AUDIO_CORRUPT, message=f"The stored audio is damaged: {error}.")
    except audio.DecodeError as error:
        return error.error
    finally:
        source.unlink(missing_ok=True)
    times.append(time.monotonic())
    stretches = await find_stretches(pcm, samples, settings, request.options.vad)
    times.append(time.monotonic())
    fetch, decode, plan = (after - before for before, after in itertools.pairwise(times))
    return Plan(
        pcm=pcm, samples=samples, stretches=stretches, fetch_secs=fetch, decode_secs=decode, plan_secs=plan
    )


async def find_stretches(pcm: Path, samples: int, settings: WorkerSettings, use_vad: bool) -> list[Stretch]:
    """Return the pieces of the decoded audio that the engine gets. Can be cancelled at any time."""
    unwanted = threading.Event()
    try:
        return await asyncio.to_thread(_look_and_plan, pcm, samples, settings, use_vad, unwanted)
    finally:
        # A thread does not end with the task that waits for it.
        unwanted.set()


def _look_and_plan(
    pcm: Path, samples: int, settings: WorkerSettings, use_vad: bool, unwanted: threading.Event
) -> list[Stretch]:
    """Read the whole file once, block by block. Blocking."""
    with pcm.open("rb") as file:
        blocks = itertools.takewhile(lambda _: not unwanted.is_set(), vad.blocks(file))
        activity = vad.speech_probabilities(blocks) if use_vad else vad.loudness(blocks)
    return plan_stretches(activity, samples, settings.plan(), skip=use_vad)
