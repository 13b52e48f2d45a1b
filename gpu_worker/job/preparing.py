"""Everything that is done to a job before it needs the GPU: fetch, decode, find speech, plan."""

import asyncio
import itertools
import re
import threading
import time
from pathlib import Path

from broker.errors import ObjectCorrupt, ObjectMissing
from broker.object_store import ObjectStore
from broker.patience import patiently
from gpu_worker.audio import decoding as audio
from gpu_worker.audio import vad
from gpu_worker.audio.decoding import Decoded
from gpu_worker.audio.plan import Piece, Plan, Portion
from gpu_worker.audio.stretches import PlanSettings, Span, plan_channels
from gpu_worker.audio.voice import Voice
from gpu_worker.pcm import SAMPLE_RATE
from gpu_worker.settings import WorkerSettings
from schemas.errors import ErrorCode, JobError
from schemas.jobs import JobRequest
from schemas.options import TranscribeOptions


async def prepare(
    objects: ObjectStore, settings: WorkerSettings, job_id: str, request: JobRequest, folder: Path
) -> Plan | JobError:
    """Fetch the job's audio into `folder`, decode it there and plan it. Returns a JobError where the audio is at fault.

    Raises MachineTrouble or OSError where this machine is at fault. While nats-server is away, the fetch waits.
    """
    source = folder / f"audio{ending(request.filename)}"
    times = [time.monotonic()]
    try:
        await patiently(
            f"job {job_id}: fetching", lambda: objects.get_to_file(request.audio or job_id, source)
        )
        times.append(time.monotonic())
        limits, command = settings.decode_limits(), settings.decoder()
        decoded = await audio.decode(source, folder, request.options, limits, command)
    except ObjectMissing as error:
        return JobError(code=ErrorCode.AUDIO_MISSING, message=f"The audio is not in the bucket: {error}.")
    except ObjectCorrupt as error:
        return JobError(code=ErrorCode.AUDIO_CORRUPT, message=f"The stored audio is damaged: {error}.")
    except audio.DecodeError as error:
        return error.error
    finally:
        source.unlink(missing_ok=True)
    times.append(time.monotonic())
    part = part_of(decoded.samples, request.options)
    if part[0] >= part[1]:
        message = (
            f"The recording ends after {decoded.samples / SAMPLE_RATE:.1f} seconds, before `offset_secs`."
        )
        return JobError(code=ErrorCode.INVALID_OPTION, message=message)
    portions = await find_portions(decoded, settings.plan(), part, use_vad=request.options.vad)
    times.append(time.monotonic())
    fetch, decode, plan = (after - before for before, after in itertools.pairwise(times))
    return Plan(
        portions=portions,
        samples=decoded.samples,
        findings=decoded.findings,
        fetch_secs=fetch,
        decode_secs=decode,
        plan_secs=plan,
    )


def ending(filename: str | None) -> str:
    """Return what the user's file name ends with, such as `.mp3`; nothing where that is no plain word."""
    found = re.search(r"\.[A-Za-z0-9]{1,8}\Z", filename or "")
    return found[0] if found else ""


def part_of(samples: int, options: TranscribeOptions) -> Span:
    """Return which samples of a file are to be transcribed. Where the file ends before that, the part ends before it begins."""
    first = round(options.offset_secs * SAMPLE_RATE)
    last = samples if options.duration_secs is None else first + round(options.duration_secs * SAMPLE_RATE)
    return first, min(last, samples)


async def find_portions(
    decoded: Decoded, settings: PlanSettings, part: Span, *, use_vad: bool
) -> list[Portion]:
    """Return the portions of the decoded audio that the engine gets. Can be cancelled at any time."""
    unwanted = threading.Event()
    try:
        return await asyncio.to_thread(_look_and_plan, decoded, settings, part, use_vad, unwanted)
    finally:
        # A thread does not end with the task that waits for it.
        unwanted.set()


def _look_and_plan(
    decoded: Decoded, settings: PlanSettings, part: Span, use_vad: bool, unwanted: threading.Event
) -> list[Portion]:
    """Read each file once, block by block. Blocking."""
    activities = []
    for pcm in decoded.files:
        with pcm.open("rb") as file:
            blocks = itertools.takewhile(lambda _: not unwanted.is_set(), vad.blocks(file))
            activities.append(vad.speech_probabilities(blocks))
    if unwanted.is_set():
        return []
    voices = [Voice(activity, settings) for activity in activities]
    planned = plan_channels(activities, part, settings, skip=use_vad)
    numbered = len(decoded.files) > 1
    return [
        [
            Piece(pcm=pcm, stretch=stretch, voice=voice, channel=number if numbered else None)
            for number, (pcm, voice, stretch) in enumerate(
                zip(decoded.files, voices, portion, strict=True), 1
            )
            if stretch
        ]
        for portion in planned
    ]
