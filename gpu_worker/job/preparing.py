"""Everything that is done to a job before the GPU: fetch, decode, find speech, plan."""

import asyncio
import itertools
import threading
import time
from pathlib import Path

import msgspec

from broker.errors import ObjectCorrupt, ObjectMissing
from broker.object_store import ObjectStore
from broker.patience import patiently
from gpu_worker.audio import decoding as audio
from gpu_worker.audio import vad
from gpu_worker.audio.stretches import Stretch
from gpu_worker.audio.stretches import plan as plan_stretches
from gpu_worker.pcm import SAMPLE_RATE
from gpu_worker.settings import WorkerSettings
from schemas.errors import ErrorCode, JobError
from schemas.jobs import JobRequest


class Plan(msgspec.Struct, kw_only=True, frozen=True):
    """A job that is ready for the engine."""

    pcm: Path
    samples: int
    stretches: list[Stretch]
    fetch_secs: float
    decode_secs: float
    plan_secs: float

    @property
    def duration_secs(self) -> float:
        return round(self.samples / SAMPLE_RATE, 3)

    def is_spooled(self) -> bool:
        """All of the decoded audio is where it was written."""
        try:
            return self.pcm.stat().st_size >= self.samples * audio.SAMPLE_BYTES
        except OSError:
            return False


async def prepare(
    store: ObjectStore, settings: WorkerSettings, job_id: str, request: JobRequest, folder: Path
) -> Plan | JobError:
    """Fetch, decode and plan into `folder`. What is the file's fault comes back as a JobError.

    Raises MachineTrouble or OSError where it is this machine's; the broker's is waited for.
    """
    source, pcm = folder / "audio", folder / "pcm"
    times = [time.monotonic()]
    try:
        await patiently(f"job {job_id}: fetching", lambda: store.get_to_file(request.audio or job_id, source))
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
    """What of the decoded audio goes to the engine, in pieces. Can be cancelled at any time."""
    unwanted = threading.Event()
    try:
        return await asyncio.to_thread(_look_and_plan, pcm, samples, settings, use_vad, unwanted)
    finally:
        unwanted.set()  # a thread does not end with the task that waits for it


def _look_and_plan(
    pcm: Path, samples: int, settings: WorkerSettings, use_vad: bool, unwanted: threading.Event
) -> list[Stretch]:
    """Blocking: the whole file is looked at once, block by block."""
    with pcm.open("rb") as file:
        blocks = itertools.takewhile(lambda _: not unwanted.is_set(), vad.blocks(file))
        activity = vad.speech_probabilities(blocks) if use_vad else vad.loudness(blocks)
    return plan_stretches(activity, samples, settings.plan(), skip=use_vad)
